"""The server's side of TLS 1.3: its certificate, renewed or read anew without a restart."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sparekey.certificates.authority import Authority
from sparekey.certificates.keys import key_pem, new_key, read_key
from sparekey.certificates.private_files import read_private, read_public
from sparekey.runtime.startup import Address, StartupRefused

_log = structlog.get_logger()

_PROBE_SECONDS = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what is bound there


class OwnCertificate:
    """A certificate of the server's own authority, issued anew at half of its life."""

    def __init__(self, authority: Authority, hosts: list[str]) -> None:
        self._authority = authority
        self._hosts = hosts
        self._key = new_key()
        self._issue()

    def current(self) -> grpc.ServerCertificateConfiguration:
        """The certificate to show now."""
        renewed = datetime.now(UTC) >= self._issued.renew_after
        rotated = self._authority.issuing.serial_number != self._issuer
        if renewed or rotated:
            self._issue()
            _log.info("the server's certificate was renewed", serial=self._issued.serial)
        return self._configuration

    def _issue(self) -> None:
        now = datetime.now(UTC)
        self._issued = self._authority.issue_for_server(self._key.public_key(), self._hosts, now)
        self._issuer = self._authority.issuing.serial_number
        self._configuration = grpc.ssl_server_certificate_configuration(
            [(key_pem(self._key), self._issued.chain)], root_certificates=self._authority.root
        )


class GivenCertificate:
    """A certificate from files of an existing PKI, read anew when a file changes.

    Raises:
        StartupRefused: a file cannot be used.
    """

    def __init__(self, certificate: Path, private_key: Path, client_ca: Path) -> None:
        self._paths = (certificate, private_key, client_ca)
        self._changed = self._stamps()
        self._configuration = self._read()

    def current(self) -> grpc.ServerCertificateConfiguration:
        """The certificate to show now; the one before stays where new files cannot be used."""
        try:
            stamps = self._stamps()
            if stamps != self._changed:
                self._changed = stamps
                self._configuration = self._read()
        except StartupRefused as refused:
            _log.error("the new certificate is not used", problem=str(refused))
        return self._configuration

    def _stamps(self) -> list[int]:
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in self._paths]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, private_key, client_ca = self._paths
        chain, key, roots = (
            read_public(certificate),
            read_private(private_key),
            read_public(client_ca),
        )
        try:
            # Its kind is what keeps TLS 1.2 out; see the package's own comment.
            public = read_key(key).public_key()
            _require_same(x509.load_pem_x509_certificate(chain).public_key(), public)
            x509.load_pem_x509_certificates(roots)
        except ValueError as error:
            raise StartupRefused(
                f"{certificate}, {private_key} and {client_ca} cannot be used together ({error});"
                " give PEM files of an ECDSA certificate, its key, and its clients' authority"
            ) from None
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)


def _require_same(certified: object, own: object) -> None:
    if _encoded(certified) != _encoded(own):
        raise ValueError("the certificate is for another private key")


def _encoded(key: object) -> bytes:
    if not hasattr(key, "public_bytes"):
        raise ValueError("there is no public key")
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


Certificate = OwnCertificate | GivenCertificate


def server_credentials(certificate: Certificate, *, ask_client: bool) -> grpc.ServerCredentials:
    """Credentials of one port; each new connection gets the certificate of its time.

    Args:
        certificate: The server's certificate.
        ask_client: Whether a client must show one of its own.
    """
    shown = [certificate.current()]
    lock = threading.Lock()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # gRPC calls this from its own threads, and None means that nothing has changed.
        with lock:
            current = certificate.current()
            if current is shown[0]:
                return None
            shown[0] = current
            return current

    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        shown[0],
        fetch,  # type: ignore[arg-type]  # the stubs know no None
        require_client_authentication=ask_client,
    )
    return credentials


def own_hosts(address: Address, names: list[str]) -> list[str]:
    """The names and addresses by which a server is reached."""
    hosts = [*names, "localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()]
    if address.host not in _EVERYWHERE:
        hosts.append(address.host)
    return [host for host in hosts if host and host.isascii()]


async def refuse_older_tls(address: Address) -> None:
    """Try to speak TLS 1.2 to the server itself.

    Raises:
        StartupRefused: it answers.
    """
    if await asyncio.to_thread(_speaks_older_tls, address):
        raise StartupRefused(
            "the server would speak TLS 1.2 too, since gRPC was loaded before Sparekey could keep"
            " it from that; start it by its own program sparekey-server"
        )


def _speaks_older_tls(address: Address) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host = _EVERYWHERE.get(address.host, address.host)
    try:
        with (
            socket.create_connection((host, address.port), _PROBE_SECONDS) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False
