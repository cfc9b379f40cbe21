"""What an agent's return costs, and what it brings."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from faults.proxy import Proxy

from sparekey.agent.keyring_file import KeyringFile
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.v1 import agent_pb2, event_pb2, keyring_pb2

from .site import PATIENCE, TRUSTED, RawAgent, Site, make_key, until

SVM = "svm-1"
FULL = {
    "full": True,
    "placement": agent_pb2.Placement(cluster="north"),
    "guests": keyring_pb2.GuestMix(servers=5),
    "host_cpu": keyring_pb2.HostCpu(processors=2, cores=32),
    "keyring": keyring_pb2.Keyring(),
}


async def test_an_unchanged_agent_that_reconnects_sends_under_300_bytes(site: Site) -> None:
    key = make_key(1, timedelta(days=30))
    await site.add(key)
    sent: list[bytes] = []
    async with Proxy(site.server.address) as proxy:
        proxy.watch = sent.append
        fleet = SimulatedFleet(proxy.address, TRUSTED)
        async with fleet:
            svm = make_svm(SVM, cluster="north", servers=3)
            await fleet.start([svm])
            await site.activate(key, SVM)
            await site.event_of(event_pb2.EVENT_KIND_KEYRING_CHANGED, svm_id=SVM)
            agent = svm.running_agent
            await until(lambda: not agent.keeper.changes_since(0))
            reported = agent.keeper.accepted_sequence
            assert reported
            sent.clear()
            for connection in tuple(proxy.connections):
                connection.cut()
            await until(lambda: not agent.connected.is_set())
            await until(agent.connected.is_set)
            # A report would follow at once; a heartbeat comes after 1.8 seconds.
            await asyncio.sleep(0.5)
    frames = [piece for piece in sent if SVM.encode() in piece]
    assert frames, "the Hello must have been seen"
    # With the transport's own preface and headers, of which most is the same for any call.
    assert sum(len(piece) for piece in sent) < 300 + 400
    hello = agent_pb2.Hello(
        svm_id=SVM,
        boot_id="0" * 16,
        agent_version="0.1.0",
        accepted_sequence=agent.keeper.accepted_sequence,
        report_digest=bytes(32),
        keyring_revision=agent.keeper.revision,
    )
    assert hello.ByteSize() < 300
    assert agent.keeper.accepted_sequence == reported, "no report was sent after the return"


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


async def test_a_second_agent_from_a_copied_state_folder_is_refused(
    site: Site, tmp_path: Path
) -> None:
    fleet = SimulatedFleet(site.server.address, TRUSTED)
    copies = SimulatedFleet(site.server.address, TRUSTED)
    original = make_svm(SVM)
    (tmp_path / "original").mkdir()
    original.storage = KeyringFile(tmp_path / "original")
    async with fleet, copies:
        await fleet.start([original])
        (tmp_path / "copy").mkdir()
        for file in (tmp_path / "original").iterdir():
            (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
        clone = make_svm(SVM)
        clone.storage = KeyringFile(tmp_path / "copy")
        copies.begin([clone])
        event = await site.event_of(event_pb2.EVENT_KIND_CLONE_REFUSED, svm_id=SVM)
        assert "cloned" in event.message
        assert original.running_agent.connected.is_set()
        assert not clone.running_agent.connected.is_set()


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
