"""A simulated year, told to the server and to a slow model that knows the rules alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .year_story import Year

YEAR_HOURS = 365 * 24


async def live_through(folder: Path, *, svms: int, seed: int, steps_of: int) -> Year:
    year = Year(folder, svms=svms, seed=seed)
    try:
        await year.begin()
        while year.hour < YEAR_HOURS:
            await year.step(steps_of)
    finally:
        await year.server.stop()
    return year


@pytest.mark.parametrize("seed", range(3))
async def test_R52_R72_R93_R96_small_years_agree_with_the_slow_model(
    tmp_path: Path, seed: int
) -> None:
    await live_through(tmp_path, svms=40, seed=seed, steps_of=31)


@pytest.mark.timeout(600)  # for a busy machine
async def test_R60_R65_R82_R87_R92_R94_a_year_of_a_thousand_svms_agrees_at_each_step(
    tmp_path: Path,
) -> None:
    """With every kind of thing that can happen to a license, else the year would prove little."""
    start, processor = time.monotonic(), time.process_time()
    year = await live_through(tmp_path, svms=1000, seed=7, steps_of=73)
    print(
        f"the year took {time.process_time() - processor:.0f} s of processor time and"
        f" {time.monotonic() - start:.0f} s"
    )
    assert {kind for kind in MET if not year.seen[kind]} == set()


MET = (
    *("task ACTIVE", "task RESERVE", "run again", "renewed by code", "renewed by poll"),
    *("block", "downtime", "guests", "PROMOTED", "mode FULL", "mode LIMITED", "mode OFF"),
    *(f"NOTICE {days}" for days in (30, 15, 5, 1, 0)),
    *(f"LIMIT {band}" for band in ("INFO", "WARNING", "CRITICAL", "OK")),
    *(f"SUBSCRIPTION {state}" for state in ("ACTIVE", "PAUSED", "GRACE", "EXPIRED")),
    *(f"SUBSCRIPTION CANCELLED_{how}" for how in ("SOFT", "HARD")),
    *("KEYS VOIDED", "KEYS REINSTATED", "KEY_VOID", "KEY_BLOCKED", "KEY_EXPIRED"),
    *("EXPIRES_SOON", "NO_ACTIVE_KEY", "SILENT"),
    *("SUBSCRIPTION_IN_GRACE", "SUBSCRIPTION_OVER", "SUBSCRIPTION_PAUSED", "UNCOVERED_OS_CLASS"),
)
