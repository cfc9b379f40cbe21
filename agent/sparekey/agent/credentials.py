"""Who the agent is to the server: its private key and certificate, kept in the state folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sparekey.agent.channels import open_encrypted_channel
from sparekey.agent.durable_file import replace_durably
from sparekey.certificates.authority import SKEW
from sparekey.certificates.identity import SvmIdentity, parse_identity
from sparekey.certificates.keys import key_pem, read_key
from sparekey.certificates.private_files import read_private, read_public
from sparekey.runtime.startup import Address, StartupRefused

IDENTITY_NAME = "identity.pem"
"""The certificates and the private key, in one file so that both change in one step."""
ROOT_NAME = "server-ca.pem"


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate with its private key.

    Attributes:
        pem: The certificates and the key.
        key: The key.
        renew_after: Half of its life.
        expires_at: When it ends.
    """

    pem: bytes
    key: ec.EllipticCurvePrivateKey
    renew_after: datetime
    expires_at: datetime


class Credentials:
    """What the agent shows and whom it trusts; channels take the newest.

    Args:
        folder: The state folder.
        svm_id: The SVM; a certificate for another is refused.
        ca_file: By whom to know the server, in PEM; needed at the first start, which pins it.
        certificate: A file of another PKI with certificate and key in PEM, in place of the
            state folder's own; the agent then renews nothing.

    Raises:
        StartupRefused: a file cannot be used, or is missing.
    """

    def __init__(
        self, folder: Path, svm_id: str, ca_file: Path | None, certificate: Path | None = None
    ) -> None:
        self.svm_id = svm_id
        self.renews = certificate is None
        self._path = certificate or folder / IDENTITY_NAME
        self.root = _settle_root(folder / ROOT_NAME, ca_file)
        self.certified: Certified | None = None
        if self._path.exists() or certificate is not None:
            self.certified = self._read()

    def open_channel(self, server: Address) -> grpc.aio.Channel:
        """A channel that shows the certificate."""
        if not self.renews:
            # Its PKI replaces the file; one that cannot be used must not end a running agent.
            with contextlib.suppress(StartupRefused):
                self.certified = self._read()
        shown = None if self.certified is None else self.certified.pem
        return open_encrypted_channel(server, self.root, shown)

    def take(self, key: ec.EllipticCurvePrivateKey, chain: bytes) -> None:
        """Keep a new certificate, on disk before it is used.

        Raises:
            ValueError: it is not for this SVM and this key.
            OSError: it could not be written; the one before is still in force.
        """
        certified = _certified(chain + key_pem(key), self.svm_id)
        replace_durably(self._path, certified.pem)
        self.certified = certified

    def _read(self) -> Certified:
        try:
            return _certified(read_private(self._path), self.svm_id)
        except ValueError as error:
            raise StartupRefused(
                f"{self._path} cannot be used ({error}); remove it and enroll anew with"
                " --join-token-file"
            ) from None


def _certified(pem: bytes, svm_id: str) -> Certified:
    certificate = x509.load_pem_x509_certificate(pem)
    key = read_key(pem)
    if certificate.public_key() != key.public_key():
        raise ValueError("the certificate is for another private key")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("the certificate names no SVM") from None
    identity = parse_identity(names.get_values_for_type(x509.UniformResourceIdentifier))
    if identity != SvmIdentity(svm_id):
        raise ValueError(f"the certificate is not for the SVM {svm_id}")
    begins, ends = certificate.not_valid_before_utc + SKEW, certificate.not_valid_after_utc
    return Certified(pem, key, begins + (ends - begins) / 2, ends)


def _settle_root(pinned: Path, given: Path | None) -> bytes:
    """The authority by which the server is known: the one pinned at the first start."""
    if given is None:
        if not pinned.exists():
            raise StartupRefused(
                "the first start needs the server's authority; name the file root.pem of"
                " `sparekey ca init` with --ca-file"
            )
        return read_public(pinned)
    root = read_public(given)
    try:
        x509.load_pem_x509_certificates(root)
    except ValueError:
        raise StartupRefused(
            f"{given} holds no certificate in PEM; choose the file root.pem"
        ) from None
    if pinned.exists() and read_public(pinned) != root:
        raise StartupRefused(
            f"{given} differs from the authority pinned in {pinned}; remove that file if the new"
            " one is to be trusted instead"
        )
    if not pinned.exists():
        replace_durably(pinned, root)
    return root


def is_over(certified: Certified, now: datetime | None = None) -> bool:
    """Whether a certificate has ended, by the machine's time."""
    return certified.expires_at <= (now or datetime.now(UTC))
