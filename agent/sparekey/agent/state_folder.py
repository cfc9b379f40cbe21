"""The agent's folder on disk: who it is, whom it trusts, and that it is alone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparekey.agent.durable_file import replace_durably
from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.startup import StartupRefused, writable_folder
from sparekey.wire.field_rules import SVM_ID

LOCK_NAME = "lock"
SVM_ID_NAME = "svm-id"
VENDOR_KEYS_NAME = "vendor-keys.json"

_MAX_ID = 63


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[Path]:
    """Make the folder where it is missing, and keep every other agent out of it.

    The lock ends with the process, however that ends.

    Raises:
        StartupRefused: the folder cannot be written, or another agent works in it.
    """
    folder = writable_folder(path)
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartupRefused(
                f"another agent works in the state folder {folder}; stop it, or give this one a"
                " folder of its own"
            ) from None
        yield folder
    finally:
        os.close(descriptor)


def settle_svm_id(folder: Path, wanted: str | None) -> str:
    """The SVM's id: the folder's own, else the wanted one, else one made from the host's name.

    It is kept in the folder, since the keyring there belongs to it.

    Raises:
        StartupRefused: the wanted id is malformed or not the folder's, or there is none.
    """
    if wanted is not None and not SVM_ID.fullmatch(wanted):
        raise StartupRefused(
            f"{wanted!r} is not an SVM id; use 1 to {_MAX_ID} lower-case letters, digits and"
            " hyphens"
        )
    path = folder / SVM_ID_NAME
    kept = _read_text(path)
    if kept is not None:
        kept = kept.strip()
        if not SVM_ID.fullmatch(kept):
            raise StartupRefused(f"{path} holds no SVM id; write the SVM's id into it")
        if wanted not in (None, kept):
            raise StartupRefused(
                f"the state folder {folder} belongs to the SVM {kept}; give {wanted} a folder of"
                " its own"
            )
        return kept
    svm_id = wanted or id_of_host(socket.gethostname())
    if not svm_id:
        raise StartupRefused("the host's name gives no SVM id; choose one with --svm-id")
    _write(path, f"{svm_id}\n".encode("ascii"))
    return svm_id


def id_of_host(host_name: str) -> str:
    """The host's name as a DNS label, which an SVM id is; empty where nothing of it is left."""
    label = re.sub(r"[^a-z0-9]+", "-", host_name.lower().partition(".")[0]).strip("-")
    return label[:_MAX_ID].rstrip("-")


def settle_trust(folder: Path, vendor_keys: Path | None) -> TrustedSigners:
    """The signers whose keys this SVM accepts: those pinned at the first start (R80).

    Args:
        folder: Where they are pinned.
        vendor_keys: A JSON file of signer ids and public keys in base64; needed at the first
            start, later it may only repeat what is pinned.

    Raises:
        StartupRefused: a file cannot be used, there is none, or it differs from the pinned one.
    """
    pinned_path = folder / VENDOR_KEYS_NAME
    pinned = _read_text(pinned_path)
    if vendor_keys is not None:
        given = _read_text(vendor_keys)
        if given is None:
            raise StartupRefused(f"there is no file {vendor_keys}; name the vendor's public keys")
        signers = _signers(given, vendor_keys)
        if pinned is None:
            encoded = json.dumps(signers, sort_keys=True, indent=2) + "\n"
            _write(pinned_path, encoded.encode("ascii"))
        elif _signers(pinned, pinned_path) != signers:
            raise StartupRefused(
                f"{vendor_keys} differs from the vendor keys pinned in {pinned_path}; remove that"
                " file if the new ones are to be trusted instead"
            )
        return TrustedSigners.from_text(signers)
    if pinned is None:
        raise StartupRefused(
            "the first start needs the vendor's public keys; name their file with --vendor-keys"
        )
    return TrustedSigners.from_text(_signers(pinned, pinned_path))


def _signers(text: str, path: Path) -> dict[str, str]:
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise StartupRefused(f"{path} is not JSON; choose the file of vendor keys") from None
    if (
        not isinstance(document, dict)
        or not document
        or not all(isinstance(encoded, str) for encoded in document.values())
    ):
        raise StartupRefused(
            f'{path} holds no vendor keys; it must read {{"signer id": "base64 public key"}}'
        )
    try:
        TrustedSigners.from_text(document)
    except ValueError as error:
        raise StartupRefused(f"{path} cannot be used: {error}") from None
    return document


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StartupRefused(f"cannot read {path} ({reason.lower()}); mend or replace it") from None


def _write(path: Path, content: bytes) -> None:
    try:
        replace_durably(path, content)
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        raise StartupRefused(f"cannot write {path} ({reason}); make room or mend rights") from None
