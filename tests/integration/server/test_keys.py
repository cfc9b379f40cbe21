"""The key storage: by key file in, listed, and out again (R46, R80, R98)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.key_files import KeySigner
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.v1 import event_pb2, key_pb2
from sparekey.wire.licensing_messages import EDITIONS, KEY_KINDS, KEY_TYPES
from sparekey.wire.timestamps import from_timestamp, instant_or_none

from .site import NOW, Site
from .words import outcomes_of, refusal_of, state_of


def adding(site: Site, key: LicenseKey, **more: object) -> key_pb2.AddKeyRequest:
    return key_pb2.AddKeyRequest(key_file=site.signer.sign(key), **more)  # type: ignore[arg-type]


async def get(site: Site, key: LicenseKey) -> key_pb2.Key:
    return (await site.keys.GetKey(key_pb2.GetKeyRequest(serial=key.serial))).key


@pytest.mark.parametrize("type_", KeyType)
@pytest.mark.parametrize("kind", KeyKind)
async def test_R20_R23_R51_a_key_is_shown_with_all_that_a_task_needs_to_know(
    site: Site, type_: KeyType, kind: KeyKind
) -> None:
    key = site.make_key(type_, kind=kind, edition=Edition.ENTERPRISE)
    added = await site.keys.AddKey(adding(site, key))
    shown = await get(site, key)
    assert added == key_pb2.AddKeyResponse(key=shown)
    assert shown.serial == key.serial
    assert (shown.type, shown.kind) == (KEY_TYPES[type_], KEY_KINDS[kind])
    assert (shown.edition, shown.unit_limit) == (EDITIONS[Edition.ENTERPRISE], 100)
    assert shown.origin == key_pb2.KEY_ORIGIN_KEY_FILE
    assert from_timestamp(shown.not_before) == key.not_before
    assert instant_or_none(shown, "expires_at") == key.expires_at
    assert from_timestamp(shown.added_at) == NOW
    assert not shown.HasField("blocked_at")
    assert shown.code_ending == shown.renews_serial == ""


async def test_R80_the_same_file_again_changes_nothing(site: Site) -> None:
    key = await site.new_key(ends=90)
    before = site.dump()
    again = await site.keys.AddKey(adding(site, key))
    assert again.already_stored
    assert again.key == await get(site, key)
    assert site.dump() == before
    assert len(await site.history(event_pb2.EVENT_KIND_KEY_ADDED)) == 1


async def test_R80_another_key_with_the_same_serial_is_refused(site: Site) -> None:
    key = await site.new_key(ends=90)
    before = site.dump()
    for other in (
        replace(key, unit_limit=key.unit_limit + 1),
        replace(key, expires_at=NOW + timedelta(days=31)),
        replace(key, type=KeyType.CORES),
    ):
        problem = await refusal_of(site.keys.AddKey(adding(site, other)))
        assert problem.reason == "KEY_CONFLICT"
        assert problem.metadata == {"serial": key.serial}
        dry = adding(site, other, validate_only=True)
        assert (await refusal_of(site.keys.AddKey(dry))).reason == "KEY_CONFLICT"
    assert site.dump() == before


async def test_R72_R78_an_expired_key_is_not_taken_in(site: Site) -> None:
    key = site.make_key(ends=10)
    await site.advance(10)
    before = site.dump()
    assert (await refusal_of(site.keys.AddKey(adding(site, key)))).reason == "KEY_EXPIRED"
    assert site.dump() == before


async def test_R46_a_task_takes_its_key_from_the_storage_only(site: Site) -> None:
    await site.connect("svm-1")
    key = site.make_key()
    assert (await refusal_of(site.activate(key))).reason == "KEY_NOT_FOUND"
    assert (await refusal_of(site.renew(key))).reason == "KEY_NOT_FOUND"
    await site.add(key)
    assert state_of(await site.ended(site.activate(key))) == "SUCCEEDED"


async def test_R78_a_task_with_a_key_that_has_ended_is_refused(site: Site) -> None:
    await site.connect("svm-1")
    key = await site.new_key(ends=10)
    await site.advance(10)
    for start in (site.activate, site.renew):
        assert (await refusal_of(start(key))).reason == "KEY_EXPIRED"
        assert (await refusal_of(start(key, validate_only=True))).reason == "KEY_EXPIRED"


async def test_R100_the_storage_counts_the_svms_of_each_key(site: Site) -> None:
    await site.connect("svm-1", "svm-2", "svm-3")
    active, reserve = await site.new_key(ends=30), await site.new_key(ends=60)
    await site.ended(site.activate(active))
    await site.ended(site.renew(reserve, "svm-1", "svm-2"))
    await site.disconnect("svm-2")
    shown = await get(site, active), await get(site, reserve)
    assert [(one.active_svm_count, one.reserve_svm_count) for one in shown] == [(3, 0), (0, 2)]
    await site.advance(31)
    shown = await get(site, active), await get(site, reserve)
    assert [(one.active_svm_count, one.reserve_svm_count) for one in shown] == [(2, 0), (1, 1)]


async def test_R74_R98_svms_keep_running_under_a_deleted_key(site: Site) -> None:
    await site.connect("svm-1")
    key = await site.new_key()
    await site.license(key)
    deleted = await site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=key.serial))
    assert deleted.key.active_svm_count == 1
    assert (
        await site.held("svm-1") == site.truly_held("svm-1") == {("SERVER", "ACTIVE"): key.serial}
    )
    get_key = site.keys.GetKey(key_pb2.GetKeyRequest(serial=key.serial))
    assert (await refusal_of(get_key)).reason == "KEY_NOT_FOUND"
    assert not (await site.keys.ListKeys(key_pb2.ListKeysRequest())).keys
    assert (await refusal_of(site.activate(key))).reason == "KEY_NOT_FOUND"
    again = site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=key.serial))
    assert (await refusal_of(again)).reason == "KEY_NOT_FOUND"
    assert [e.key_serial for e in await site.history(event_pb2.EVENT_KIND_KEY_DELETED)] == [
        key.serial
    ]


async def test_R98_a_deleted_key_can_be_added_again(site: Site) -> None:
    await site.connect("svm-1")
    key = await site.new_key()
    await site.license(key)
    await site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=key.serial))
    other = adding(site, replace(key, unit_limit=1))
    assert (await refusal_of(site.keys.AddKey(other))).reason == "KEY_CONFLICT"
    again = await site.keys.AddKey(adding(site, key))
    assert not again.already_stored
    assert (await get(site, key)).active_svm_count == 1
    assert outcomes_of(await site.ended(site.activate(key))) == {"svm-1": "UNCHANGED"}


async def test_R98_a_key_of_a_running_task_is_not_deleted(site: Site) -> None:
    await site.connect("svm-1")
    await site.disconnect("svm-1")
    key = await site.new_key(ends=90)
    task = await site.activate(key)
    before = site.dump()
    problem = await refusal_of(site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=key.serial)))
    assert problem.reason == "KEY_IN_USE"
    assert problem.metadata == {"serial": key.serial, "task_ids": task.task_id}
    assert site.dump() == before
    await site.reconnect("svm-1")
    await site.ended(site.task(task))
    await site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=key.serial))


async def test_R98_a_key_that_was_deleted_by_force_reaches_no_further_svm(site: Site) -> None:
    await site.connect("online", "offline")
    await site.disconnect("offline")
    key = await site.new_key()
    task = await site.activate(key)
    await site.until_held("online", {("SERVER", "ACTIVE"): key.serial})
    await site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=key.serial, force=True))
    task = await site.ended(site.task(task))
    assert outcomes_of(task) == {"online": "APPLIED", "offline": "KEY_NOT_IN_STORAGE"}
    assert state_of(task) == "PARTIAL"
    await site.reconnect("offline")
    await site.until_held("offline", {})
    refused = await site.history(event_pb2.EVENT_KIND_INSTRUCTION_REFUSED)
    assert [(one.svm_id, one.task_id) for one in refused] == [("offline", task.task_id)]


async def test_R80_a_signer_that_is_not_trusted(site: Site) -> None:
    before = site.dump()
    key = site.make_key()
    other = KeySigner("another-vendor", Ed25519PrivateKey.generate())
    forger = KeySigner(site.signer.signer_id, Ed25519PrivateKey.generate())
    for signer, wanted in ((other, "UNKNOWN_SIGNER"), (forger, "BAD_SIGNATURE")):
        request = key_pb2.AddKeyRequest(key_file=signer.sign(key))
        problem = await refusal_of(site.keys.AddKey(request))
        assert (problem.reason, problem.metadata) == ("INVALID_KEY_FILE", {"problem": wanted})
    assert site.dump() == before
