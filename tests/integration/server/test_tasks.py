"""Activation tasks: scopes, states, and what becomes of each SVM."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparekey.licensing.keys import KeyType
from sparekey.v1 import event_pb2, license_pb2
from sparekey.wire.timestamps import from_timestamp

from .site import NOW, Site
from .words import outcomes_of, refusal_of, scope_of, state_of


async def test_R3_R50_the_three_scopes_reach_their_svms_and_no_other(site: Site) -> None:
    await site.connect("a-1", "a-2", cluster="a")
    await site.connect("b-1", cluster="b")
    await site.connect("lone")
    everywhere, in_a, picked = [await site.new_key(ends=days) for days in (30, 60, 90)]

    task = await site.ended(site.activate(everywhere))
    assert outcomes_of(task) == dict.fromkeys(("a-1", "a-2", "b-1", "lone"), "APPLIED")
    task = await site.ended(site.activate(in_a, cluster="a"))
    assert outcomes_of(task) == {"a-1": "APPLIED", "a-2": "APPLIED"}
    task = await site.ended(site.activate(picked, "lone", "a-2", "lone"))
    assert outcomes_of(task) == {"a-2": "APPLIED", "lone": "APPLIED"}

    active = {svm_id: await site.held(svm_id) for svm_id in ("a-1", "a-2", "b-1", "lone")}
    assert active == {
        "a-1": {("SERVER", "ACTIVE"): in_a.serial},
        "a-2": {("SERVER", "ACTIVE"): picked.serial},
        "b-1": {("SERVER", "ACTIVE"): everywhere.serial},
        "lone": {("SERVER", "ACTIVE"): picked.serial},
    }
    assert active == {svm_id: site.truly_held(svm_id) for svm_id in active}


async def test_R1_R2_R3_R50_the_three_scopes_of_renewing(site: Site) -> None:
    await site.connect("a-1", "a-2", cluster="a")
    await site.connect("b-1", cluster="b")
    active = await site.new_key(ends=30)
    await site.license(active)
    everywhere, in_a, picked = [await site.new_key(ends=days) for days in (60, 90, 120)]
    for start, wanted in (
        (site.renew(everywhere), {"a-1", "a-2", "b-1"}),
        (site.renew(in_a, cluster="a"), {"a-1", "a-2"}),
        (site.renew(picked, "a-2"), {"a-2"}),
    ):
        task = await site.ended(start)
        assert task.role == 2, "a reserve"
        assert outcomes_of(task) == dict.fromkeys(wanted, "APPLIED")
    for svm_id, reserve in (("a-1", in_a), ("a-2", picked), ("b-1", everywhere)):
        assert await site.held(svm_id) == {
            ("SERVER", "ACTIVE"): active.serial,
            ("SERVER", "RESERVE"): reserve.serial,
        }


async def test_R99_an_svm_that_joins_after_the_start_needs_another_run(site: Site) -> None:
    await site.connect("early", cluster="a")
    key = await site.new_key()
    task = await site.ended(site.activate(key, cluster="a"))
    await site.connect("late", cluster="a")
    assert set(outcomes_of(await site.task(task))) == {"early"}
    assert await site.held("late") == {}
    again = await site.ended(site.activate(key, cluster="a"))
    assert outcomes_of(again) == {"early": "UNCHANGED", "late": "APPLIED"}


async def test_R99_an_svm_that_changes_its_cluster_keeps_its_keys(site: Site) -> None:
    await site.connect("mover", cluster="a")
    key = await site.new_key()
    await site.license(key)
    inventory = site.fleet.svms["mover"].inventory
    inventory.set(replace(inventory.inventory, cluster="b"))
    await site.until_svm("mover", lambda svm: svm.cluster == "b")
    assert await site.held("mover") == {("SERVER", "ACTIVE"): key.serial}
    assert (await refusal_of(site.activate(key, cluster="a"))).reason == "SCOPE_EMPTY"
    assert outcomes_of(await site.ended(site.activate(key, cluster="b"))) == {"mover": "UNCHANGED"}


async def test_R38_an_svm_without_a_key_is_activated_and_another_ones_key_replaced(
    site: Site,
) -> None:
    await site.connect("fresh", "old")
    first, second = await site.new_key(ends=30), await site.new_key(ends=60)
    await site.ended(site.activate(first, "old"))
    assert state_of(await site.ended(site.activate(second))) == "SUCCEEDED"
    assert [(kind, serial) for kind, _, serial, _ in await site.changes("fresh")] == [
        ("KEY_ACTIVATED", second.serial)
    ]
    assert [(kind, serial) for kind, _, serial, _ in await site.changes("old")] == [
        ("KEY_ACTIVATED", first.serial),
        ("KEY_REPLACED", second.serial),
    ]


async def test_R78_a_refusing_svm_leaves_the_others_alone_and_the_task_partial(
    site: Site,
) -> None:
    await site.connect("licensed", "bare")
    active, reserve = await site.new_key(ends=30), await site.new_key(ends=60)
    await site.ended(site.activate(active, "licensed"))
    task = await site.ended(site.renew(reserve))
    assert state_of(task) == "PARTIAL"
    assert outcomes_of(task) == {"licensed": "APPLIED", "bare": "NO_ACTIVE_KEY"}
    assert (task.counts.total, task.counts.applied, task.counts.refused) == (2, 1, 1)
    assert task.HasField("finished_at")
    refused = next(one for one in task.outcomes if one.svm_id == "bare")
    assert "activate it first" in refused.message
    assert refused.HasField("finished_at")


async def test_R78_a_task_that_every_svm_refuses_has_failed(site: Site) -> None:
    await site.connect("bare-1", "bare-2")
    task = await site.ended(site.renew(await site.new_key()))
    assert state_of(task) == "FAILED"
    assert task.counts.refused == task.counts.total == 2
    kinds = [event.kind for event in await site.history(task_id=task.task_id)]
    assert kinds == [
        event_pb2.EVENT_KIND_TASK_STARTED,
        event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
        event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
        event_pb2.EVENT_KIND_TASK_FINISHED,
    ]


async def test_R97_a_second_run_with_the_same_key_is_a_success_that_changes_nothing(
    site: Site,
) -> None:
    await site.connect("svm-1", "svm-2")
    key = await site.new_key()
    await site.license(key)
    before = await site.changes("svm-1")
    again = await site.ended(site.activate(key))
    assert state_of(again) == "SUCCEEDED"
    assert outcomes_of(again) == {"svm-1": "UNCHANGED", "svm-2": "UNCHANGED"}
    assert again.counts.unchanged == 2
    assert await site.changes("svm-1") == before


@pytest.mark.parametrize("role", ["active", "reserve"])
async def test_R78_an_unknown_picked_svm_refuses_the_whole_call(site: Site, role: str) -> None:
    await site.connect("known")
    key = await site.new_key(ends=90)
    before = site.dump()
    start = site.activate if role == "active" else site.renew
    problem = await refusal_of(start(key, "known", "unknown-1", "unknown-2"))
    assert problem.reason == "SVM_NOT_FOUND"
    assert problem.metadata == {"svm_ids": "unknown-1,unknown-2"}
    assert site.dump() == before


async def test_R78_a_scope_without_any_svm_is_refused(site: Site) -> None:
    key = await site.new_key()
    assert (await refusal_of(site.activate(key))).reason == "SCOPE_EMPTY"
    await site.connect("svm-1", cluster="a")
    problem = await refusal_of(site.renew(key, cluster="b"))
    assert problem.reason == "SCOPE_EMPTY"
    assert "'b'" in problem.message


async def test_a_task_tells_what_was_asked_and_when(site: Site) -> None:
    await site.connect("svm-1", cluster="a")
    key = await site.new_key()
    task = await site.ended(site.activate(key, cluster="a"))
    assert task.key_serial == key.serial
    assert task.scope == scope_of(cluster="a")
    assert from_timestamp(task.created_at) == from_timestamp(task.finished_at) == NOW
    assert (from_timestamp(task.deadline_at) - NOW).days == 7
    assert task.created_by == "operator"
    assert [one.instruction_version for one in task.outcomes] == [1]


async def test_tasks_are_listed_newest_first_without_outcomes(site: Site) -> None:
    await site.connect("svm-1")
    started = [await site.ended(site.activate(await site.new_key(ends=days))) for days in (9, 8)]
    listed = (await site.licenses.ListTasks(license_pb2.ListTasksRequest())).tasks
    assert [task.task_id for task in listed] == [task.task_id for task in reversed(started)]
    assert not any(task.outcomes for task in listed)


async def test_outcomes_can_be_listed_by_state(site: Site) -> None:
    await site.connect("licensed", "bare")
    await site.ended(site.activate(await site.new_key(KeyType.SERVER), "licensed"))
    task = await site.ended(site.renew(await site.new_key(ends=60)))
    for state, wanted in (
        (license_pb2.OUTCOME_STATE_APPLIED, ["licensed"]),
        (license_pb2.OUTCOME_STATE_REFUSED, ["bare"]),
        (license_pb2.OUTCOME_STATE_PENDING, []),
        (license_pb2.OUTCOME_STATE_UNSPECIFIED, ["bare", "licensed"]),
    ):
        request = license_pb2.ListOutcomesRequest(task_id=task.task_id, state=state)
        listed = (await site.licenses.ListOutcomes(request)).outcomes
        assert [one.svm_id for one in listed] == wanted
