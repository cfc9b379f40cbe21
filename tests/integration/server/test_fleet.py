"""SVMs as operators see them: excluded, forgotten, reimaged, changed."""

from __future__ import annotations

from dataclasses import replace

from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keys import KeyType
from sparekey.testing.fleet.simulated import make_svm
from sparekey.v1 import event_pb2, fleet_pb2, license_pb2
from sparekey.wire.timestamps import from_timestamp

from .site import NOW, Site
from .words import outcomes_of, refusal_of, state_of

ACTIVE, RESERVE = ("SERVER", "ACTIVE"), ("SERVER", "RESERVE")


async def exclude(site: Site, svm_id: str, **more: object) -> fleet_pb2.Svm:
    request = fleet_pb2.ExcludeSvmRequest(svm_id=svm_id, **more)  # type: ignore[arg-type]
    return (await site.svms.ExcludeSvm(request)).svm


async def forget(site: Site, svm_id: str) -> fleet_pb2.Svm:
    return (await site.svms.ForgetSvm(fleet_pb2.ForgetSvmRequest(svm_id=svm_id))).svm


async def test_an_svm_is_shown_with_all_that_it_reported(site: Site) -> None:
    await site.connect("svm-1", cluster="a", servers=3, desktops=2, unknown=1, cores=24)
    svm = await site.svm("svm-1")
    assert (svm.cluster, svm.link_state) == ("a", fleet_pb2.LINK_STATE_CONNECTED)
    assert (svm.guests.servers, svm.guests.desktops, svm.guests.unknown) == (3, 2, 1)
    assert (svm.host_cpu.host_uuid, svm.host_cpu.processors, svm.host_cpu.cores) == (
        "host-of-svm-1",
        2,
        24,
    )
    assert svm.mode == fleet_pb2.PROTECTION_MODE_OFF
    assert from_timestamp(svm.registered_at) == from_timestamp(svm.last_seen_at) == NOW
    assert (svm.keyring.revision, svm.pending_instruction_count) == (0, 0)
    assert svm.agent_version
    (event,) = await site.history(event_pb2.EVENT_KIND_SVM_REGISTERED)
    assert event.svm_id == "svm-1"


async def test_changed_surroundings_are_seen_and_noted(site: Site) -> None:
    await site.connect("svm-1", servers=1)
    inventory = site.fleet.svms["svm-1"].inventory
    inventory.set(replace(inventory.inventory, guests=GuestMix(1, 5, 0)))
    await site.until_svm("svm-1", lambda svm: svm.guests.desktops == 5)
    inventory.set(replace(inventory.inventory, host_cpu=HostCpu(4, 64), host_uuid="another"))
    await site.until_svm("svm-1", lambda svm: svm.host_cpu.cores == 64)
    events = await site.history(event_pb2.EVENT_KIND_SVM_CHANGED)
    assert [(e.HasField("guests"), e.HasField("host_cpu")) for e in events[1:]] == [
        (True, False),
        (False, True),
    ]


async def test_an_svm_that_leaves_is_offline_and_remembered(site: Site) -> None:
    await site.connect("svm-1", cluster="a")
    await site.disconnect("svm-1")
    svm = await site.svm("svm-1")
    assert svm.link_state == fleet_pb2.LINK_STATE_OFFLINE
    assert svm.cluster == "a"
    await site.reconnect("svm-1")
    await site.until_svm("svm-1", lambda s: s.link_state == fleet_pb2.LINK_STATE_CONNECTED)
    assert len(await site.history(event_pb2.EVENT_KIND_SVM_REGISTERED)) == 1


async def test_an_excluded_svm_is_left_out_of_wide_tasks_only(site: Site) -> None:
    await site.connect("svm-1", "svm-2", cluster="a")
    assert (await exclude(site, "svm-1")).excluded
    key = await site.new_key()
    assert outcomes_of(await site.ended(site.activate(key, cluster="a"))) == {"svm-2": "APPLIED"}
    assert outcomes_of(await site.ended(site.activate(key))) == {"svm-2": "UNCHANGED"}
    assert outcomes_of(await site.ended(site.activate(key, "svm-1"))) == {"svm-1": "APPLIED"}
    assert not (await exclude(site, "svm-1", include_again=True)).excluded
    assert set(outcomes_of(await site.ended(site.activate(key)))) == {"svm-1", "svm-2"}
    assert len(await site.history(event_pb2.EVENT_KIND_SVM_EXCLUDED)) == 2


async def test_excluding_twice_is_noted_once(site: Site) -> None:
    await site.connect("svm-1")
    await exclude(site, "svm-1")
    await exclude(site, "svm-1")
    assert len(await site.history(event_pb2.EVENT_KIND_SVM_EXCLUDED)) == 1
    assert (await refusal_of(site.activate(await site.new_key()))).reason == "SCOPE_EMPTY"


async def test_an_svm_is_forgotten_only_when_it_is_gone(site: Site) -> None:
    await site.connect("svm-1")
    before = site.dump()
    assert (await refusal_of(forget(site, "svm-1"))).reason == "SVM_CONNECTED"
    assert site.dump() == before
    await site.disconnect("svm-1")
    assert (await forget(site, "svm-1")).svm_id == "svm-1"
    assert (await refusal_of(site.svm("svm-1"))).reason == "SVM_NOT_FOUND"
    assert (await refusal_of(forget(site, "svm-1"))).reason == "SVM_NOT_FOUND"
    assert (await refusal_of(exclude(site, "svm-1"))).reason == "SVM_NOT_FOUND"
    assert [e.svm_id for e in await site.history(event_pb2.EVENT_KIND_SVM_FORGOTTEN)] == ["svm-1"]


async def test_a_forgotten_svm_ends_its_tasks_and_comes_back_as_a_new_one(site: Site) -> None:
    await site.connect("svm-1")
    key = await site.new_key()
    await site.license(key)
    await site.disconnect("svm-1")
    task = await site.activate(await site.new_key(ends=60))
    await forget(site, "svm-1")
    assert state_of(await site.task(task)) == "CANCELLED"
    tables = site.dump()
    assert [tables[name] for name in ("svms", "held_keys", "instructions")] == [[], [], []]
    await site.reconnect("svm-1")
    await site.until_held("svm-1", {ACTIVE: key.serial})
    assert len(await site.history(event_pb2.EVENT_KIND_SVM_REGISTERED)) == 2


async def test_R3_a_task_after_a_forgotten_svm_came_back_reaches_it(site: Site) -> None:
    """Its agent remembers instruction versions that the server has forgotten."""
    await site.connect("svm-1")
    for days in (30, 40, 50):
        await site.license(await site.new_key(ends=days))
    await site.disconnect("svm-1")
    await forget(site, "svm-1")
    await site.reconnect("svm-1")
    await site.until_svm("svm-1", lambda svm: svm.keyring.revision == 3)
    key = await site.new_key(ends=60)
    assert outcomes_of(await site.ended(site.activate(key))) == {"svm-1": "APPLIED"}
    assert site.truly_held("svm-1") == {ACTIVE: key.serial}


async def test_a_reimaged_svm_gets_its_keys_back(site: Site) -> None:
    await site.connect("svm-1", servers=1, desktops=1)
    server, desktop = await site.new_key(), await site.new_key(KeyType.DESKTOP)
    reserve = await site.new_key(ends=60)
    await site.license(server, desktop, reserves=[reserve])
    held = await site.held("svm-1")
    assert len(held) == 3
    await site.disconnect("svm-1")
    await site.fleet.start([make_svm("svm-1", servers=1, desktops=1)])
    await site.until_event(event_pb2.EVENT_KIND_KEYRING_RESYNCED)
    await site.until_held("svm-1", held)
    assert site.truly_held("svm-1") == held
    assert len(await site.history(event_pb2.EVENT_KIND_KEYRING_RESYNCED)) == 1


async def test_a_reimaged_svm_gets_back_what_is_still_valid_and_what_waited(site: Site) -> None:
    await site.connect("svm-1")
    active, reserve = await site.new_key(ends=30), await site.new_key(ends=60)
    await site.license(active, reserves=[reserve])
    await site.disconnect("svm-1")
    waiting = await site.new_key(ends=90)
    task = await site.activate(waiting)
    await site.fleet.start([make_svm("svm-1")])
    assert outcomes_of(await site.ended(site.task(task))) == {"svm-1": "APPLIED"}
    await site.until_svm("svm-1", lambda svm: not svm.pending_instruction_count)
    assert (await site.held("svm-1"))[ACTIVE] == waiting.serial
    assert site.truly_held("svm-1") == await site.held("svm-1")


async def test_an_agent_that_only_restarted_keeps_everything_and_reports_nothing(
    site: Site,
) -> None:
    await site.connect("svm-1")
    key = await site.new_key()
    await site.license(key)
    await site.disconnect("svm-1")
    before = len(await site.history())
    await site.reconnect("svm-1")
    await site.until_held("svm-1", {ACTIVE: key.serial})
    assert len(await site.history()) == before


async def test_R89_a_server_that_was_set_back_to_an_old_backup_takes_the_svms_word(
    site: Site,
) -> None:
    """The SVM's keyring is the truth, and no instruction version is given twice."""
    await site.connect("svm-1")
    await site.license(await site.new_key(ends=30))
    backup = _copy(site)
    second = await site.new_key(ends=40)
    await site.license(second)
    svm = site.fleet.svms["svm-1"]
    await site.fleet.stop([svm])
    await site.server.stop()
    _restore(site, backup)
    await site.start()
    await site.connect_svms(svm)
    await site.until_held("svm-1", {ACTIVE: second.serial})
    third = await site.new_key(ends=50)
    task = await site.ended(site.activate(third))
    assert (outcomes_of(task), state_of(task)) == ({"svm-1": "APPLIED"}, "SUCCEEDED")
    assert site.truly_held("svm-1") == await site.held("svm-1") == {ACTIVE: third.serial}


def _copy(site: Site) -> bytes:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(site.database)) as connection:
        return connection.serialize()


def _restore(site: Site, backup: bytes) -> None:
    import sqlite3
    from contextlib import closing

    for path in site.database.parent.glob("sparekey.db*"):
        path.unlink()
    with closing(sqlite3.connect(":memory:")) as source:
        # A database in write-ahead mode can only be opened in memory as an ordinary one.
        source.deserialize(backup[:18] + b"\x01\x01" + backup[20:])
        with closing(sqlite3.connect(site.database)) as target:
            source.backup(target)


async def test_svms_are_listed_by_id_and_by_cluster(site: Site) -> None:
    await site.connect("b", "a", cluster="east")
    await site.connect("c")
    listed = (await site.svms.ListSvms(fleet_pb2.ListSvmsRequest())).svms
    assert [svm.svm_id for svm in listed] == ["a", "b", "c"]
    listed = (await site.svms.ListSvms(fleet_pb2.ListSvmsRequest(cluster="east"))).svms
    assert [svm.svm_id for svm in listed] == ["a", "b"]


async def test_a_task_for_an_svm_that_was_excluded_meanwhile_goes_on(site: Site) -> None:
    await site.connect("svm-1")
    await site.disconnect("svm-1")
    task = await site.activate(await site.new_key())
    await exclude(site, "svm-1")
    await site.reconnect("svm-1")
    assert (await site.ended(site.task(task))).state == license_pb2.TASK_STATE_SUCCEEDED
