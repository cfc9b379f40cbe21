"""What an agent's return costs, and what it brings."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from faults.proxy import Proxy

from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import KeyType
from sparekey.licensing.units import Guest
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.v1 import agent_pb2, event_pb2, key_pb2, keyring_pb2, license_pb2
from sparekey.wire.timestamps import to_timestamp

from .site import PATIENCE, TRUSTED, RawAgent, Site, make_key, until
from .wire_frames import frames_of

SVM = "svm-1"
THIRTY_GUESTS = tuple(
    Guest(
        f"4c4c4544-0042-3510-8056-{number:012x}", OsClass.SERVER if number < 20 else OsClass.DESKTOP
    )
    for number in range(30)
)
FULL = {
    "full": True,
    "placement": agent_pb2.Placement(cluster="north"),
    "guests": keyring_pb2.GuestMix(servers=5),
    "host_cpu": keyring_pb2.HostCpu(processors=2, cores=32),
    "keyring": keyring_pb2.Keyring(),
}


async def test_an_unchanged_agent_that_reconnects_sends_under_300_bytes(site: Site) -> None:
    """With thirty guests told one by one, two keys and the results of both pushes."""
    active, reserve = make_key(1, timedelta(days=30)), make_key(2, timedelta(days=60))
    await site.add(active, reserve)
    sent: list[bytes] = []
    async with Proxy(site.server.address) as proxy:
        proxy.watch = sent.append
        fleet = SimulatedFleet(proxy.address, TRUSTED)
        async with fleet:
            svm = make_svm(SVM, cluster="north", servers=20, desktops=10)
            inventory = svm.inventory.inventory
            svm.inventory.set(replace(inventory, guest_list=THIRTY_GUESTS))
            await fleet.start([svm])
            await site.activate(active, SVM)
            await site.renew(reserve, SVM)
            agent = svm.running_agent
            await until(lambda: agent.keeper.revision == 2)
            # All is on the server's disk, and the agent has been told.
            await until(lambda: not agent.keeper.changes_since(0))
            reported = agent.keeper.accepted_sequence
            assert reported
            assert len(agent.keeper.results) == 2
            told = sum(map(len, frames_of(b"".join(sent))))
            assert told > 1500, "the thirty guests were told at first"
            sent.clear()
            for connection in tuple(proxy.connections):
                connection.cut()
            await until(lambda: not agent.connected.is_set())
            await until(agent.connected.is_set)
            # A report would follow at once; what follows now is the heartbeat after 1.8 seconds.
            await until(lambda: len(frames_of(b"".join(sent))) == 2)
    hello, heartbeat = map(agent_pb2.ConnectRequest.FromString, frames_of(b"".join(sent)))
    assert [one.WhichOneof("frame") for one in (hello, heartbeat)] == ["hello", "heartbeat"]
    assert len(hello.hello.results) == 2
    assert hello.ByteSize() < 300
    assert agent.keeper.accepted_sequence == reported, "no report was sent after the return"


def test_even_the_largest_hello_is_under_300_bytes() -> None:
    result = agent_pb2.SlotResult(
        slot=keyring_pb2.Slot(type=key_pb2.KEY_TYPE_CORES, role=keyring_pb2.KEY_ROLE_RESERVE),
        version=10_000,
        state=agent_pb2.SLOT_RESULT_STATE_REFUSED,
        reason=license_pb2.REFUSAL_REASON_INVALID_KEY_FILE,
    )
    hello = agent_pb2.Hello(
        svm_id="s" * 63,
        boot_id="0" * 16,
        agent_version="0.1.0",
        accepted_sequence=1_000_000,
        report_digest=bytes(32),
        keyring_revision=10_000,
        results=[result] * len(KeyType) * len(Role),
        local_time=to_timestamp(datetime.now(UTC)),
    )
    assert agent_pb2.ConnectRequest(hello=hello).ByteSize() < 300


async def test_ten_pushes_to_an_svm_that_is_away_cost_one_when_it_is_back(site: Site) -> None:
    keys = [make_key(number, timedelta(days=30 + number)) for number in range(10)]
    await site.add(*keys)
    agent = RawAgent(site, SVM)
    await agent.hello()
    await agent.report(sequence=1, digest=b"d", **FULL)
    await agent.next("report_accepted")
    await agent.call.done_writing()
    for key in keys:
        await site.activate(key, SVM)
    back = RawAgent(site, SVM)
    welcome = await back.hello(accepted_sequence=1, report_digest=b"d")
    assert not welcome.full_report_wanted
    push = (await back.next("push")).push
    assert [one.version for one in push.instructions] == [10]
    assert keys[-1].serial.encode() in push.instructions[0].key_file
    back.call.cancel()


async def test_R87_a_promotion_without_a_server_is_told_at_its_true_instant(site: Site) -> None:
    active, reserve = make_key(1, timedelta(seconds=4)), make_key(2, timedelta(days=30))
    await site.add(active, reserve)
    async with Proxy(site.server.address) as proxy:
        fleet = SimulatedFleet(proxy.address, TRUSTED)
        async with fleet:
            svm = make_svm(SVM, servers=3)
            await fleet.start([svm])
            await site.activate(active, SVM)
            await site.renew(reserve, SVM)
            agent = svm.running_agent
            promoted = asyncio.Event()
            await until(lambda: agent.keeper.revision == 2)
            await site.event_of(event_pb2.EVENT_KIND_KEYRING_CHANGED, key_serial=reserve.serial)
            agent.keeper.listen(promoted.set)
            proxy.refuses = True
            for connection in tuple(proxy.connections):
                connection.cut()
            async with asyncio.timeout(PATIENCE):
                await promoted.wait()
            assert not agent.connected.is_set()
            told = await site.events(event_pb2.EVENT_KIND_KEYRING_CHANGED)
            assert len(told) == 2, "the server cannot know yet"
            proxy.refuses = False
            event = await site.event_of(
                event_pb2.EVENT_KIND_KEYRING_CHANGED, key_serial=reserve.serial, task_id=""
            )
    assert event.change.kind == keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED
    assert active.expires_at is not None
    assert event.occurred_at.ToMicroseconds() == int(active.expires_at.timestamp() * 1e6)
    assert event.recorded_at.ToMicroseconds() > event.occurred_at.ToMicroseconds()


async def test_an_instruction_that_is_only_received_so_far_is_not_sent_again_at_once(
    site: Site,
) -> None:
    key = make_key(1, timedelta(days=30))
    await site.add(key)
    agent = RawAgent(site, SVM)
    await agent.hello()
    await agent.report(sequence=1, digest=b"d", **FULL)
    await site.activate(key, SVM)
    instruction = (await agent.next("push")).push.instructions[0]
    received = agent_pb2.SlotResult(
        slot=instruction.slot,
        version=instruction.version,
        state=agent_pb2.SLOT_RESULT_STATE_RECEIVED,
    )
    await agent.report(sequence=2, digest=b"d", results=[received])
    again = (await agent.next("push")).push.instructions[0]
    assert again == instruction, "it is sent again only after a deadline of its own"
    received.state = agent_pb2.SLOT_RESULT_STATE_APPLIED
    await agent.report(sequence=3, digest=b"d", results=[received])
    await site.event_of(event_pb2.EVENT_KIND_TASK_FINISHED)
    agent.call.cancel()
