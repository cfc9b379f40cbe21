"""Signed keys: the one form of a key in files, in storage and on the wire.

The form is canonical: one key and one signer have exactly one sequence of bytes, and any other
sequence is refused, so a changed byte can never pass. It is one line of JSON,

    {"format":"sparekey-key/1","key":{...},"signature":"<hex>","signer":"<signer id>"}

with sorted names, no spaces and one newline at the end. The signature is Ed25519 over the same
JSON without the signature and without the newline. This is our own form and imitates no other
(R80, R101).
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sparekey.licensing.keys import Edition, InvalidKey, KeyKind, KeyOrigin, KeyType, LicenseKey

FORMAT = "sparekey-key/1"
MAX_SIZE = 4096
"""Bytes. A real key takes about 450; the limit keeps a hostile file from costing anything."""

_SIGNER_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_PUBLIC_KEY_SIZE = 32
_START = f'{{"format":"{FORMAT}","key":'.encode("ascii")
_DOCUMENT_NAMES = {"format", "key", "signature", "signer"}
_encode_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class KeyFileProblem(Enum):
    """Why a key file was refused."""

    NOT_A_KEY_FILE = "NOT_A_KEY_FILE"
    NOT_CANONICAL = "NOT_CANONICAL"
    UNKNOWN_SIGNER = "UNKNOWN_SIGNER"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    INVALID_KEY = "INVALID_KEY"
    TOO_LARGE = "TOO_LARGE"


_ADVICE = {
    KeyFileProblem.NOT_A_KEY_FILE: "This is not a Sparekey key file; choose the file as issued.",
    KeyFileProblem.NOT_CANONICAL: (
        "The key file was altered or saved again by an editor; use the original file unchanged."
    ),
    KeyFileProblem.UNKNOWN_SIGNER: (
        "The key file's signer is not trusted here; add the signer's public key "
        "or get the file from a trusted signer."
    ),
    KeyFileProblem.BAD_SIGNATURE: (
        "The signature does not fit the key file, so it was damaged or forged; "
        "get the file from its signer again."
    ),
    KeyFileProblem.INVALID_KEY: (
        "The signed key breaks a rule; ask the signer to issue a corrected key."
    ),
    KeyFileProblem.TOO_LARGE: f"A key file has at most {MAX_SIZE} bytes; choose another file.",
}


class InvalidKeyFile(ValueError):
    """A key file that was refused: `problem` for programs, the message for people.

    The message says what to do next and repeats nothing of the content.
    """

    def __init__(self, problem: KeyFileProblem, detail: str = "") -> None:
        super().__init__(f"{_ADVICE[problem]} ({detail})" if detail else _ADVICE[problem])
        self.problem = problem


class KeySigner:
    """Signs keys under one signer id: lower-case letters, digits, `.`, `_`, `-`, at most 64.

    Raises `ValueError` for an id of another shape.
    """

    def __init__(self, signer_id: str, private_key: Ed25519PrivateKey) -> None:
        self.signer_id = _checked_signer_id(signer_id)
        self._private_key = private_key

    @property
    def public_key(self) -> Ed25519PublicKey:
        """What `TrustedSigners` needs to know of this signer."""
        return self._private_key.public_key()

    def sign(self, key: LicenseKey) -> bytes:
        """The key in its signed form. The same key and signer always give the same bytes."""
        encoded = _encode_key(key)
        signature = self._private_key.sign(_signed_part(encoded, self.signer_id))
        return _document(encoded, signature.hex(), self.signer_id)


class TrustedSigners:
    """The signers whose keys are accepted, by id. Reading never trusts anything in the file.

    Raises `ValueError` for a signer id of a wrong shape.
    """

    def __init__(self, public_keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._public_keys = {_checked_signer_id(name): key for name, key in public_keys.items()}

    @classmethod
    def from_text(cls, encoded: Mapping[str, str]) -> Self:
        """From signer ids and their public keys in base64, as `encode_public_key` gives them.

        Raises `ValueError` naming the signer whose text is not a public key.
        """
        return cls({name: _decode_public_key(name, text) for name, text in encoded.items()})

    def read(self, content: bytes) -> LicenseKey:
        """The key of a signed key file (R80).

        Raises `InvalidKeyFile` for anything that a trusted signer's `sign` would not have made.
        """
        if len(content) > MAX_SIZE:
            raise InvalidKeyFile(KeyFileProblem.TOO_LARGE)
        fields, signature, signer_id = _split(content)
        encoded = _encode_json(fields).encode("ascii")
        if content != _document(encoded, signature.hex(), signer_id):
            raise InvalidKeyFile(KeyFileProblem.NOT_CANONICAL)
        public_key = self._public_keys.get(signer_id)
        if public_key is None:
            raise InvalidKeyFile(KeyFileProblem.UNKNOWN_SIGNER)
        try:
            public_key.verify(signature, _signed_part(encoded, signer_id))
        except InvalidSignature:
            raise InvalidKeyFile(KeyFileProblem.BAD_SIGNATURE) from None
        key = _decode_key(fields)
        # JSON can be canonical while a value inside is not, such as a time without its zeros.
        if _encode_key(key) != encoded:
            raise InvalidKeyFile(KeyFileProblem.NOT_CANONICAL)
        return key


def encode_public_key(public_key: Ed25519PublicKey) -> str:
    """The public key as text: base64 of its 32 raw bytes."""
    return base64.b64encode(public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode("ascii")


def _decode_public_key(signer_id: str, text: str) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"signer {signer_id!r}: the public key is not base64") from None
    if len(raw) != _PUBLIC_KEY_SIZE:
        raise ValueError(f"signer {signer_id!r}: a public key has {_PUBLIC_KEY_SIZE} raw bytes")
    return Ed25519PublicKey.from_public_bytes(raw)


def _checked_signer_id(signer_id: str) -> str:
    if not _SIGNER_ID.match(signer_id):
        raise ValueError(
            f"signer id {signer_id!r}: 1 to 64 lower-case letters, digits, '.', '_' or '-', "
            "the first a letter or digit"
        )
    return signer_id


def _split(content: bytes) -> tuple[dict[str, Any], bytes, str]:
    try:
        # RecursionError: a few thousand opening brackets fit into the size limit.
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidKeyFile(KeyFileProblem.NOT_A_KEY_FILE) from None
    if not isinstance(document, dict) or document.keys() != _DOCUMENT_NAMES:
        raise InvalidKeyFile(KeyFileProblem.NOT_A_KEY_FILE)
    fields, signature, signer_id = document["key"], document["signature"], document["signer"]
    if (
        document["format"] != FORMAT
        or not isinstance(fields, dict)
        or any(isinstance(value, dict | list) for value in fields.values())
        or not isinstance(signature, str)
        or not isinstance(signer_id, str)
        or not _SIGNER_ID.match(signer_id)
    ):
        raise InvalidKeyFile(KeyFileProblem.NOT_A_KEY_FILE)
    try:
        return fields, bytes.fromhex(signature), signer_id
    except ValueError:
        raise InvalidKeyFile(KeyFileProblem.NOT_A_KEY_FILE) from None


def _signed_part(encoded_key: bytes, signer_id: str) -> bytes:
    return b'%s%s,"signer":"%s"}' % (_START, encoded_key, signer_id.encode("ascii"))


def _document(encoded_key: bytes, signature: str, signer_id: str) -> bytes:
    return b'%s%s,"signature":"%s","signer":"%s"}\n' % (
        _START,
        encoded_key,
        signature.encode("ascii"),
        signer_id.encode("ascii"),
    )


def _encode_key(key: LicenseKey) -> bytes:
    fields = {
        "edition": key.edition.value,
        "expires_at": None if key.expires_at is None else _encode_time(key.expires_at),
        "kind": key.kind.value,
        "not_before": _encode_time(key.not_before),
        "origin": key.origin.value,
        "serial": key.serial,
        "type": key.type.value,
        "unit_limit": key.unit_limit,
    }
    return _encode_json(fields).encode("ascii")


def _decode_key(fields: dict[str, Any]) -> LicenseKey:
    try:
        expires_at = fields["expires_at"]
        return LicenseKey(
            serial=fields["serial"],
            type=KeyType(fields["type"]),
            kind=KeyKind(fields["kind"]),
            edition=Edition(fields["edition"]),
            origin=KeyOrigin(fields["origin"]),
            unit_limit=fields["unit_limit"],
            not_before=datetime.fromisoformat(fields["not_before"]),
            expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
        )
    except InvalidKey as error:
        raise InvalidKeyFile(KeyFileProblem.INVALID_KEY, str(error)) from None
    except KeyError as error:
        raise InvalidKeyFile(KeyFileProblem.INVALID_KEY, f"no {error.args[0]}") from None
    except (ValueError, TypeError):
        raise InvalidKeyFile(KeyFileProblem.INVALID_KEY, "a value is malformed") from None


def _encode_time(instant: datetime) -> str:
    # Always six decimals, so that an instant has one spelling. Keys hold UTC only.
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
