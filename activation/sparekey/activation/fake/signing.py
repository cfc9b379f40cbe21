"""The fake's signing key and the file of public keys that servers and agents pin."""

import json
import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sparekey.activation.fake.atomic_files import replace_file
from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keys import LicenseKey
from sparekey.runtime.startup import StartupRefused

SIGNER_ID = "fake-activation"
"""Under which name the fake signs; it tells everybody who reads a key that it is a test's."""

_LARGEST_KEY_FILE = 64 * 1024


class Signing:
    """Signs keys, and where a test asks for it signs them wrongly.

    Args:
        private_key: The signing key.
    """

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._signer = KeySigner(SIGNER_ID, private_key)
        # Right in all but the key: its signatures are well formed and fit nothing.
        self._impostor = KeySigner(SIGNER_ID, Ed25519PrivateKey.generate())
        self._trusted = TrustedSigners({SIGNER_ID: private_key.public_key()})

    @property
    def public_keys(self) -> dict[str, str]:
        """Signer ids with their public keys, base64 of the 32 raw bytes."""
        return {SIGNER_ID: encode_public_key(self._signer.public_key)}

    def sign(self, key: LicenseKey) -> bytes:
        """The key file of a key; the same key always gives the same bytes."""
        return self._signer.sign(key)

    def read(self, key_file: bytes) -> LicenseKey:
        """The key of a file that was signed here.

        Raises `InvalidKeyFile` for any other.
        """
        return self._trusted.read(key_file)

    def with_wrong_signature(self, key_file: bytes) -> bytes:
        """The same key in the same form with a signature that does not verify (R80)."""
        return self._impostor.sign(self._trusted.read(key_file))


def load_or_make_signing(key_path: Path, vendor_keys_path: Path) -> Signing:
    """The signing key of a folder, made at the first start, with its public half written out.

    The private key is never drawn from a seed: a seed is printed in logs.

    Raises `StartupRefused` where the key file can be read by others or holds no Ed25519 key.
    """
    try:
        if not key_path.exists():
            replace_file(key_path, _encoded(Ed25519PrivateKey.generate()), mode=0o600)
        signing = Signing(_load(key_path))
        public = json.dumps(signing.public_keys, sort_keys=True, indent=2).encode() + b"\n"
        if not vendor_keys_path.exists() or vendor_keys_path.read_bytes() != public:
            replace_file(vendor_keys_path, public, mode=0o644)
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        raise StartupRefused(
            f"cannot use {error.filename or key_path} ({reason}); mend its rights or name another"
            " folder"
        ) from None
    return signing


def _load(path: Path) -> Ed25519PrivateKey:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise StartupRefused(
                f"others can read the signing key {path} (mode {mode:04o}); run: chmod 600 {path}"
            )
        content = file.read(_LARGEST_KEY_FILE)
    try:
        private_key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        private_key = None
    if not isinstance(private_key, Ed25519PrivateKey):
        raise StartupRefused(
            f"{path} holds no Ed25519 private key; remove it and a new one is made"
        )
    return private_key


def _encoded(private_key: Ed25519PrivateKey) -> bytes:
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
