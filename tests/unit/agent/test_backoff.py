"""Tries are spread, the spread widens, and a stable stream resets it."""

from __future__ import annotations

import random

import pytest

from sparekey.agent.backoff import Backoff
from sparekey.agent.timing import Timing


class Longest(random.Random):
    """Draws the upper end every time."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_first_try_comes_at_random_within_a_second() -> None:
    waits = [Backoff(Timing(), random.Random(seed)).before_first_try() for seed in range(200)]
    assert all(0 <= wait <= 1 for wait in waits)
    assert max(waits) > 0.9
    assert min(waits) < 0.1


def test_the_span_widens_by_the_factor_up_to_the_cap() -> None:
    backoff = Backoff(Timing(), Longest())
    waits = [backoff.after_stream(lasted=0) for _ in range(13)]
    assert waits[:4] == pytest.approx([1, 1.6, 2.56, 4.096])
    assert waits[-2:] == [120, 120]


def test_the_jitter_is_full() -> None:
    waits = []
    for seed in range(300):
        backoff = Backoff(Timing(), random.Random(seed))
        for _ in range(20):
            wait = backoff.after_stream(lasted=0)
        waits.append(wait)
    assert min(waits) < 6
    assert max(waits) > 114
    assert 50 < sum(waits) / len(waits) < 70


def test_only_a_stable_stream_resets_the_span() -> None:
    backoff = Backoff(Timing(), Longest())
    for _ in range(5):
        backoff.after_stream(lasted=59.9)
    assert backoff.after_stream(lasted=59.9) > 10
    assert backoff.after_stream(lasted=60) == 1
    assert backoff.after_stream(lasted=0) == pytest.approx(1.6)


def test_what_the_server_asks_can_only_lengthen_the_wait() -> None:
    backoff = Backoff(Timing(), Longest())
    assert backoff.after_stream(lasted=0, at_least=30) == 30
    assert backoff.after_stream(lasted=0, at_least=0.1) == pytest.approx(1.6)


def test_an_agent_left_alone_for_years_keeps_trying() -> None:
    backoff = Backoff(Timing(), random.Random(1))
    assert all(0 <= backoff.after_stream(lasted=0) <= 120 for _ in range(20_000))


def test_the_same_seed_gives_the_same_waits() -> None:
    one, two = (Backoff(Timing(), random.Random(5)) for _ in range(2))
    assert [one.after_stream(lasted=0) for _ in range(9)] == [
        two.after_stream(lasted=0) for _ in range(9)
    ]
