"""Instructions over the link: followed once, answered as often as they come (R89)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sparekey.agent.agent import Agent
from sparekey.agent.keyring_file import KeyringFile
from sparekey.agent.keyring_record import KeyringRecord, MemoryKeyringStorage
from sparekey.agent.verified_keys import read_verified
from sparekey.licensing.keys import KeyType, LicenseKey
from sparekey.runtime.clock import SettableClock, SystemClock
from sparekey.v1 import agent_pb2, key_pb2, keyring_pb2, license_pb2
from sparekey.wire.timestamps import from_timestamp, to_timestamp

if TYPE_CHECKING:
    from integration.agent.conftest import ScriptedServer

StartAgent = Callable[..., Agent]
MakeKey = Callable[..., LicenseKey]
Hold = Callable[..., agent_pb2.Instruction]
WaitUntil = Callable[[Callable[[], object]], Awaitable[None]]
NOW = datetime(2030, 1, 1, tzinfo=UTC)
ACTIVE, RESERVE = keyring_pb2.KEY_ROLE_ACTIVE, keyring_pb2.KEY_ROLE_RESERVE
APPLIED = agent_pb2.SLOT_RESULT_STATE_APPLIED
REFUSED = agent_pb2.SLOT_RESULT_STATE_REFUSED


class FailingStorage(MemoryKeyringStorage):
    """A disk that is full while a test wants it to be."""

    full = False

    def save(self, record: KeyringRecord) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().save(record)


async def test_R89_the_result_comes_in_one_frame_with_the_keyring(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    start_agent()
    stream = await server.stream()
    await stream.welcome_whole()
    key, reserve = make_key(), make_key(ends=NOW + timedelta(days=400))
    stream.push(hold(key, 5), hold(reserve, 6, reserve=True))
    report = await stream.next_report()
    assert [(result.version, result.state) for result in report.results] == [
        (5, APPLIED),
        (6, APPLIED),
    ]
    assert report.keyring.revision == 2
    assert [change.revision for change in report.keyring.changes] == [1, 2]
    assert [(held.slot.role, held.serial) for held in report.keyring.keys] == [
        (ACTIVE, key.serial),
        (RESERVE, reserve.serial),
    ]
    assert not report.HasField("guests")


async def test_R89_a_push_that_comes_again_is_answered_and_not_followed(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    agent = start_agent()
    stream = await server.stream()
    await stream.welcome_whole()
    instruction = hold(make_key(), 5)
    stream.push(instruction)
    first = await stream.next_report()
    stream.accept(first)
    stream.push(instruction)
    second = await stream.next_report()
    assert list(second.results) == list(first.results)
    assert not second.HasField("keyring")
    assert second.sequence == first.sequence + 1
    assert agent.keeper.revision == 1


async def test_an_instruction_of_a_newer_server_is_refused_and_hurts_nothing(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    start_agent()
    stream = await server.stream()
    await stream.welcome_whole()
    slot = keyring_pb2.Slot(type=99, role=ACTIVE)  # type: ignore[arg-type]
    unknown = agent_pb2.Instruction(slot=slot, version=3, key_file=b"something")
    actionless = hold(make_key(KeyType.DESKTOP), 4)
    actionless.ClearField("key_file")
    stream.push(unknown, actionless, hold(make_key(), 5))
    report = await stream.next_report()
    by_version = {result.version: result for result in report.results}
    assert by_version[3].state == by_version[4].state == REFUSED
    assert by_version[3].slot == slot
    assert by_version[3].reason == by_version[4].reason == 0
    assert by_version[5].state == APPLIED


async def test_R80_a_forged_key_file_is_refused(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    start_agent()
    stream = await server.stream()
    await stream.welcome_whole()
    forged = hold(make_key(), 5)
    forged.key_file = forged.key_file.replace(b'"unit_limit":100', b'"unit_limit":999')
    stream.push(forged)
    report = await stream.next_report()
    assert [(result.state, result.reason) for result in report.results] == [
        (REFUSED, license_pb2.REFUSAL_REASON_INVALID_KEY_FILE)
    ]
    assert not report.HasField("keyring")


async def test_a_full_disk_gives_no_result_and_the_push_is_followed_when_it_comes_again(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    storage = FailingStorage()
    agent = start_agent(storage=storage)
    stream = await server.stream()
    await stream.welcome(full=True, revision=0, heartbeat=0.1)
    await stream.next_report()
    storage.full = True
    instruction = hold(make_key(), 5)
    stream.push(instruction)
    assert (await stream.next()).WhichOneof("frame") == "heartbeat"
    assert agent.keeper.revision == 0
    storage.full = False
    stream.push(instruction)
    report = await stream.next_report()
    assert [result.state for result in report.results] == [APPLIED]


async def test_R87_the_reserve_takes_over_on_time_without_a_server(
    server: ScriptedServer,
    start_agent: StartAgent,
    make_key: MakeKey,
    hold: Hold,
    wait_until: WaitUntil,
) -> None:
    agent = start_agent(clock=SystemClock())
    stream = await server.stream()
    await stream.welcome_whole()
    begin = datetime.now(UTC)
    ends = begin + timedelta(seconds=1.5)
    started = begin - timedelta(days=1)
    key = make_key(starts=started, ends=ends)
    reserve = make_key(starts=started, ends=ends + timedelta(days=400))
    stream.push(hold(key, 1), hold(reserve, 2, reserve=True))
    report = await stream.next_report()
    stream.accept(report)
    await wait_until(lambda: agent.keeper.accepted_sequence == report.sequence)
    await server.stop()
    await wait_until(lambda: agent.keeper.revision == 3)
    assert timedelta(0) <= datetime.now(UTC) - ends < timedelta(seconds=2)
    await server.start()
    again = await server.stream()
    hello = await again.welcome(full=True, revision=2)
    assert hello.keyring_revision == 3
    report = await again.next_report()
    (change,) = report.keyring.changes
    assert change.revision == 3
    assert change.kind == keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED
    assert change.serial == reserve.serial
    assert change.previous_serial == key.serial
    assert from_timestamp(change.changed_at) == ends


async def test_a_test_clock_is_confirmed_after_what_came_due_was_sent(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    clock = SettableClock(datetime(1970, 1, 1, tzinfo=UTC))
    start_agent(clock=clock, test_clock=True)
    stream = await server.stream()
    now = agent_pb2.TestClockTime(time=to_timestamp(NOW), setting=41)
    hello = await stream.welcome(full=True, revision=0, test_clock_time=now)
    assert hello.follows_test_clock
    assert not hello.HasField("local_time")
    report = await stream.next_report()
    assert from_timestamp(report.local_time) == NOW
    assert (await stream.next()).test_clock_confirmation.setting == 41
    stream.push(
        hold(make_key(), 1), hold(make_key(ends=NOW + timedelta(days=400)), 2, reserve=True)
    )
    await stream.next_report()
    later = NOW + timedelta(days=60)
    stream.send(test_clock_time=agent_pb2.TestClockTime(time=to_timestamp(later), setting=42))
    report = await stream.next_report()
    (change,) = report.keyring.changes
    assert change.kind == keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED
    assert from_timestamp(change.changed_at) == NOW + timedelta(days=30)
    assert (await stream.next()).test_clock_confirmation.setting == 42
    assert clock.now() == later
    # With nothing due there is nothing but the confirmation.
    stream.send(test_clock_time=agent_pb2.TestClockTime(time=to_timestamp(later), setting=43))
    assert (await stream.next()).test_clock_confirmation.setting == 43
    stream.end()
    assert (await (await server.stream()).expect_hello()).HasField("local_time")


async def test_an_agent_that_was_not_told_to_follow_a_test_clock_does_not(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    clock = SettableClock(NOW)
    start_agent(clock=clock)
    stream = await server.stream()
    later = to_timestamp(NOW + timedelta(days=60))
    await stream.welcome(
        heartbeat=0.05, test_clock_time=agent_pb2.TestClockTime(time=later, setting=1)
    )
    assert (await stream.next()).WhichOneof("frame") == "heartbeat"
    assert clock.now() == NOW


async def test_a_thousand_svms_of_one_process_verify_a_key_once(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    agents = [start_agent(svm_id=f"svm-{number}") for number in range(40)]
    instruction = hold(make_key(KeyType.CORES), 1)
    instruction.slot.type = key_pb2.KEY_TYPE_CORES
    misses = read_verified.cache_info().misses
    for _ in agents:
        stream = await server.stream()
        await stream.welcome_whole()
        stream.push(instruction)
        report = await stream.next_report()
        assert [result.state for result in report.results] == [APPLIED]
    assert read_verified.cache_info().misses == misses + 1


async def test_after_damage_the_server_is_told_of_the_loss_and_restores_the_keyring(
    server: ScriptedServer,
    start_agent: StartAgent,
    make_key: MakeKey,
    hold: Hold,
    tmp_path: Path,
) -> None:
    agent = start_agent(storage=KeyringFile(tmp_path))
    stream = await server.stream()
    await stream.welcome_whole()
    instruction = hold(make_key(), 9)
    stream.push(instruction)
    stream.accept(await stream.next_report())
    await agent.stop()
    path = tmp_path / "keyring.json"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    start_agent(storage=KeyringFile(tmp_path))
    assert path.with_name("keyring.json.damaged-1").read_bytes() == damaged
    stream = await server.stream()
    hello = await stream.welcome(full=True, revision=1)
    assert hello.keyring_revision == 0
    assert not hello.results
    assert (await stream.next_report()).keyring == keyring_pb2.Keyring()
    stream.push(instruction)
    report = await stream.next_report()
    assert [result.state for result in report.results] == [APPLIED]
    assert [change.revision for change in report.keyring.changes] == [1]
