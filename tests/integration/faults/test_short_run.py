"""A short run of the fault suite (`make faults` plays long ones)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from faults.figures import Figures, Verdict
from faults.judging import judge
from faults.plan import CUTS, KILLS, Fault, make_plan
from faults.run import Run, RunSettings
from faults.stored import Stored

SEED = 11
SETTINGS = RunSettings(svms=40, hosts=2, agents=1, seconds=6, pause=0.1)


@pytest.mark.timeout(400)
async def test_nothing_is_lost_doubled_or_wrong_after_faults_of_every_kind(tmp_path: Path) -> None:
    run = Run(SEED, tmp_path, SETTINGS)
    verdict = await run.play()
    assert verdict.troubles() == [], f"replay: {SETTINGS.replay(SEED)}"
    assert verdict.figures.kills + verdict.figures.cuts >= 10
    assert verdict.figures.applied > 0
    assert all(verdict.figures.kind(fault).strikes for fault in Fault)
    # That the judges would have seen it.
    assert judge_again(run, "DELETE FROM events WHERE svm_id = 'host-0-000003'")
    assert judge_again(run, "UPDATE svms SET keyring_revision = keyring_revision + 1")
    assert judge_again(run, "UPDATE svms SET servers = servers + 1 WHERE id = 'agent-0'")
    assert judge_again(run, "DELETE FROM tasks")


def judge_again(run: Run, change: str) -> list[str]:
    """What the judges say after the run's database was changed; the change is taken back."""
    with closing(sqlite3.connect(run.database)) as connection:
        before = connection.serialize()
        assert connection.execute(change).rowcount > 0
        connection.commit()
    verdict = Verdict(SEED, Figures())
    stored = Stored(run.database)
    judge(verdict, stored, run.seen.disks, run.acknowledged)
    stored.close()
    run.database.write_bytes(before)
    return list(verdict.troubles())


def test_a_plan_follows_from_its_seed_alone_and_has_every_fault() -> None:
    plan = make_plan(7, 30)
    assert plan == make_plan(7, 30)
    assert plan != make_plan(8, 30)
    assert {step.fault for step in plan} == set(Fault)
    assert [step.at for step in plan] == sorted(step.at for step in plan)
    assert sum(step.fault in KILLS | CUTS for step in plan) >= 50
