"""What the agent tells the server, and when it tells nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparekey.agent.agent import Agent
from sparekey.agent.inventory.fixed import FixedInventory
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.keyring_record import MemoryKeyringStorage
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keys import LicenseKey
from sparekey.v1 import agent_pb2, keyring_pb2
from sparekey.wire.report_digest import report_digest

if TYPE_CHECKING:
    from integration.agent.conftest import ScriptedServer

StartAgent = Callable[..., Agent]
MakeKey = Callable[..., LicenseKey]
Hold = Callable[..., agent_pb2.Instruction]
FAR = datetime(2031, 1, 1, tzinfo=UTC)
INVENTORY = Inventory("site-a", GuestMix(3, 2, 1), "host-1", HostCpu(2, 32))


def digest_of(report: agent_pb2.Report) -> bytes:
    return report_digest(report.placement, report.guests, report.host_cpu, report.keyring)


async def test_an_unknown_agent_is_asked_for_a_full_report(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    agent = start_agent()
    stream = await server.stream()
    hello = await stream.welcome(full=True)
    assert hello.svm_id == "svm-1"
    assert len(hello.boot_id) == 16
    assert hello.agent_version
    assert hello.accepted_sequence == 0
    assert hello.keyring_revision == 0
    assert not hello.results
    assert hello.HasField("local_time")
    report = await stream.next_report()
    assert report.full
    assert report.sequence == 1
    assert report.placement.cluster == "site-a"
    assert report.guests == keyring_pb2.GuestMix(servers=3, desktops=2, unknown=1)
    assert report.host_cpu == keyring_pb2.HostCpu(host_uuid="host-1", processors=2, cores=32)
    assert report.HasField("keyring")
    assert report.digest == digest_of(report) == hello.report_digest
    stream.accept(report)
    async with asyncio.timeout(10):
        await agent.connected.wait()


async def test_a_delta_holds_only_what_changed(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    source = FixedInventory(INVENTORY)
    start_agent(source=source)
    stream = await server.stream()
    whole = await stream.welcome_whole()
    source.set(replace(INVENTORY, guests=GuestMix(4, 2, 1)))
    delta = await stream.next_report()
    assert not delta.full
    assert delta.sequence == whole.sequence + 1
    assert delta.guests.servers == 4
    assert not any(delta.HasField(name) for name in ("placement", "host_cpu", "keyring"))
    whole.MergeFrom(agent_pb2.Report(guests=delta.guests))
    assert delta.digest == digest_of(whole)
    source.set(Inventory("site-b", GuestMix(4, 2, 1), "host-1", HostCpu(2, 64)))
    delta = await stream.next_report()
    assert delta.placement.cluster == "site-b"
    assert delta.host_cpu.cores == 64
    assert not delta.HasField("guests")


async def test_a_section_that_became_empty_is_present(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    source = FixedInventory(INVENTORY)
    start_agent(source=source)
    stream = await server.stream()
    await stream.welcome_whole()
    source.set(replace(INVENTORY, cluster="", guests=GuestMix()))
    delta = await stream.next_report()
    assert delta.HasField("placement")
    assert delta.placement.cluster == ""
    assert delta.HasField("guests")


async def test_an_unchanged_agent_that_reconnects_sends_only_a_small_hello(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    start_agent(svm_id="svm-site-a-00017")
    stream = await server.stream()
    await stream.welcome_whole()
    stream.push(hold(make_key(), 1_000_001))
    stream.push(hold(make_key(ends=FAR), 1_000_002, reserve=True))
    report = await stream.next_report()
    stream.accept(report)
    if report.keyring.revision == 1:
        report = await stream.next_report()
        stream.accept(report)
    stream.end()
    again = await server.stream()
    hello = await again.welcome(heartbeat=0.05)
    assert hello.report_digest == report.digest
    assert hello.keyring_revision == 2
    assert hello.accepted_sequence == report.sequence
    assert [result.version for result in hello.results] == [1_000_001, 1_000_002]
    assert hello.ByteSize() < 300
    # The first frame after Hello is a heartbeat: nothing was reported.
    assert (await again.next()).WhichOneof("frame") == "heartbeat"
    assert (await again.next()).WhichOneof("frame") == "heartbeat"


async def test_heartbeats_count_from_the_last_frame(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    source = FixedInventory(INVENTORY)
    start_agent(source=source)
    stream = await server.stream()
    await stream.welcome(full=True, heartbeat=0.4)
    await stream.next_report()
    loop = asyncio.get_running_loop()
    before = loop.time()
    source.set(replace(INVENTORY, cluster="site-b"))
    await stream.next_report()
    frame = await stream.next()
    assert frame.WhichOneof("frame") == "heartbeat"
    assert frame.heartbeat.HasField("local_time")
    assert loop.time() - before >= 0.3


async def test_a_lost_report_makes_the_next_one_whole(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    source = FixedInventory(INVENTORY)
    start_agent(source=source)
    stream = await server.stream()
    await stream.welcome_whole()
    source.set(replace(INVENTORY, cluster="site-b"))
    lost = await stream.next_report()
    stream.end()
    stream = await server.stream()
    hello = await stream.welcome()  # as if the report had reached the disk, and its receipt not us
    assert hello.accepted_sequence == lost.sequence - 1
    source.set(replace(INVENTORY, cluster="site-c"))
    report = await stream.next_report()
    assert report.full
    assert report.sequence > lost.sequence
    assert report.digest == digest_of(report)


async def test_a_full_report_is_sent_when_wanted(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    start_agent()
    stream = await server.stream()
    await stream.welcome_whole()
    stream.push(hold(make_key(), 1))
    delta = await stream.next_report()
    stream.send(full_report_wanted=agent_pb2.FullReportWanted(accepted_keyring_revision=0))
    report = await stream.next_report()
    assert report.full
    assert report.sequence == delta.sequence + 1
    assert list(report.keyring.changes) == list(delta.keyring.changes)
    assert list(report.results) == list(delta.results)
    assert report.digest == delta.digest == digest_of(report)


async def test_after_a_restart_the_first_report_is_whole_and_the_numbers_go_on(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    storage, source = MemoryKeyringStorage(), FixedInventory(INVENTORY)
    first = start_agent(storage=storage, source=source)
    stream = await server.stream()
    await stream.welcome_whole()
    await first.stop()
    assert stream.left.is_set()
    start_agent(storage=storage, source=source)
    stream = await server.stream()
    hello = await stream.welcome()
    assert hello.accepted_sequence == 1
    source.set(replace(INVENTORY, cluster="site-b"))
    report = await stream.next_report()
    assert report.full
    assert report.sequence == 2


async def test_a_lost_keyring_is_told_by_its_step_back(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    start_agent()
    stream = await server.stream()
    hello = await stream.welcome(full=True, revision=17)
    assert hello.keyring_revision == 0
    report = await stream.next_report()
    assert report.HasField("keyring")
    assert report.keyring == keyring_pb2.Keyring()
    stream.accept(report)
    stream.push(hold(make_key(), 18))
    report = await stream.next_report()
    assert [change.revision for change in report.keyring.changes] == [1]
