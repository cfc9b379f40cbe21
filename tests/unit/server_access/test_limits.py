"""Limits by caller."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from sparekey.server.access.limits import Allowance, OpenStreams, Turns
from sparekey.wire.errors import CallRefused


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def uses(allowance: Allowance, caller: str, times: int) -> int:
    """How many of so many uses are allowed."""
    allowed = 0
    for _ in range(times):
        try:
            allowance.use(caller, "calls")
        except CallRefused:
            continue
        allowed += 1
    return allowed


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    time = Time()
    allowance = Allowance(2.0, 10, time)
    assert uses(allowance, "a", 50) == 10
    time.now += 3.0
    assert uses(allowance, "a", 50) == 6
    time.now += 1000.0
    assert uses(allowance, "a", 50) == 10


def test_a_flood_costs_the_flooder_only() -> None:
    allowance = Allowance(1.0, 5, Time())
    assert uses(allowance, "flooder", 100) == 5
    assert uses(allowance, "other", 5) == 5


def test_a_refusal_says_when_to_come_again() -> None:
    allowance = Allowance(2.0, 1, Time())
    allowance.use("a", "calls")
    with pytest.raises(CallRefused) as refused:
        allowance.use("a", "calls")
    assert refused.value.reason_name == "LIMIT_EXCEEDED"
    assert refused.value.retry_after == timedelta(seconds=0.5)


def test_a_good_use_can_be_given_back() -> None:
    allowance = Allowance(0.1, 1, Time())
    for _ in range(5):
        allowance.use("a", "calls")
        allowance.give_back("a")


def test_many_callers_take_bounded_memory() -> None:
    allowance = Allowance(1.0, 1, Time())
    for number in range(10_500):
        allowance.use(str(number), "calls")
    assert len(allowance._left) == 10_000


def test_streams_are_counted_while_they_are_open() -> None:
    streams = OpenStreams()
    with streams.hold("a", 2), streams.hold("a", 2):
        with pytest.raises(CallRefused, match="2 streams"), streams.hold("a", 2):
            pass
        with streams.hold("b", 2):
            pass
    with streams.hold("a", 1):
        pass
    assert streams._count == {}


async def test_calls_of_one_caller_take_turns_and_hold_up_no_other() -> None:
    turns, began = Turns(60.0, time.monotonic), list[str]()
    let_on = asyncio.Event()

    async def call(caller: str) -> None:
        async with turns.take(caller):
            began.append(caller)
            await let_on.wait()

    calls = [asyncio.create_task(call(caller)) for caller in ("a", "a", "a", "b")]
    await asyncio.sleep(0.05)
    assert began == ["a", "b"]
    let_on.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*calls)
    assert began == ["a", "b", "a", "a"]
    assert turns._by_caller == {}


async def test_a_call_waits_for_its_turn_so_long_and_no_longer() -> None:
    turns = Turns(0.01, time.monotonic)
    async with asyncio.timeout(10), turns.take("a"), turns.take("a"):
        pass
    async with turns.take("a"):
        pass
    assert turns._by_caller == {}
