"""A keyring record as the document that is stored, with its checksum.

The document is JSON for a person to read, in one canonical spelling: sorted names, two spaces of
indent, one newline at the end. Reading spells it again and compares, and the checksum covers
the content and the format's version; so a changed byte is noticed wherever it is.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from sparekey.agent.keyring_record import (
    InstructionResult,
    KeyringRecord,
    NumberedChange,
    ResultState,
)
from sparekey.agent.verified_keys import read_verified
from sparekey.licensing.changes import Change, ChangeKind, ChangeReason
from sparekey.licensing.key_files import InvalidKeyFile, TrustedSigners
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.wire.field_rules import SERIAL

VERSION = 1
"""The version of the format. Every version keeps the names checksum, content and format."""

_NAMES = {"checksum", "content", "format"}


class DamagedDocument(ValueError):
    """The bytes are not what was written; the message says what does not fit."""


class NewerDocument(ValueError):
    """A newer release wrote this."""

    def __init__(self, version: int) -> None:
        super().__init__(f"format {version}")
        self.version = version


def encode_record(record: KeyringRecord) -> bytes:
    """The record as a document."""
    content = {
        "accepted_sequence": record.accepted_sequence,
        "changes": [_encode_change(numbered) for numbered in record.changes],
        "keys": [
            _encode_held(slot, held, record.key_files[held.key])
            for slot, held in record.keyring.slots.items()
        ],
        "results": [_encode_result(record.results[slot]) for slot in sorted(record.results)],
        "revision": record.revision,
    }
    document = {"content": content, "format": VERSION}
    return _spell({**document, "checksum": _checksum(document)})


def decode_record(encoded: bytes, trusted: TrustedSigners) -> KeyringRecord:
    """The record of a document; every key's signature is checked again.

    Raises:
        DamagedDocument: this is not what `encode_record` makes of any record, or a key is not of
            a trusted signer.
        NewerDocument: a newer release wrote it.
    """
    content = _checked_content(encoded)
    try:
        record = _decode_content(content, trusted)
        # A checksum that fits does not say that every value is of its type; what would be
        # written otherwise, such as a number as text, was not written by this agent.
        sound = encode_record(record) == encoded
    except InvalidKeyFile as problem:
        raise DamagedDocument(f"a key in it is refused: {problem.problem.value}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        sound = False
    if not sound:
        raise DamagedDocument("its content is not a keyring")
    return record


def _checked_content(encoded: bytes) -> Any:
    try:
        # RecursionError: thousands of opening brackets, as no keyring has them.
        document = json.loads(encoded)
    except (ValueError, RecursionError):
        raise DamagedDocument("it is not JSON") from None
    version = document.get("format") if isinstance(document, dict) else None
    if type(version) is not int:
        raise DamagedDocument("it names no format")
    whole = document.keys() == _NAMES
    covered = {name: document[name] for name in document if name != "checksum"}
    sound = whole and document["checksum"] == _checksum(covered)
    # A damaged digit must not pass for a newer release, nor a newer release for damage.
    if version > VERSION and (sound or not whole):
        raise NewerDocument(version)
    if not sound or encoded != _spell(document) or version != VERSION:
        raise DamagedDocument("its checksum does not fit")
    return document["content"]


def _spell(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, indent=2).encode("ascii") + b"\n"


def _checksum(covered: dict[str, Any]) -> str:
    return hashlib.sha256(_spell(covered)).hexdigest()


def _decode_content(content: Any, trusted: TrustedSigners) -> KeyringRecord:
    slots: dict[Slot, HeldKey] = {}
    key_files: dict[LicenseKey, bytes] = {}
    for item in content["keys"]:
        key_file = item["key_file"].encode("ascii")
        key = read_verified(trusted, key_file)
        key_files[key] = key_file
        slots[_decode_slot(item["slot"])] = HeldKey(
            key,
            _decode_instant(item["installed_at"]),
            _decode_time(item["ended_at"]),
            _decode_time(item["blocked_at"]),
        )
    results = [_decode_result(item) for item in content["results"]]
    return KeyringRecord(
        keyring=Keyring(slots),
        key_files=key_files,
        revision=int(content["revision"]),
        changes=tuple(_decode_change(item) for item in content["changes"]),
        results={result.slot: result for result in results},
        accepted_sequence=int(content["accepted_sequence"]),
    )


def _encode_held(slot: Slot, held: HeldKey, key_file: bytes) -> dict[str, Any]:
    return {
        "blocked_at": _encode_time(held.blocked_at),
        "ended_at": _encode_time(held.ended_at),
        "installed_at": _encode_time(held.installed_at),
        "key_file": key_file.decode("ascii"),
        "slot": _encode_slot(slot),
    }


def _encode_change(numbered: NumberedChange) -> dict[str, Any]:
    change = numbered.change
    return {
        "at": _encode_time(change.at),
        "kind": change.kind.value,
        "previous_serial": change.previous_serial,
        "reason": change.reason.value,
        "revision": numbered.revision,
        "serial": change.serial,
        "slot": _encode_slot(change.slot),
    }


def _decode_change(item: Any) -> NumberedChange:
    previous = item["previous_serial"]
    return NumberedChange(
        int(item["revision"]),
        Change(
            kind=ChangeKind(item["kind"]),
            slot=_decode_slot(item["slot"]),
            serial=_decode_serial(item["serial"]),
            at=_decode_instant(item["at"]),
            reason=ChangeReason(item["reason"]),
            previous_serial=None if previous is None else _decode_serial(previous),
        ),
    )


def _encode_result(result: InstructionResult) -> dict[str, Any]:
    return {
        "refusal": result.refusal.value if result.refusal else None,
        "slot": _encode_slot(result.slot),
        "state": result.state.value,
        "version": result.version,
    }


def _decode_result(item: Any) -> InstructionResult:
    refusal = item["refusal"]
    return InstructionResult(
        _decode_slot(item["slot"]),
        int(item["version"]),
        ResultState(item["state"]),
        Refusal(refusal) if refusal is not None else None,
    )


def _encode_slot(slot: Slot) -> str:
    return f"{slot.type.value}/{slot.role.value}"


def _decode_slot(text: str) -> Slot:
    key_type, role = text.split("/")
    return Slot(KeyType(key_type), Role(role))


def _encode_time(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _decode_time(text: str | None) -> datetime | None:
    return None if text is None else _decode_instant(text)


def _decode_instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return instant


def _decode_serial(serial: Any) -> str:
    if not SERIAL.fullmatch(serial):
        raise ValueError("not a serial")
    return str(serial)
