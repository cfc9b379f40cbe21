"""Private keys and certificate requests: ECDSA on P-256, and nothing else."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class InvalidRequest(ValueError):
    """A certificate request cannot be followed; the message says why."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The private key of a PEM text.

    Raises:
        ValueError: there is none, or it is of another kind.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm):
        raise ValueError("it holds no private key without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("its key is not an ECDSA key")  # noqa: TRY004 - the text is at fault
    return key


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request in DER that proves that its sender has the key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def read_request(der: bytes) -> ec.EllipticCurvePublicKey:
    """The key for which a certificate is asked.

    Raises:
        InvalidRequest: it is not well formed, not signed by its key, or the key is of another
            kind.
    """
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        signed = request.is_signature_valid
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        InvalidSignature,
        x509.InvalidVersion,
    ):
        raise InvalidRequest("it is not a PKCS #10 request in DER") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("its key is not an ECDSA key on P-256")
    if not signed:
        raise InvalidRequest("it is not signed by its own key")
    return key


def key_digest(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 over a public key, by which to know it again."""
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()
