"""`sparekey-agent` by its own flags: it enrolls, renews by itself, and starts again as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from sparekey.testing.fleet.processes import ProgramFailed
from sparekey.v1 import access_pb2

from .agent_program import is_connected, start_agent, until
from .secure_site import SECONDS, SecureSite, start_site

LIFETIME = 30
"""Seconds; starting the program again must take less than half of it."""


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureSite]:
    """A site whose certificates for agents last half a minute."""
    folder = tmp_path_factory.mktemp("brief")
    site = start_site(folder, "--certificate-lifetime", str(LIFETIME))
    try:
        yield site
    finally:
        for channel in site.channels:
            channel.close()
        site.program.stop()


def issued(site: SecureSite) -> list[str]:
    """Serials of the SVM's certificates, newest first."""
    request = access_pb2.ListCertificatesRequest(svm_id="svm-1")
    listed = site.access.ListCertificates(request, timeout=SECONDS).certificates
    return [one.certificate_serial for one in listed]


def test_it_enrolls_renews_by_itself_and_starts_again_with_what_it_has(
    brief: SecureSite, tmp_path: Path
) -> None:
    vendor_keys = brief.folder / "vendor-keys.json"
    token = tmp_path / "svm-1.token"
    token.write_text(brief.join_token("svm-1"))
    token.chmod(0o600)
    enrolling = ["--join-token-file", str(token), "--enroll-at", str(brief.second)]
    root = ["--ca-file", str(brief.folder / "ca" / "root.pem")]
    agent = start_agent(tmp_path / "svm", brief.main, vendor_keys, *root, *enrolling)
    identity = tmp_path / "svm" / "state" / "identity.pem"
    try:
        until(lambda: is_connected(brief.fleet))
        assert identity.stat().st_mode & 0o777 == 0o600
        first = x509.load_pem_x509_certificate(identity.read_bytes())
        until(lambda: len(issued(brief)) >= 2)
        until(lambda: f"{first.serial_number:X}" not in issued(brief)[0])
        # At half of its life, before the first one ended.
        second = x509.load_pem_x509_certificate(identity.read_bytes())
        assert second.not_valid_before_utc < first.not_valid_after_utc
        until(lambda: is_connected(brief.fleet))
    finally:
        assert agent.stop() == 0
    # Without the token, which is spent, and with the authority that it has pinned.
    token.unlink()
    before = issued(brief)
    again = start_agent(tmp_path / "svm", brief.main, vendor_keys)
    try:
        until(lambda: is_connected(brief.fleet))
    finally:
        assert again.stop() == 0
    log = (tmp_path / "svm" / "agent.log").read_text()
    assert len(re.findall(r"enrolled", log)) == 1
    assert set(before) <= set(issued(brief))


def test_without_token_and_certificate_it_does_not_start(brief: SecureSite, tmp_path: Path) -> None:
    root = ["--ca-file", str(brief.folder / "ca" / "root.pem")]
    vendor_keys = brief.folder / "vendor-keys.json"
    with pytest.raises(ProgramFailed, match="sparekey join-token create"):
        start_agent(tmp_path / "svm", brief.main, vendor_keys, *root)
