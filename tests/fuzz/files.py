"""Hostile key files, state files of agents and certificate requests for those who read them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fuzz.fuzzing import Broken, Tried
from fuzz.inputs import Inputs
from fuzz.keys_of_vendor import NOW, make_keys, make_signer
from sparekey.agent import keyring_document
from sparekey.agent.keyring_document import (
    DamagedDocument,
    NewerDocument,
    decode_record,
    encode_record,
)
from sparekey.agent.keyring_record import InstructionResult, KeyringRecord, ResultState
from sparekey.certificates.keys import InvalidRequest, make_request, new_key, read_request
from sparekey.licensing import key_files
from sparekey.licensing.changes import Change, ChangeKind, ChangeReason
from sparekey.licensing.key_files import InvalidKeyFile, KeySigner, TrustedSigners
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.refusals import Refusal

_SIMPLE: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**70, 10**400, 1.5, float("nan"), float("inf")),
    *("", "x", "\ud800", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00", "A" * 5000),
)


def fuzz_key_files(randomness: random.Random, count: int) -> Tried:
    """Key files: whatever is not exactly what a trusted signer made is refused.

    The structured ones are signed, so that what the signature protects is looked at too.
    """
    signer = make_signer(randomness)
    trusted = TrustedSigners({signer.signer_id: signer.public_key})
    good = [signer.sign(key) for key in make_keys(randomness, 30)]

    def structured() -> bytes:
        document = json.loads(randomness.choice(good))
        if randomness.random() < 0.8:
            document["key"] = _changed(randomness, document["key"])
            return _signed(signer, document["key"])
        return _spell(_changed(randomness, document))

    def read(content: bytes) -> str | None:
        try:
            key = trusted.read(content)
        except InvalidKeyFile as refused:
            return refused.problem.name
        if signer.sign(key) != content:
            raise Broken(f"a key file was changed and taken: {content!r}")
        return None

    return _try("key files", randomness, good, structured, read, count)


def fuzz_state_files(randomness: random.Random, count: int) -> Tried:
    """The agent's state: what is damaged is called so, and what is taken can be written again.

    The structured ones carry a fitting checksum, so that the content is looked at too.
    """
    signer = make_signer(randomness)
    trusted = TrustedSigners({signer.signer_id: signer.public_key})
    good = [encode_record(_record(randomness, signer)) for _ in range(30)]

    def structured() -> bytes:
        document = json.loads(randomness.choice(good))
        if randomness.random() < 0.8:
            document["content"] = _changed(randomness, document["content"])
        else:
            document = _changed(randomness, document)
        if isinstance(document, dict):
            covered = {name: document[name] for name in document if name != "checksum"}
            document["checksum"] = keyring_document._checksum(covered)
        return keyring_document._spell(document)

    def read(content: bytes) -> str | None:
        try:
            record = decode_record(content, trusted)
        except (DamagedDocument, NewerDocument) as refused:
            return type(refused).__name__
        if decode_record(encode_record(record), trusted) != record:
            raise Broken(f"a state file was taken that cannot be written again: {content!r}")
        return None

    return _try("agents' state files", randomness, good, structured, read, count)


def fuzz_certificate_requests(randomness: random.Random, count: int) -> Tried:
    """Certificate requests: refused with a reason, or taken with a key on P-256."""
    good = [make_request(new_key()) for _ in range(20)]

    def structured() -> bytes:
        one, other = randomness.choice(good), randomness.choice(good)
        at = randomness.randrange(len(one))
        return randomness.choice((one, one[:at] + other[at:], one + other, other[:at] + one[at:]))

    def read(content: bytes) -> str | None:
        try:
            read_request(content)
        except InvalidRequest as refused:
            return str(refused)
        return None

    return _try("certificate requests", randomness, good, structured, read, count)


FILES: dict[str, Callable[[random.Random, int], Tried]] = {
    "key files": fuzz_key_files,
    "agents' state files": fuzz_state_files,
    "certificate requests": fuzz_certificate_requests,
}


def _try(
    name: str,
    randomness: random.Random,
    good: list[bytes],
    structured: Callable[[], bytes],
    read: Callable[[bytes], str | None],
    count: int,
) -> Tried:
    started = time.monotonic()
    tried = Tried(name)
    mutations = Inputs(randomness, {})
    for _ in range(count):
        tried.structured += 1
        tried.structured_taken += _read(tried, read, structured())
    for _ in range(count):
        tried.mutated += 1
        tried.mutated_taken += _read(tried, read, mutations.mutated(randomness.choice(good)))
    # The readers are functions of their argument: there is no state that they could change.
    tried.unchanged = tried.refused
    tried.seconds = time.monotonic() - started
    return tried


def _read(tried: Tried, read: Callable[[bytes], str | None], content: bytes) -> bool:
    try:
        reason = read(content)
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"the reader of {tried.name} broke by {error!r} on {content!r}") from error
    if reason is not None:
        tried.reasons[reason] += 1
    return reason is None


def _changed(randomness: random.Random, value: Any) -> Any:
    """A document with a value somewhere in it replaced, moved, or taken away; or as it was."""
    kinds = randomness.random()
    if kinds < 0.05:
        return value
    if isinstance(value, dict) and value:
        name = randomness.choice(sorted(value))
        if kinds < 0.15:
            return {key: value[key] for key in value if key != name}
        if kinds < 0.25:
            return {**value, name: value[randomness.choice(sorted(value))]}
        if kinds < 0.3:
            return {**value, "more": randomness.choice(_SIMPLE)}
        return {**value, name: _changed(randomness, value[name])}
    if isinstance(value, list) and value:
        at = randomness.randrange(len(value))
        if kinds < 0.2:
            return value[:at] + value[at + 1 :]
        if kinds < 0.3:
            return [*value, *value[at:]]
        return [*value[:at], _changed(randomness, value[at]), *value[at + 1 :]]
    return _deep(randomness) if kinds < 0.1 else _other(randomness, value)


def _other(randomness: random.Random, value: Any) -> Any:
    """Another simple value, most often of the same kind and near to it."""
    if isinstance(value, str) and value and randomness.random() < 0.6:
        at = randomness.randrange(len(value))
        put = randomness.choice((*"0149AZaz-+/:. \n\x00é", value[at:]))
        return value[:at] + put + value[at + 1 :]
    if isinstance(value, int) and randomness.random() < 0.6:
        return value + randomness.choice((1, -1, 10, 2**31, 2**63))
    return randomness.choice(_SIMPLE)


def _deep(randomness: random.Random) -> Any:
    nested: Any = randomness.choice(_SIMPLE)
    for _ in range(randomness.choice((1, 2, 300))):
        nested = randomness.choice(([nested], {"a": nested}, [nested, nested and 1]))
    return nested


def _signed(signer: KeySigner, fields: Any) -> bytes:
    """A key file whose signature is good, whatever it says."""
    encoded = _spell(fields)[:-1]
    signature = signer._private_key.sign(key_files._signed_part(encoded, signer.signer_id))
    return key_files._document(encoded, signature.hex(), signer.signer_id)


def _spell(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def _record(randomness: random.Random, signer: KeySigner) -> KeyringRecord:
    keys = {Slot(key.type, Role.ACTIVE): key for key in make_keys(randomness, 8)[:2]}
    later = replace(make_keys(randomness, 9)[8], type=make_keys(randomness, 1)[0].type)
    keys[Slot(later.type, Role.RESERVE)] = later
    changes = [
        Change(ChangeKind.KEY_ACTIVATED, slot, key.serial, NOW, ChangeReason.REQUESTED)
        for slot, key in keys.items()
    ]
    record = KeyringRecord(accepted_sequence=randomness.randint(0, 9)).with_changes(
        Keyring({slot: HeldKey(key, NOW) for slot, key in keys.items()}),
        changes,
        {key: signer.sign(key) for key in keys.values()},
    )
    for version, slot in enumerate(keys, start=1):
        state = randomness.choice(tuple(ResultState))
        refusal = Refusal.KEY_EXPIRED if state is ResultState.REFUSED else None
        record = record.with_result(InstructionResult(slot, version, state, refusal))
    return record
