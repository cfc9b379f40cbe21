"""What openssl says of the server, of its certificates, and with one that was revoked."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sparekey.certificates.authority import rotate_issuing
from sparekey.v1 import access_pb2

from .secure_site import SECONDS, SecureSite, Shown

_RENEW = "/sparekey.v1.EnrollmentService/RenewCertificate"


@contextmanager
def running_openssl(*words: str | Path, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    """openssl with pipes to its input and output, up to the end of the block."""
    with subprocess.Popen(
        ["openssl", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def openssl(*words: str | Path) -> str:
    """All that openssl prints."""
    with running_openssl(*words, stderr=subprocess.STDOUT) as running:
        return running.communicate(timeout=20)[0].decode(errors="replace")


@pytest.mark.parametrize(("version", "speaks"), [("-tls1_2", False), ("-tls1_3", True)])
def test_openssl_finds_tls_1_3_only(site: SecureSite, version: str, speaks: bool) -> None:
    root = site.folder / "ca" / "root.pem"
    for address in (site.main, site.second):
        said = openssl(
            "s_client", "-connect", str(address), version, "-alpn", "h2", "-CAfile", root
        )
        assert ("New, TLSv1.3, Cipher is TLS_" in said) == speaks, said
        assert ("Cipher is (NONE)" in said) != speaks, said


def test_openssl_verifies_what_was_issued(site: SecureSite, tmp_path: Path) -> None:
    root, leaf = site.folder / "ca" / "root.pem", tmp_path / "leaf.pem"
    old = site.agent("svm-openssl")
    rotate_issuing(site.folder / "ca", datetime.now(UTC))
    new = site.agent("svm-openssl")
    for shown in (old, new):
        assert shown.identity is not None
        leaf.write_bytes(shown.identity)
        words = ("verify", "-purpose", "sslclient", "-CAfile", root, "-untrusted", leaf)
        assert openssl(*words, leaf).strip() == f"{leaf}: OK"
        text = openssl("x509", "-in", leaf, "-noout", "-text")
        assert "URI:sparekey://svm/svm-openssl" in text
        assert "TLS Web Client Authentication" in text
        assert "CA:FALSE" in text
    other = site.agent("svm-openssl", authority=site.other)
    assert other.identity is not None
    leaf.write_bytes(other.identity)
    assert "OK" not in openssl("verify", "-CAfile", root, "-untrusted", leaf, leaf)


def test_openssl_is_let_in_until_its_certificate_is_revoked(
    site: SecureSite, tmp_path: Path
) -> None:
    shown = site.agent("svm-openssl-revoked")
    assert shown.serial
    # Let in, it is told what is wrong with an empty request.
    assert b"csr is required" in ask_by_openssl(site, shown, tmp_path)
    revoke = access_pb2.RevokeCertificateRequest(certificate_serial=shown.serial)
    site.access.RevokeCertificate(revoke, timeout=SECONDS)
    answer = ask_by_openssl(site, shown, tmp_path)
    assert b"csr is required" not in answer
    assert b"revoked" in answer, answer


def ask_by_openssl(site: SecureSite, shown: Shown, folder: Path) -> bytes:
    """Send an empty request over a connection of openssl's; what the server answers."""
    assert shown.identity is not None
    identity = folder / "identity.pem"
    identity.write_bytes(shown.identity)
    certificate = ("-cert", identity, "-key", identity, "-cert_chain", identity)
    trust = ("-CAfile", site.folder / "ca" / "root.pem", "-verify_return_error")
    words = ("s_client", "-quiet", "-alpn", "h2", *certificate, *trust)
    to = ("-connect", str(site.main))
    with running_openssl(*words, *to, stderr=subprocess.DEVNULL) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(_request(_RENEW, str(site.main)))
        return _until_trailers(client.stdout.fileno())


def _request(method: str, host: str) -> bytes:
    """The bytes of HTTP/2 by which an empty message goes to a method."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": method,
        ":authority": host,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    headers = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"")
    return opening + _frame(1, 4, 1, headers) + _frame(0, 1, 1, bytes(5))


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def _until_trailers(source: int) -> bytes:
    """Everything up to the frame of headers that ends the one stream."""
    received = b""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ready, _, _ = select.select([source], [], [], 1)
        if ready:
            received += os.read(source, 65536)
            rest = received
            while len(rest) >= 9 and len(rest) >= 9 + (length := int.from_bytes(rest[:3], "big")):
                if rest[3] == 1 and rest[4] & 1:
                    return received
                rest = rest[9 + length :]
    raise AssertionError(f"no answer within {SECONDS} s; so far {received!r}")
