"""What the server tells and refuses as time passes, on its own parts without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from sparekey.activation.v1 import activation_pb2
from sparekey.server.fleet.changes import ChangeSvm, forget_svms
from sparekey.server.fleet.messages import svm_message
from sparekey.server.keys.blocking import MarkBlocked, mark_blocked
from sparekey.server.life.terms import Terms, load_terms, set_block_grace
from sparekey.server.store.events import EventFilter, page_of_events
from sparekey.server.store.guests import units_in_use
from sparekey.server.store.reader import Connection
from sparekey.server.store.requests import Retry
from sparekey.server.store.svms import SvmRecord, load_svms
from sparekey.v1 import agent_pb2, event_pb2, fleet_pb2, keyring_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import to_duration, to_timestamp

from .year_server import RuleSvm, YearServer, guest_list, instant, license_key
from .year_svm import DAY, PlainKey

CODE_SERIAL, NEXT_SERIAL = f"{1:032X}", f"{2:032X}"


def bought(number: int, *, days: int = 100, limit: int = 10) -> PlainKey:
    serial = f"{number:04X}-{number:06X}-{number:08X}"
    return PlainKey(serial, "SERVER", "COMMERCIAL", "STANDARD", 0, days * DAY, limit, False)


def rented(serial: str, days: int) -> PlainKey:
    return PlainKey(serial, "SERVER", "SUBSCRIPTION", "STANDARD", 0, days * DAY, 10, True)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[YearServer]:
    server = YearServer(tmp_path, seed=1)
    await server.writer.start()
    server.svms = {name: RuleSvm(name) for name in ("svm-1", "svm-2")}
    await server.greet(server.svms)
    yield server
    await server.stop()


async def at(server: YearServer, hour: int) -> None:
    server.clock.set(instant(hour))
    await server.scheduler.catch_up()
    await server.deliver(list(server.svms))


async def told(server: YearServer, *kinds: event_pb2.EventKind.ValueType) -> list[event_pb2.Event]:
    wanted = EventFilter(kinds=kinds)
    return list(await server.reader.read(page_of_events, wanted, 0, 1000))


def provides(server: YearServer, serial: str, state: str, end: int, grace_days: int) -> None:
    server.provider.subscriptions[serial] = activation_pb2.Subscription(
        serial=serial,
        state=activation_pb2.SubscriptionState.Value(f"SUBSCRIPTION_STATE_{state}"),
        ends_at=to_timestamp(instant(end)),
        grace=to_duration(timedelta(days=grace_days)),
    )


async def test_R82_activation_is_refused_while_the_clock_is_behind_its_mark(
    server: YearServer,
) -> None:
    key = bought(1)
    await server.add_key(license_key(key))
    await at(server, 100)
    server.clock.set(instant(100) - timedelta(minutes=5))
    await server.task(key.serial, "ACTIVE", ["svm-1"])
    server.clock.set(instant(100) - timedelta(minutes=5, microseconds=1))
    await server.scheduler.catch_up()
    with pytest.raises(CallRefused) as refused:
        await server.task(key.serial, "ACTIVE", ["svm-2"])
    assert refused.value.reason_name == "CLOCK_ROLLBACK"
    await at(server, 101)
    await server.task(key.serial, "ACTIVE", ["svm-2"])


async def test_R82_a_clock_that_goes_back_and_comes_again_is_told_once_each(
    server: YearServer,
) -> None:
    for hour in (100, 50, 51, 52, 101, 102):
        await at(server, hour)
    rollback, recovered = (
        event_pb2.EVENT_KIND_CLOCK_ROLLBACK,
        event_pb2.EVENT_KIND_CLOCK_RECOVERED,
    )
    assert [event.kind for event in await told(server, rollback, recovered)] == [
        rollback,
        recovered,
    ]


async def test_R65_R66_R92_more_units_than_the_limit_are_told_and_stop_nothing(
    server: YearServer,
) -> None:
    key = bought(1, limit=10)
    await server.add_key(license_key(key))
    await at(server, 1)
    for servers, name in ((6, "svm-1"), (6, "svm-2")):
        server.svms[name].surroundings = agent_pb2.Report(
            guests=keyring_pb2.GuestMix(servers=servers)
        )
    await server.hear(list(server.svms))
    await server.task(key.serial, "ACTIVE", ["svm-1", "svm-2"])
    await server.deliver(list(server.svms))
    await at(server, DAY)
    (event,) = await told(server, event_pb2.EVENT_KIND_LIMIT_BAND)
    assert (event.severity, event.units_used, event.unit_limit) == (
        event_pb2.SEVERITY_CRITICAL,
        12,
        10,
    )
    assert all(len(svm.keyring.slots) == 1 for svm in server.svms.values())


async def test_R68_R91_a_guest_that_moved_or_went_is_remembered_for_thirty_days(
    server: YearServer,
) -> None:
    key = bought(1)
    await server.add_key(license_key(key))
    await at(server, 1)
    await server.task(key.serial, "ACTIVE", ["svm-1", "svm-2"])
    await server.deliver(list(server.svms))

    async def guests(name: str, *vms: str) -> int:
        listed = guest_list(dict.fromkeys(vms, "SERVER"), {})
        server.svms[name].surroundings = agent_pb2.Report(guest_list=listed)
        await server.hear([name])
        return await count()

    async def count() -> int:
        now = server.clock.now()
        return (await server.reader.read(units_in_use, now)).get(key.serial, 0)

    assert await guests("svm-1", "vm-1", "vm-2") == 2
    assert await guests("svm-2", "vm-2") == 2
    assert await guests("svm-1", "vm-1") == 2
    assert await guests("svm-1") == 2
    await at(server, 1 + 30 * DAY - 1)
    assert await count() == 2
    await at(server, 1 + 30 * DAY)
    assert await count() == 1


async def test_R58_R60_R62_R96_the_grace_and_the_end_are_told_at_their_own_instants(
    server: YearServer,
) -> None:
    await server.add_key(license_key(rented(CODE_SERIAL, 10)))
    provides(server, CODE_SERIAL, "ACTIVE", 10 * DAY, 5)
    await at(server, 1)
    await server.task(CODE_SERIAL, "ACTIVE", ["svm-1"])
    await server.deliver(["svm-1"])
    # The server was down, and the activation server does not answer.
    server.provider.reachable = False
    await at(server, 20 * DAY)
    events = await told(server, event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED)
    states = [(int(one.subscription.state), one.occurred_at) for one in events]
    assert states == [
        (int(activation_pb2.SUBSCRIPTION_STATE_ACTIVE), to_timestamp(instant(1))),
        (int(activation_pb2.SUBSCRIPTION_STATE_GRACE), to_timestamp(instant(10 * DAY))),
        (int(activation_pb2.SUBSCRIPTION_STATE_EXPIRED), to_timestamp(instant(15 * DAY))),
    ]
    assert "5 days of it are left" in events[1].message
    # From here on nobody asks: a renewal waits for the operator.
    server.provider.reachable = True
    provides(server, CODE_SERIAL, "ACTIVE", 60 * DAY, 5)
    await at(server, 21 * DAY)
    assert len(await told(server, event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED)) == 3


async def test_R52_R61_in_a_grace_only_an_older_task_runs_and_it_brings_the_renewed_key(
    server: YearServer,
) -> None:
    commercial, renewed = bought(1), rented(NEXT_SERIAL, 60)
    await server.add_key(license_key(rented(CODE_SERIAL, 10)))
    await server.add_key(license_key(commercial))
    provides(server, CODE_SERIAL, "ACTIVE", 10 * DAY, 5)
    await at(server, 1)
    task_id, _ = await server.task(CODE_SERIAL, "ACTIVE", ["svm-1"])
    older, _ = await server.task(commercial.serial, "ACTIVE", ["svm-2"])
    await server.deliver(list(server.svms))
    provides(server, CODE_SERIAL, "GRACE", 10 * DAY, 5)
    await at(server, 11 * DAY)
    _, refusals = await server.task(commercial.serial, "ACTIVE", ["svm-1", "svm-2"])
    assert refusals == {"svm-1": "SUBSCRIPTION_IN_GRACE"}
    with pytest.raises(CallRefused) as refused:
        await server.task(CODE_SERIAL, "ACTIVE", ["svm-2"])
    assert refused.value.reason_name == "SUBSCRIPTION_IN_GRACE"
    assert await server.run_again(older) == (commercial.serial, {})

    provides(server, CODE_SERIAL, "EXPIRED", 10 * DAY, 5)
    await at(server, 16 * DAY)
    provides(server, CODE_SERIAL, "ACTIVE", 60 * DAY, 5)
    server.provider.successors[CODE_SERIAL] = license_key(renewed)
    assert await server.run_again(task_id) == (NEXT_SERIAL, {})
    await server.deliver(list(server.svms))
    keyring = server.svms["svm-1"].keyring
    assert [held.key.serial for held in keyring.actives()] == [NEXT_SERIAL]


async def test_R61_a_task_whose_scope_is_refused_asks_for_no_renewal(server: YearServer) -> None:
    await server.add_key(license_key(rented(CODE_SERIAL, 10)))
    provides(server, CODE_SERIAL, "ACTIVE", 10 * DAY, 5)
    await at(server, 1)
    task_id, _ = await server.task(CODE_SERIAL, "ACTIVE", ["svm-1"])
    await server.deliver(list(server.svms))
    server.provider.asked.clear()
    with pytest.raises(CallRefused) as refused:
        await server.run_again(task_id, clusters=("elsewhere",))
    assert refused.value.reason_name == "PERMISSION_DENIED"
    gone = ChangeSvm("svm-1", False, "operator", Retry(None, b""), False, None)
    await server.writer.write(forget_svms, gone)
    with pytest.raises(CallRefused) as refused:
        await server.run_again(task_id)
    assert refused.value.reason_name == "SVM_NOT_FOUND"
    assert server.provider.asked == []


async def test_R93_missed_notices_collapse_and_bear_their_own_instant(server: YearServer) -> None:
    key = bought(1, days=40)
    await server.add_key(license_key(key))
    await at(server, 1)
    await server.task(key.serial, "ACTIVE", ["svm-1"])
    await server.deliver(["svm-1"])
    await at(server, 36 * DAY)
    await at(server, 37 * DAY)
    (notice,) = await told(server, event_pb2.EVENT_KIND_EXPIRY_NOTICE)
    assert (notice.days_left, notice.severity) == (5, event_pb2.SEVERITY_WARNING)
    assert notice.uncovered_svm_count == 1
    assert notice.occurred_at == to_timestamp(instant(35 * DAY))


async def test_R72_R95_how_long_a_blocked_key_works_is_its_issuers_word(server: YearServer) -> None:
    key = bought(1)
    await server.add_key(license_key(key))
    grace = {key.serial: timedelta(0)}
    request = MarkBlocked((key.serial,), "server", Retry(None, b""), graces=grace)
    await server.writer.write(mark_blocked, request)
    assert (await server.reader.read(load_terms)).block_graces == grace


async def test_R72_R95_how_long_any_other_blocked_key_works_is_the_servers_setting(
    server: YearServer,
) -> None:
    key = bought(1)
    await server.add_key(license_key(key))
    await server.task(key.serial, "ACTIVE", ["svm-1"])
    await server.deliver(["svm-1"])
    await server.writer.write(mark_blocked, MarkBlocked((key.serial,), "server", Retry(None, b"")))
    await server.deliver(["svm-1"])

    async def mode_after(hours: int) -> str:
        server.clock.set(instant(hours))
        records, terms = await server.reader.read(_one_svm)
        svm = svm_message(records["svm-1"], instant(hours), connected=True, waiting=0, terms=terms)
        return fleet_pb2.ProtectionMode.Name(svm.mode).removeprefix("PROTECTION_MODE_")

    assert await mode_after(8 * DAY - 1) == "FULL"
    assert await mode_after(8 * DAY) == "LIMITED"
    await server.writer.write(set_block_grace, timedelta(days=10))
    assert await mode_after(10 * DAY - 1) == "FULL"
    await server.writer.write(set_block_grace, timedelta(0))
    assert await mode_after(0) == "LIMITED"


def _one_svm(connection: Connection) -> tuple[dict[str, SvmRecord], Terms]:
    return load_svms(connection, ["svm-1"]), load_terms(connection)
