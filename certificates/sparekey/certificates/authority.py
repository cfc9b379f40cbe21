"""The authority: a root that everyone trusts, and the issuing certificate below it that signs.

Callers trust the root alone and send the issuing certificate along with their own. So the
issuing one can be replaced at any time: what it signed before stays valid until it ends.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sparekey.certificates.identity import Identity
from sparekey.certificates.keys import key_pem, new_key, read_key
from sparekey.certificates.private_files import read_private, read_public, write_file
from sparekey.runtime.startup import StartupRefused, writable_folder

ROOT = "root.pem"
"""The root's certificate; no secret: agents and operators need a copy."""
ROOT_KEY = "root-key.pem"
"""The root's private key; needed for rotation only, so it may be kept elsewhere."""
ISSUING = "issuing.pem"
"""The issuing certificate and its private key, in one file so that both change in one step."""

ROOT_LIFETIME = timedelta(days=3653)
ISSUING_LIFETIME = timedelta(days=366)
SERVER_LIFETIME = timedelta(days=7)
SKEW = timedelta(minutes=5)
"""A certificate begins so much before it is issued, for clocks that go behind."""

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was issued.

    Attributes:
        chain: In PEM, the certificate and then the issuing one.
        serial: Its serial number as upper-case hexadecimal digits.
        issued_at: When.
        expires_at: When it ends.
    """

    chain: bytes
    serial: str
    issued_at: datetime
    expires_at: datetime

    @property
    def renew_after(self) -> datetime:
        """Half of its life."""
        return self.issued_at + (self.expires_at - self.issued_at) / 2


class Authority:
    """An authority in a folder; follows a rotation there by itself."""

    def __init__(self, folder: Path) -> None:
        """Open an authority.

        Raises:
            StartupRefused: the folder holds none, or others may read its private keys.
        """
        self.folder = folder
        if not (folder / ROOT).exists() or not (folder / ISSUING).exists():
            raise StartupRefused(
                f"{folder} holds no certificate authority; make one with: sparekey ca init"
                f" --folder {folder}"
            )
        self.root = read_public(folder / ROOT)
        if (folder / ROOT_KEY).exists():
            read_private(folder / ROOT_KEY)
        self._changed_at = 0
        self._certificate: x509.Certificate
        self._key: ec.EllipticCurvePrivateKey
        self._load()

    @property
    def issuing(self) -> x509.Certificate:
        """The present issuing certificate."""
        self._follow_rotation()
        return self._certificate

    def issue(
        self, key: ec.EllipticCurvePublicKey, identity: Identity, lifetime: timedelta, now: datetime
    ) -> Issued:
        """Issue a certificate for an SVM's agent or an operator.

        It ends no later than the issuing certificate.
        """
        name = x509.UniformResourceIdentifier(identity.uri)
        return self._sign(key, [name], ExtendedKeyUsageOID.CLIENT_AUTH, lifetime, now)

    def issue_for_server(
        self, key: ec.EllipticCurvePublicKey, hosts: Iterable[str], now: datetime
    ) -> Issued:
        """Issue a server's certificate for the names and addresses by which it is reached."""
        names = [_host_name(host) for host in dict.fromkeys(hosts)]
        return self._sign(key, names, ExtendedKeyUsageOID.SERVER_AUTH, SERVER_LIFETIME, now)

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        lifetime: timedelta,
        now: datetime,
    ) -> Issued:
        self._follow_rotation()
        issuer = self._certificate
        now = now.replace(microsecond=0)
        expires_at = min(now + lifetime, issuer.not_valid_after_utc)
        serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(now - SKEW)
            .not_valid_after(expires_at)
            # Critical, since the subject is empty: the identity is here and nowhere else.
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_key_of(issuer), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        chain = certificate.public_bytes(_PEM) + issuer.public_bytes(_PEM)
        return Issued(chain, serial_text(serial), now, expires_at)

    def _follow_rotation(self) -> None:
        with contextlib.suppress(OSError):
            if (self.folder / ISSUING).stat().st_mtime_ns != self._changed_at:
                self._load()

    def _load(self) -> None:
        path = self.folder / ISSUING
        content = read_private(path)
        try:
            self._certificate = x509.load_pem_x509_certificate(content)
            self._key = read_key(content)
        except ValueError as error:
            raise StartupRefused(
                f"{path} cannot be used ({error}); make it anew with: sparekey ca rotate"
                f" --folder {self.folder}"
            ) from None
        self._changed_at = path.stat().st_mtime_ns


def serial_text(serial: int) -> str:
    """A certificate's serial number as it is shown and stored."""
    return f"{serial:X}"


def create_authority(folder: Path, name: str, now: datetime) -> Authority:
    """Make a new authority in a folder.

    Args:
        folder: Where; it is made if it is missing.
        name: What people see, for example the installation's name.
        now: The present instant.

    Raises:
        StartupRefused: the folder holds one already, or cannot be written.
    """
    writable_folder(folder)
    if (folder / ROOT).exists() or (folder / ROOT_KEY).exists():
        raise StartupRefused(
            f"{folder} holds a certificate authority already; to replace its issuing certificate"
            f" run: sparekey ca rotate --folder {folder}"
        )
    key = new_key()
    subject = _name(f"{name} root")
    root = _authority_certificate(subject, key.public_key(), subject, key, ROOT_LIFETIME, now, 1)
    write_file(folder / ROOT_KEY, key_pem(key))
    _write_issuing(folder, name, root, key, now)
    write_file(folder / ROOT, root.public_bytes(_PEM), mode=0o644)
    return Authority(folder)


def rotate_issuing(folder: Path, now: datetime) -> Authority:
    """Replace the issuing certificate; what the old one signed stays valid until it ends.

    Raises:
        StartupRefused: the folder holds no authority, or not the root's private key.
    """
    Authority(folder)
    if not (folder / ROOT_KEY).exists():
        raise StartupRefused(
            f"{folder / ROOT_KEY} is missing; put the root's private key there for the rotation"
        )
    try:
        key = read_key(read_private(folder / ROOT_KEY))
    except ValueError as error:
        raise StartupRefused(f"{folder / ROOT_KEY} cannot be used ({error})") from None
    root = x509.load_pem_x509_certificate(read_public(folder / ROOT))
    common = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(common[0].value).removesuffix(" root") if common else "Sparekey"
    _write_issuing(folder, name, root, key, now)
    return Authority(folder)


def _write_issuing(
    folder: Path,
    name: str,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> None:
    key = new_key()
    certificate = _authority_certificate(
        # The instant tells the issuing certificates of one root apart.
        _name(f"{name} issuing {now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"),
        key.public_key(),
        root.subject,
        root_key,
        ISSUING_LIFETIME,
        now,
        0,
        issuer=root,
    )
    write_file(folder / ISSUING, certificate.public_bytes(_PEM) + key_pem(key))


def _authority_certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_name: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    lifetime: timedelta,
    now: datetime,
    path_length: int,
    issuer: x509.Certificate | None = None,
) -> x509.Certificate:
    ends = now + lifetime
    if issuer is not None:
        ends = min(ends, issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(_key_of(issuer), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
