"""Time that stands still wakes exactly those whose instant has come (R81)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sparekey.runtime.clock import Clock, SettableClock, SystemClock

START = datetime(2030, 1, 1, tzinfo=UTC)


def days(count: float) -> timedelta:
    return timedelta(days=count)


async def let_others_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_moving_wakes_exactly_those_that_are_due() -> None:
    clock = SettableClock(START)
    woken: list[int] = []

    async def sleeper(day: int) -> None:
        await clock.wait_until(START + days(day))
        woken.append(day)

    sleepers = [asyncio.create_task(sleeper(day)) for day in (3, 1, 2, 7)]
    await let_others_run()
    assert woken == []
    clock.advance(days(1) - timedelta(microseconds=1))
    await let_others_run()
    assert woken == []
    clock.advance(timedelta(microseconds=1))
    await let_others_run()
    assert woken == [1]
    clock.set(START + days(3))
    await let_others_run()
    assert sorted(woken) == [1, 2, 3]
    clock.advance(days(100))
    await asyncio.gather(*sleepers)
    assert woken[-1] == 7


async def test_what_is_past_or_now_is_not_waited_for() -> None:
    clock = SettableClock(START)
    await asyncio.wait_for(clock.wait_until(START), 1)
    await asyncio.wait_for(clock.wait_until(START - days(1)), 1)


async def test_going_back_wakes_nobody() -> None:
    clock = SettableClock(START)
    waiting = asyncio.create_task(clock.wait_until(START + days(1)))
    await let_others_run()
    clock.set(START - days(365))
    await let_others_run()
    assert not waiting.done()
    assert clock.now() == START - days(365)
    clock.set(START + days(1))
    await asyncio.wait_for(waiting, 1)


async def test_moving_twice_at_once_loses_no_one_who_was_due_between() -> None:
    """Who waits sees the clock only when its turn comes, and by then it may have moved on."""
    clock = SettableClock(START)
    waiting = asyncio.create_task(clock.wait_until(START + days(1)))
    await let_others_run()
    clock.advance(days(1))
    clock.advance(days(1))
    await asyncio.wait_for(waiting, 1)


async def test_who_gives_up_waiting_holds_up_nobody() -> None:
    clock = SettableClock(START)
    gone = asyncio.create_task(clock.wait_until(START + days(1)))
    stays = asyncio.create_task(clock.wait_until(START + days(1)))
    await let_others_run()
    gone.cancel()
    clock.advance(days(1))
    await asyncio.wait_for(stays, 1)
    assert gone.cancelled() or gone.cancelling()


def test_the_time_is_told_in_utc() -> None:
    there = timezone(timedelta(hours=3))
    clock = SettableClock(datetime(2030, 1, 1, 3, tzinfo=there))
    assert clock.now() == START
    assert clock.now().tzinfo is UTC
    clock.set(datetime(2030, 1, 2, 3, tzinfo=there))
    assert clock.now().tzinfo is UTC


def test_an_instant_without_a_zone_is_refused() -> None:
    naive = datetime(2030, 1, 1)  # noqa: DTZ001 - that is the point
    with pytest.raises(ValueError, match="time zone"):
        SettableClock(naive)
    clock = SettableClock(START)
    with pytest.raises(ValueError, match="time zone"):
        clock.set(naive)
    assert clock.now() == START


async def test_the_machines_time_is_utc_and_passes() -> None:
    clock: Clock = SystemClock()
    before = clock.now()
    assert before.tzinfo is UTC
    assert abs(before - datetime.now(UTC)) < timedelta(seconds=5)
    await clock.wait_until(before + timedelta(milliseconds=20))
    assert clock.now() >= before + timedelta(milliseconds=20)
    await asyncio.wait_for(clock.wait_until(before), 1)
