"""Frames that no agent should send: each ends its own stream with a typed error, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sparekey.licensing.key_files import KeySigner
from sparekey.server.fleet.changes import ChangeSvm, forget_svms
from sparekey.server.store.requests import Retry
from sparekey.v1 import agent_pb2, event_pb2, fleet_pb2, key_pb2, keyring_pb2
from sparekey.wire.errors import CallProblem

from .raw_agent import ACTIVE, RawAgent, activated, held
from .site import NOW, Site, running_site
from .words import outcomes_of, state_of, until

CONNECT = "/sparekey.v1.AgentService/Connect"
HUGE = 2**63
NEWER: Any = 77
"""A value that no enum of this release has."""


async def opened(site: Site) -> RawAgent:
    """An agent whose first full report is accepted."""
    agent = RawAgent(site)
    await agent.open()
    await agent.report(full=True)
    return agent


async def first_frame(site: Site, **frame: Any) -> CallProblem:
    """How a stream ends that opens with this frame; nothing may be written."""
    before = site.dump()
    agent = RawAgent(site)
    await agent.send(**frame)
    problem = await agent.refused()
    assert site.dump() == before
    return problem


@pytest.mark.parametrize(
    "frame",
    [
        {"report": agent_pb2.Report(sequence=1, full=True)},
        {"heartbeat": agent_pb2.Heartbeat()},
        {"test_clock_confirmation": agent_pb2.TestClockConfirmation(setting=1)},
        {},
    ],
    ids=lambda frame: next(iter(frame), "none"),
)
async def test_the_first_frame_must_be_hello(site: Site, frame: dict[str, Any]) -> None:
    problem = await first_frame(site, **frame)
    assert problem.reason == "PROTOCOL_VIOLATION"
    assert problem.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_that_ends_before_hello_is_told_so(site: Site) -> None:
    before = site.dump()
    agent = RawAgent(site)
    await agent.call.done_writing()
    assert (await agent.refused()).reason == "PROTOCOL_VIOLATION"
    assert site.dump() == before


async def test_a_second_hello_ends_the_stream(site: Site) -> None:
    agent = await opened(site)
    before = site.dump()
    await agent.send(hello=agent_pb2.Hello(svm_id="svm-1", boot_id="boot-1"))
    assert (await agent.refused()).reason == "PROTOCOL_VIOLATION"
    assert site.dump() == before


@pytest.mark.parametrize(
    ("hello", "fields"),
    [
        ({"svm_id": ""}, ["hello.svm_id"]),
        ({"svm_id": "Svm-1"}, ["hello.svm_id"]),
        ({"svm_id": "svm_1"}, ["hello.svm_id"]),
        ({"svm_id": "-svm"}, ["hello.svm_id"]),
        ({"svm_id": "svm-1\n"}, ["hello.svm_id"]),
        ({"svm_id": "s" * 64}, ["hello.svm_id"]),
        ({"svm_id": "ſvm"}, ["hello.svm_id"]),
        ({"boot_id": ""}, ["hello.boot_id"]),
        ({"boot_id": "b" * 65}, ["hello.boot_id"]),
        ({"svm_id": "../x", "boot_id": ""}, ["hello.svm_id", "hello.boot_id"]),
        (
            {"results": [agent_pb2.SlotResult(slot=ACTIVE, version=HUGE)]},
            ["hello.results.version"],
        ),
    ],
)
async def test_a_hello_with_bad_ids_names_every_field(
    site: Site, hello: dict[str, Any], fields: list[str]
) -> None:
    message = agent_pb2.Hello(**({"svm_id": "svm-1", "boot_id": "boot-1"} | hello))
    problem = await first_frame(site, hello=message)
    assert problem.reason == "INVALID_FIELD"
    assert [violation.field for violation in problem.violations] == fields


@pytest.mark.parametrize("garbage", [b"\xff", b"\x0a\xff", b"\x0a\x05abc", bytes(range(200, 255))])
async def test_garbage_frames(site: Site, garbage: bytes) -> None:
    before = site.dump()
    for first in (True, False):
        channel: Any = site.channel
        call = channel.stream_stream(CONNECT)()
        if not first:
            hello = agent_pb2.Hello(svm_id="svm-1", boot_id="boot-1")
            await call.write(agent_pb2.ConnectRequest(hello=hello).SerializeToString())
            await call.read()
            before = site.dump()
        await call.write(garbage)
        assert (await RawAgent(site, call=call).refused()).reason == "UNDECODABLE_MESSAGE"
        assert site.dump() == before


async def test_an_oversized_frame(site: Site) -> None:
    agent = await opened(site)
    before = site.dump()
    await agent.send(report=agent_pb2.Report(sequence=2, digest=bytes(1024 * 1024)))
    problem = await agent.refused()
    assert problem.reason == "MESSAGE_TOO_LARGE"
    assert problem.metadata == {"limit": "1048576"}
    assert site.dump() == before


async def test_a_frame_of_a_newer_release_is_passed_over(site: Site) -> None:
    """An unknown member of the oneof; the stream goes on."""
    agent = await opened(site)
    before = site.dump()
    # Field 99, a message; ConnectRequest keeps it as an unknown field.
    newer = agent_pb2.ConnectRequest.FromString(b"\x9a\x06\x02\x08\x01")
    await agent.call.write(newer)
    await agent.send(heartbeat=agent_pb2.Heartbeat())
    await agent.report()
    assert site.dump()["held_keys"] == before["held_keys"]
    assert (await site.svm("svm-1")).link_state == fleet_pb2.LINK_STATE_CONNECTED
    await agent.leave()


def _keyring(**more: Any) -> keyring_pb2.Keyring:
    """A keyring with one key that the storage does not know, but for what is said."""
    slot = keyring_pb2.Slot(type=key_pb2.KEY_TYPE_SERVER, role=keyring_pb2.KEY_ROLE_ACTIVE)
    fields: dict[str, Any] = {
        "slot": slot,
        "serial": "ABCD-ABCDEF-ABCDEF01",
        "kind": key_pb2.KEY_KIND_COMMERCIAL,
        "edition": key_pb2.EDITION_STANDARD,
        "installed_at": Timestamp(seconds=1),
        "not_before": Timestamp(seconds=1),
        "expires_at": Timestamp(seconds=2),
    }
    return keyring_pb2.Keyring(revision=1, keys=[keyring_pb2.HeldKey(**(fields | more))])


def _change(**more: Any) -> keyring_pb2.Keyring:
    fields: dict[str, Any] = {
        "revision": 1,
        "changed_at": Timestamp(seconds=1),
        "kind": keyring_pb2.KEYRING_CHANGE_KIND_KEY_REMOVED,
        "slot": ACTIVE,
        "serial": "ABCD-ABCDEF-ABCDEF01",
    }
    return keyring_pb2.Keyring(revision=1, changes=[keyring_pb2.KeyringChange(**(fields | more))])


@pytest.mark.parametrize(
    "report",
    [
        {"keyring": _keyring(serial="")},
        {"keyring": _keyring(serial="not a serial")},
        {"keyring": _keyring(serial="abcd-abcdef-abcdef01")},
        {"keyring": _keyring(serial="A" * 100_000)},
        {"keyring": _keyring(kind=0)},
        {"keyring": _keyring(kind=77)},
        {"keyring": _keyring(edition=77)},
        {"keyring": _keyring(not_before=Timestamp(seconds=3))},
        {"keyring": _keyring(not_before=Timestamp(seconds=-(2**62)))},
        {"keyring": _keyring(expires_at=Timestamp(seconds=2**62))},
        {"keyring": _keyring(expires_at=Timestamp(seconds=253402300800))},
        {"keyring": _keyring(installed_at=Timestamp(seconds=2**40))},
        {"keyring": _keyring(ended_at=Timestamp(seconds=2**40))},
        {"keyring": _keyring(blocked_at=Timestamp(seconds=2**40))},
        {"keyring": keyring_pb2.Keyring(revision=HUGE)},
        {"keyring": _change(changed_at=Timestamp(seconds=2**40))},
        {"keyring": _change(serial="not a serial")},
        {"keyring": _change(serial="")},
        {"placement": agent_pb2.Placement(cluster="a\nb")},
        {"placement": agent_pb2.Placement(cluster="c" * 101)},
        {"results": [agent_pb2.SlotResult(slot=ACTIVE, version=HUGE)]},
        {"sequence": HUGE, "full": True},
    ],
    ids=lambda report: " ".join(str(report).split())[:60],
)
async def test_a_report_that_breaks_the_rules_is_refused_whole(
    site: Site, report: dict[str, Any]
) -> None:
    agent = await opened(site)
    before = site.dump()
    guests = keyring_pb2.GuestMix(servers=5)
    fields: dict[str, Any] = {"sequence": 2, "guests": guests}
    message = agent_pb2.Report(**(fields | report))
    await agent.send(report=message)
    assert (await agent.refused()).reason == "INVALID_FIELD"
    assert site.dump() == before


async def test_one_agents_numbers_do_not_spoil_a_task_for_all(site: Site) -> None:
    """The highest version that an agent may claim still leaves room to go on."""
    agent = RawAgent(site)
    await agent.open(
        results=[
            agent_pb2.SlotResult(
                slot=ACTIVE, version=2**62, state=agent_pb2.SLOT_RESULT_STATE_APPLIED
            )
        ]
    )
    await agent.report(full=True)
    await site.connect("svm-2")
    task = await site.activate(await site.new_key())
    push = await agent.next_push()
    assert [one.version for one in push.instructions] == [2**62 + 1]
    await site.until_svm("svm-2", lambda svm: svm.keyring.revision == 1)
    assert outcomes_of(await site.task(task)) == {"svm-1": "PENDING", "svm-2": "APPLIED"}
    await agent.leave()


async def test_keys_and_slots_of_a_newer_release_are_left_to_the_agent(site: Site) -> None:
    agent = await opened(site)
    await agent.report(
        keyring=_keyring(slot=keyring_pb2.Slot(type=NEWER, role=keyring_pb2.KEY_ROLE_ACTIVE))
    )
    assert not (await site.svm("svm-1")).keyring.keys
    await agent.leave()


async def test_results_that_belong_to_nothing_change_nothing(site: Site) -> None:
    agent = await opened(site)
    key = await site.new_key()
    task = await site.activate(key)
    push = await agent.next_push()
    state = agent_pb2.SLOT_RESULT_STATE_APPLIED
    other = keyring_pb2.Slot(type=key_pb2.KEY_TYPE_CORES, role=keyring_pb2.KEY_ROLE_ACTIVE)
    await agent.report(
        results=[
            agent_pb2.SlotResult(slot=other, version=1, state=state),
            agent_pb2.SlotResult(slot=ACTIVE, version=7, state=state),
            agent_pb2.SlotResult(slot=ACTIVE, version=1),
            agent_pb2.SlotResult(
                slot=ACTIVE, version=1, state=agent_pb2.SLOT_RESULT_STATE_RECEIVED
            ),
            agent_pb2.SlotResult(slot=keyring_pb2.Slot(type=NEWER), version=1, state=state),
        ]
    )
    assert push.instructions[0].version == 1
    assert state_of(await site.task(task)) == "RUNNING"
    await agent.leave()


async def test_a_refusal_of_a_newer_release_is_a_refusal_without_a_known_reason(
    site: Site,
) -> None:
    agent = await opened(site)
    task = await site.activate(await site.new_key())
    push = await agent.next_push()
    result = agent_pb2.SlotResult(
        slot=ACTIVE,
        version=push.instructions[0].version,
        state=agent_pb2.SLOT_RESULT_STATE_REFUSED,
        reason=NEWER,
    )
    await agent.report(results=[result])
    (outcome,) = (await site.task(task)).outcomes
    assert outcome.message == "Refused by the SVM."
    assert state_of(await site.task(task)) == "FAILED"
    await agent.leave()


async def test_a_gap_or_an_unknown_sequence_asks_for_a_full_report(site: Site) -> None:
    agent = await opened(site)
    agent.sequence = 5
    await agent.report(guests=keyring_pb2.GuestMix(servers=3))
    frame = await agent.next()
    assert frame.WhichOneof("frame") == "full_report_wanted"
    await agent.leave()
    agent = RawAgent(site)
    assert (await agent.open(accepted_sequence=6)).full_report_wanted
    await agent.leave()


async def test_a_report_that_was_taken_before_changes_nothing(site: Site) -> None:
    agent = await opened(site)
    await agent.report(guests=keyring_pb2.GuestMix(servers=3))
    before = site.dump()
    agent.sequence = 1
    await agent.report(guests=keyring_pb2.GuestMix(servers=9))
    assert site.dump() == before
    await agent.leave()


async def test_changes_that_do_not_join_on_are_a_resynchronisation(site: Site) -> None:
    agent = await opened(site)
    key = await site.new_key()
    await agent.report(keyring=activated(key, revision=7))
    assert not await site.history(event_pb2.EVENT_KIND_KEYRING_CHANGED)
    (event,) = await site.history(event_pb2.EVENT_KIND_KEYRING_RESYNCED)
    assert [one.serial for one in event.keyring.keys] == [key.serial]
    svm = await site.svm("svm-1")
    assert (svm.keyring.revision, len(svm.keyring.keys)) == (7, 1)
    await agent.leave()


async def test_R87_changes_that_were_told_before_are_noted_once(site: Site) -> None:
    agent = await opened(site)
    first, second = await site.new_key(), await site.new_key(ends=60)
    told = activated(first)
    await agent.report(keyring=told)
    keyring = activated(second, revision=2)
    keyring.changes.insert(0, told.changes[0])
    await agent.report(keyring=keyring)
    events = await site.history(event_pb2.EVENT_KIND_KEYRING_CHANGED)
    assert [event.change.revision for event in events] == [1, 2]
    assert not await site.history(event_pb2.EVENT_KIND_KEYRING_RESYNCED)
    await agent.leave()


async def test_a_key_that_the_storage_does_not_know_is_shown_as_reported(site: Site) -> None:
    agent = await opened(site)
    key = site.make_key()
    await agent.report(keyring=activated(key))
    (shown,) = (await site.svm("svm-1")).keyring.keys
    assert shown == held(key)
    await agent.leave()


async def test_a_clone_is_refused_and_noted_and_the_first_one_stays(site: Site) -> None:
    agent = await opened(site)
    before = site.dump()
    clone = RawAgent(site, boot_id="boot-2")
    await clone.send(hello=agent_pb2.Hello(svm_id="svm-1", boot_id="boot-2"))
    problem = await clone.refused()
    assert (problem.reason, problem.metadata) == ("CLONED_AGENT", {"svm_id": "svm-1"})
    assert problem.retry_after is not None
    (event,) = await site.history(event_pb2.EVENT_KIND_CLONE_REFUSED)
    assert event.svm_id == "svm-1"
    assert site.dump()["svms"] == before["svms"]
    await agent.report()
    await agent.leave()


async def test_an_agent_that_is_silent_for_too_long_is_told_to_come_again(
    tmp_path: Path, vendor: KeySigner
) -> None:
    """Else it would take a stream for open that the server has given up."""
    async with running_site(tmp_path, vendor, heartbeat=1) as site:
        agent = await opened(site)
        assert (await agent.refused()).reason == "AGENT_SILENT"
        svm = await site.svm("svm-1")
        assert svm.link_state == fleet_pb2.LINK_STATE_OFFLINE


async def test_the_same_start_of_an_agent_takes_the_place_of_its_older_stream(site: Site) -> None:
    older = await opened(site)
    newer = RawAgent(site)
    newer.sequence = 1
    await newer.open(accepted_sequence=1)
    assert (await older.refused()).reason == "STREAM_REPLACED"
    await newer.report()
    assert (await site.svm("svm-1")).link_state == fleet_pb2.LINK_STATE_CONNECTED
    await newer.leave()
    await until(lambda: not len(site.server._link.sessions))


async def test_an_svm_that_was_forgotten_while_connecting_must_come_again(site: Site) -> None:
    """Its row is gone under an open stream, as by another operator's call at the same moment."""
    agent = await opened(site)
    change = ChangeSvm(
        "svm-1", connected=False, actor="operator", retry=Retry(None, b""), validate_only=False
    )
    await site.server._writer.write(forget_svms, change)
    await agent.send(report=agent_pb2.Report(sequence=2))
    problem = await agent.refused()
    assert problem.reason == "SVM_NOT_FOUND"
    assert "connect again" in problem.message
    again = await opened(site)
    assert (await site.svm("svm-1")).registered_at.ToDatetime(tzinfo=NOW.tzinfo) == NOW
    await again.leave()
