"""Certificates of another authority, made by openssl, in place of Sparekey's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from sparekey.cli.main import main
from sparekey.testing.fleet.processes import Program, ProgramFailed, start_server
from sparekey.v1 import enrollment_pb2, enrollment_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from sparekey.wire.errors import CallProblem, read_problem

from .agent_program import SECONDS, is_connected, start_agent, until
from .secure_site import write_vendor_keys


class Pki:
    """An authority kept with openssl alone."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.root = folder / "root.pem"
        folder.mkdir()
        key = self._key("root")
        subject = ["-subj", f"/CN={name}", "-days", "3650"]
        _openssl("req", "-x509", "-new", "-key", str(key), *subject, "-out", str(self.root))

    def issue(self, name: str, san: str) -> tuple[Path, Path]:
        """A certificate with alternative names, and its private key."""
        key, request = self._key(name), self.folder / f"{name}.csr"
        certificate, extensions = self.folder / f"{name}.crt", self.folder / f"{name}.ext"
        usage = "extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n"
        extensions.write_text(f"subjectAltName={san}\n{usage}")
        _openssl("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
        authority = ["-CA", str(self.root), "-CAkey", str(self.folder / "root.key")]
        words = ["-in", str(request), *authority, "-CAcreateserial", "-days", "30"]
        _openssl("x509", "-req", *words, "-extfile", str(extensions), "-out", str(certificate))
        return certificate, key

    def issue_joined(self, name: str, san: str) -> Path:
        """A certificate with its private key in one file."""
        certificate, key = self.issue(name, san)
        joined = self.folder / f"{name}.pem"
        joined.write_bytes(certificate.read_bytes() + key.read_bytes())
        joined.chmod(0o600)
        return joined

    def _key(self, name: str) -> Path:
        path = self.folder / f"{name}.key"
        kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        _openssl("genpkey", *kind, "-out", str(path))
        path.chmod(0o600)
        return path


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr.decode()


@dataclass
class Site:
    """A server with certificates of an existing PKI."""

    pki: Pki
    other: Pki
    vendor_keys: Path
    program: Program

    def channel(self, joined: Path) -> grpc.Channel:
        shown = joined.read_bytes()
        credentials = grpc.ssl_channel_credentials(self.pki.root.read_bytes(), shown, shown)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(str(self.program.address), credentials, options=options)

    def fleet(self, joined: Path) -> Any:
        return fleet_pb2_grpc.FleetServiceStub(self.channel(joined))

    def refused(self, joined: Path) -> CallProblem:
        with pytest.raises(grpc.RpcError) as refused:
            self.fleet(joined).ListSvms(fleet_pb2.ListSvmsRequest(), timeout=SECONDS)
        return read_problem(refused.value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pki")
    pki, other = Pki(folder / "ours", "Existing PKI"), Pki(folder / "theirs", "Another PKI")
    certificate, key = pki.issue("server", "DNS:localhost,IP:127.0.0.1")
    vendor_keys = write_vendor_keys(folder / "vendor-keys.json")
    program = start_server(
        *(folder / "server", vendor_keys, "--certificate", str(certificate)),
        *("--private-key", str(key), "--client-ca", str(pki.root)),
    )
    try:
        yield Site(pki, other, vendor_keys, program)
    finally:
        program.stop()


@pytest.fixture(scope="module")
def admin(site: Site) -> Path:
    return site.pki.issue_joined("alice", "URI:sparekey://operator/admin/alice")


def test_an_agent_connects_as_the_svm_of_its_certificate(
    site: Site, admin: Path, tmp_path: Path
) -> None:
    shown = site.pki.issue_joined("svm-1", "URI:sparekey://svm/svm-1")
    options = ["--ca-file", str(site.pki.root), "--certificate", str(shown)]
    agent = start_agent(tmp_path / "svm", site.program.address, site.vendor_keys, *options)
    try:
        until(lambda: is_connected(site.fleet(admin)))
    finally:
        assert agent.stop() == 0
    foreign = site.pki.issue_joined("svm-2", "URI:sparekey://svm/svm-2")
    options[-1] = str(foreign)
    with pytest.raises(ProgramFailed, match="not for the SVM svm-1"):
        start_agent(tmp_path / "svm", site.program.address, site.vendor_keys, *options)


def test_operators_have_the_role_of_their_certificate(
    site: Site, admin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--server", str(site.program.address), "--ca-file", str(site.pki.root)]
    viewer = site.pki.issue_joined("bob", "URI:sparekey://operator/viewer/bob")
    assert main([*words, "--certificate", str(admin), "token", "list"]) == 0
    assert main([*words, "--certificate", str(viewer), "svms", "list"]) == 0
    assert main([*words, "--certificate", str(viewer), "token", "list"]) == 1
    assert "PERMISSION_DENIED" in capsys.readouterr().err


@pytest.mark.parametrize("san", ["DNS:svm-1", "URI:sparekey://svm/", "URI:spiffe://svm/svm-1"])
def test_a_certificate_that_names_nobody_is_nobodys(site: Site, san: str) -> None:
    assert site.refused(site.pki.issue_joined("nobody", san)).reason == "UNAUTHENTICATED"


def test_another_authority_gets_no_connection(site: Site, tmp_path: Path) -> None:
    for name, san in (("eve", "operator/admin/eve"), ("svm-1", "svm/svm-1")):
        joined = site.other.issue_joined(name, f"URI:sparekey://{san}")
        problem = site.refused(joined)
        assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "")


def test_such_a_server_issues_no_certificates(site: Site) -> None:
    shown = site.pki.issue_joined("svm-r", "URI:sparekey://svm/svm-r")
    stub: Any = enrollment_pb2_grpc.EnrollmentServiceStub(site.channel(shown))
    request = enrollment_pb2.RenewCertificateRequest(csr=b"csr")
    with pytest.raises(grpc.RpcError) as refused:
        stub.RenewCertificate(request, timeout=SECONDS)
    assert read_problem(refused.value).reason == "NOT_OFFERED"


def test_files_that_do_not_belong_together_are_refused(site: Site, tmp_path: Path) -> None:
    certificate, _ = site.pki.issue("server-2", "DNS:localhost")
    _, key = site.pki.issue("server-3", "DNS:localhost")
    options = ["--certificate", str(certificate), "--private-key", str(key)]
    with pytest.raises(ProgramFailed, match="belong together"):
        start_server(tmp_path / "a", site.vendor_keys, *options)
    options += ["--client-ca", str(site.pki.root)]
    with pytest.raises(ProgramFailed, match="for another private key"):
        start_server(tmp_path / "b", site.vendor_keys, *options)
