"""A short run of the fault suite (`make faults` plays long ones)."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.plan import CUTS, KILLS, Fault, make_plan
from faults.run import Run, RunSettings

SEED = 11


@pytest.mark.timeout(90)
async def test_nothing_is_lost_doubled_or_wrong_after_faults_of_every_kind(tmp_path: Path) -> None:
    verdict = await Run(SEED, tmp_path, RunSettings(svms=40, seconds=6, pause=0.1)).play()
    assert verdict.troubles() == [], f"replay: make faults SEED={SEED} SVMS=40 SPAN=6"
    assert verdict.figures.kills + verdict.figures.cuts >= 10
    assert verdict.figures.applied > 0


def test_a_plan_follows_from_its_seed_alone_and_has_every_fault() -> None:
    plan = make_plan(7, 30)
    assert plan == make_plan(7, 30)
    assert plan != make_plan(8, 30)
    assert {step.fault for step in plan} == set(Fault)
    assert [step.at for step in plan] == sorted(step.at for step in plan)
    assert sum(step.fault in KILLS | CUTS for step in plan) >= 50
