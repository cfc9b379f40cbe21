"""The dry run and the run cannot differ: the same outcomes, the same keys in the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import Keyring, Role
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.settling import settle
from sparekey.server.store.keys import load_keys
from sparekey.server.store.tasks import page_of_outcomes
from sparekey.server.tasks.planning import TaskOrder, Workspace, plan_task
from sparekey.server.tasks.starting import dry_run
from sparekey.v1 import license_pb2
from sparekey.wire.errors import CallRefused

from .world import World, make_key

SVMS = ("svm-1", "svm-2")
OFTEN_SERVER = [KeyType.SERVER] * 7 + [KeyType.DESKTOP, KeyType.CORES]
KEY_COUNT = 6


def sometimes(often: Any, seldom: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([often] * 4 + [seldom])


@st.composite
def keys(draw: st.DrawFn) -> list[LicenseKey]:
    """A storage with keys of all sorts that can follow one another."""
    made = []
    for number in range(KEY_COUNT):
        kind = draw(
            st.sampled_from([KeyKind.COMMERCIAL] * 6 + [KeyKind.TRIAL, KeyKind.SUBSCRIPTION])
        )
        unlimited = kind is KeyKind.SUBSCRIPTION and draw(st.booleans())
        made.append(
            make_key(
                number,
                draw(st.sampled_from(OFTEN_SERVER)),
                kind=kind,
                edition=draw(sometimes(Edition.STANDARD, Edition.ENTERPRISE)),
                starts=draw(sometimes(-30, 2)),
                ends=None if unlimited else draw(st.integers(3, 12)),
            )
        )
    return made


scopes = st.lists(st.sampled_from(SVMS), min_size=1, max_size=2, unique=True)
tasks = st.tuples(
    st.just("task"), st.integers(0, KEY_COUNT - 1), st.sampled_from(list(Role)), scopes
)
others = st.one_of(
    tasks,
    st.tuples(st.just("connect"), scopes),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1, 3])),
    st.tuples(st.just("block"), st.integers(0, KEY_COUNT - 1)),
)
# A beginning, SVMs that then go away, and tasks that pile up until they are back.
steps = st.tuples(
    st.lists(others, max_size=5),
    st.just([("connect", SVMS)]),
    st.lists(st.one_of(tasks, tasks, tasks, others), max_size=5),
).map(lambda parts: [step for part in parts for step in part])
guests = st.builds(GuestMix, *[st.sampled_from([0, 0, 2])] * 3)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(keys=keys(), mixes=st.tuples(guests, guests), steps=steps, last=tasks)
def test_R78_R89_a_dry_run_foretells_the_run_whatever_waits(
    shared_engine: Engine,
    keys: list[LicenseKey],
    mixes: tuple[GuestMix, ...],
    steps: list[tuple[Any, ...]],
    last: tuple[Any, ...],
) -> None:
    """R78, R89, R97: tasks, SVMs that come and go, time and blocked keys; then one more task."""
    world = World(shared_engine)
    world.clear()
    world.add_keys(keys)
    for svm_id, mix in zip(SVMS, mixes, strict=True):
        world.add_svm(svm_id, mix)
    for step in steps:
        match step:
            case ("task", number, role, svm_ids):
                check_start(world, world.order(keys[number], role, svm_ids))
            case ("connect", svm_ids):
                world.sync(svm_ids)
            case ("wait", days):
                world.advance(days)
            case ("block", number):
                world.block(keys[number])
    _, number, role, svm_ids = last
    check_run(world, world.order(keys[number], role, svm_ids))
    world.sync(SVMS)
    for svm_id in SVMS:
        keyring = world.svms[svm_id].keeper.keyring
        assert world.record(svm_id).keyring == keyring
        assert world.replayed(svm_id) == keyring.serials()
        assert keyring.problems(world.now) == []


def check_start(world: World, order: TaskOrder) -> license_pb2.Task | None:
    """Start a task as its dry run says: refused as a whole, or on the same SVMs."""
    dry = world.read(_dry_run_or_refusal, order, world.now)
    started = world.start(order)
    if isinstance(dry, CallRefused):
        assert isinstance(started, CallRefused)
        assert started.reason == dry.reason
        return None
    assert isinstance(started, license_pb2.Task)
    refused = license_pb2.OUTCOME_STATE_REFUSED
    pending = license_pb2.OUTCOME_STATE_PENDING
    for foretold, outcome in zip(dry.outcomes, started.outcomes, strict=True):
        assert foretold.svm_id == outcome.svm_id
        assert foretold.advice == outcome.advice
        assert (foretold.state == refused) == (outcome.state == refused)
        assert outcome.state in (foretold.state, pending)
        assert foretold.reason == outcome.reason
    assert dry.advice == started.advice
    assert isinstance(dry, license_pb2.Task)
    return dry


def _dry_run_or_refusal(*arguments: Any) -> license_pb2.Task | CallRefused:
    try:
        return dry_run(*arguments)
    except CallRefused as refused:
        return refused


def check_run(world: World, order: TaskOrder) -> None:
    """Run a task on SVMs that now connect; compare with what was foretold."""
    foretold = planned_keyrings(world, order)
    dry = check_start(world, order)
    if dry is None:
        return
    world.sync(one.svm_id for one in dry.outcomes)
    outcomes = world.read(page_of_outcomes, order.task_id, None, "", 100)
    for one, outcome in zip(dry.outcomes, outcomes, strict=True):
        event(outcome.state.name)
        state = license_pb2.OutcomeState.Name(one.state)
        reason = license_pb2.RefusalReason.Name(one.reason)
        assert state == f"OUTCOME_STATE_{outcome.state.name}"
        assert reason.endswith(outcome.reason.name if outcome.reason else "UNSPECIFIED")
        truth = world.svms[one.svm_id].keeper.keyring
        assert _but_installed_at(settle(foretold[one.svm_id], world.now).keyring) == (
            _but_installed_at(truth)
        )


def _but_installed_at(keyring: Keyring) -> list[tuple[object, ...]]:
    return [
        (slot, held.key, held.ended_at, held.blocked_at) for slot, held in keyring.slots.items()
    ]


def planned_keyrings(world: World, order: TaskOrder) -> dict[str, Keyring]:
    """The keyrings that the plan behind the dry run leads to."""

    def plan(connection: Any) -> dict[str, Keyring]:
        workspace = Workspace()
        workspace.keys.update(load_keys(connection, [order.serial]))
        try:
            plans = plan_task(connection, workspace, order, world.now).svms
        except CallRefused:
            return {}
        return {svm_id: one.keyring for svm_id, one in plans.items()}

    keyrings: dict[str, Keyring] = world.read(plan)
    return keyrings


@pytest.mark.parametrize("role", Role)
def test_a_dry_run_of_nothing_is_refused_as_the_run_is(shared_engine: Engine, role: Role) -> None:
    world = World(shared_engine)
    world.clear()
    key = make_key(1)
    assert check_start(world, world.order(key, role, ["svm-1"])) is None
    world.add_keys([key])
    assert check_start(world, world.order(key, role, ["svm-1"])) is None
    assert check_start(world, world.order(key, role)) is None
