"""Several tasks on one SVM, and SVMs that are offline: what waits, in which order (R89)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from sparekey.licensing.key_files import KeySigner
from sparekey.licensing.keys import Edition, KeyKind, KeyType
from sparekey.v1 import event_pb2, license_pb2
from sparekey.wire.timestamps import from_timestamp, to_duration

from .raw_agent import RawAgent, activated, applied
from .site import NOW, Site, running_site
from .words import outcomes_of, refusal_of, state_of

ACTIVE, RESERVE = ("SERVER", "ACTIVE"), ("SERVER", "RESERVE")


@pytest.fixture
async def offline(site: Site) -> Site:
    """A site whose only SVM, svm-1, is known and offline."""
    await site.connect("svm-1")
    await site.disconnect("svm-1")
    return site


async def cancel(site: Site, task: license_pb2.Task) -> license_pb2.Task:
    request = license_pb2.CancelTaskRequest(task_id=task.task_id)
    return (await site.licenses.CancelTask(request)).task


async def test_an_offline_svm_gets_its_task_when_it_is_back(offline: Site) -> None:
    key = await offline.new_key()
    task = await offline.activate(key)
    assert (outcomes_of(task), state_of(task)) == ({"svm-1": "PENDING"}, "RUNNING")
    assert (await offline.svm("svm-1")).pending_instruction_count == 1
    await offline.advance(1)
    await offline.reconnect("svm-1")
    task = await offline.ended(offline.task(task))
    assert (outcomes_of(task), state_of(task)) == ({"svm-1": "APPLIED"}, "SUCCEEDED")
    assert from_timestamp(task.finished_at) == NOW + timedelta(days=1)
    assert await offline.held("svm-1") == {ACTIVE: key.serial}


async def test_R89_the_later_task_sees_the_earlier_ones_result(offline: Site) -> None:
    """A reserve for an SVM whose first active key still waits for it."""
    active, reserve = await offline.new_key(ends=30), await offline.new_key(ends=60)
    tasks = [await offline.activate(active), await offline.renew(reserve)]
    assert [outcomes_of(task) for task in tasks] == [{"svm-1": "PENDING"}] * 2
    early = await offline.renew(await offline.new_key(ends=20))
    assert outcomes_of(early) == {"svm-1": "RESERVE_NOT_LATER"}
    await offline.reconnect("svm-1")
    for task in tasks:
        assert outcomes_of(await offline.ended(offline.task(task))) == {"svm-1": "APPLIED"}
    assert await offline.held("svm-1") == {ACTIVE: active.serial, RESERVE: reserve.serial}


async def test_R89_a_newer_task_for_the_slot_supersedes_the_older_one(offline: Site) -> None:
    first, second = await offline.new_key(ends=30), await offline.new_key(ends=60)
    older, newer = await offline.activate(first), await offline.activate(second)
    older = await offline.task(older)
    assert (outcomes_of(older), state_of(older)) == ({"svm-1": "SUPERSEDED"}, "FAILED")
    assert (await offline.svm("svm-1")).pending_instruction_count == 1
    await offline.reconnect("svm-1")
    newer = await offline.ended(offline.task(newer))
    assert outcomes_of(newer) == {"svm-1": "APPLIED"}
    assert [one[2] for one in await offline.changes("svm-1")] == [second.serial]


async def test_R89_what_rests_on_a_superseded_key_is_put_behind_the_newer_one(
    offline: Site,
) -> None:
    reserve, second = await offline.new_key(ends=90), await offline.new_key(ends=60)
    superseded = await offline.activate(await offline.new_key(ends=30))
    resting = await offline.renew(reserve)
    newer = await offline.activate(second)
    assert outcomes_of(await offline.task(superseded)) == {"svm-1": "SUPERSEDED"}
    resting, newer = await offline.task(resting), await offline.task(newer)
    assert outcomes_of(resting) == outcomes_of(newer) == {"svm-1": "PENDING"}
    assert newer.outcomes[0].instruction_version < resting.outcomes[0].instruction_version
    await offline.reconnect("svm-1")
    for task in (newer, resting):
        assert outcomes_of(await offline.ended(offline.task(task))) == {"svm-1": "APPLIED"}
    assert await offline.held("svm-1") == {ACTIVE: second.serial, RESERVE: reserve.serial}


@pytest.mark.parametrize(
    ("newer", "reason"),
    [
        ({"ends": 120}, "RESERVE_NOT_LATER"),
        ({"edition": Edition.ENTERPRISE}, "EDITION_MISMATCH"),
        ({"kind": KeyKind.SUBSCRIPTION}, "ACTIVE_IS_SUBSCRIPTION"),
    ],
    ids=str,
)
async def test_R89_what_the_newer_key_rules_out_is_refused(
    offline: Site, newer: dict[str, object], reason: str
) -> None:
    await offline.activate(await offline.new_key(ends=30))
    resting = await offline.renew(await offline.new_key(ends=90))
    key = await offline.new_key(**newer)
    task = await offline.activate(key)
    resting = await offline.task(resting)
    assert (outcomes_of(resting), state_of(resting)) == ({"svm-1": reason}, "FAILED")
    await offline.reconnect("svm-1")
    await offline.ended(offline.task(task))
    assert await offline.held("svm-1") == {ACTIVE: key.serial}


async def test_R89_a_reserve_that_fits_what_waits_is_followed_after_it(offline: Site) -> None:
    """A reserve waits, then an active key of another edition, then a reserve that fits that."""
    await offline.reconnect("svm-1")
    await offline.license(await offline.new_key(ends=30))
    await offline.disconnect("svm-1")
    await offline.renew(await offline.new_key(ends=60))
    active = await offline.new_key(edition=Edition.ENTERPRISE, ends=40)
    reserve = await offline.new_key(edition=Edition.ENTERPRISE, ends=90)
    tasks = [await offline.activate(active), await offline.renew(reserve)]
    await offline.reconnect("svm-1")
    for task in tasks:
        assert outcomes_of(await offline.ended(offline.task(task))) == {"svm-1": "APPLIED"}
    assert await offline.held("svm-1") == {ACTIVE: active.serial, RESERVE: reserve.serial}


async def test_R27_R89_a_trial_does_not_supersede_what_alone_would_make_room_for_it(
    offline: Site,
) -> None:
    """The dry run and the run agree, and the older task is not lost for nothing."""
    await offline.reconnect("svm-1")
    await offline.license(await offline.new_key(ends=30))
    await offline.disconnect("svm-1")
    subscription = await offline.new_key(kind=KeyKind.SUBSCRIPTION, ends=40)
    trial = await offline.new_key(kind=KeyKind.TRIAL, ends=40)
    older = await offline.activate(subscription)
    predicted = outcomes_of(await offline.activate(trial, validate_only=True))
    newer = await offline.activate(trial)
    await offline.reconnect("svm-1")
    newer = await offline.ended(offline.task(newer))
    assert outcomes_of(newer) == predicted
    older = await offline.ended(offline.task(older))
    held = await offline.held("svm-1")
    if outcomes_of(newer) == {"svm-1": "APPLIED"}:
        assert held == {ACTIVE: trial.serial}
    else:
        assert outcomes_of(older) == {"svm-1": "APPLIED"}
        assert held == {ACTIVE: subscription.serial}


async def test_R89_two_schemes_in_a_row_leave_the_last_one(offline: Site) -> None:
    await offline.activate(await offline.new_key(KeyType.SERVER))
    cores = await offline.new_key(KeyType.CORES)
    task = await offline.activate(cores)
    await offline.reconnect("svm-1")
    await offline.ended(offline.task(task))
    await offline.until_held("svm-1", {("CORES", "ACTIVE"): cores.serial})


async def test_tasks_that_start_together_are_serialized_by_arrival(site: Site) -> None:
    """R89: many calls at once on the same SVMs; every outcome is final and the last one holds."""
    svm_ids = [f"svm-{number}" for number in range(5)]
    await site.connect(*svm_ids)
    keys = [await site.new_key(ends=30 + number) for number in range(12)]
    tasks = await asyncio.gather(*(site.activate(key) for key in keys))
    ended = [await site.ended(site.task(task)) for task in tasks]
    by_arrival = (await site.licenses.ListTasks(license_pb2.ListTasksRequest())).tasks
    last = by_arrival[0].key_serial
    for svm_id in svm_ids:
        assert await site.held(svm_id) == site.truly_held(svm_id) == {ACTIVE: last}
    states = {state for task in ended for state in outcomes_of(task).values()}
    assert states <= {"APPLIED", "SUPERSEDED"}
    assert outcomes_of(next(task for task in ended if task.key_serial == last)) == dict.fromkeys(
        svm_ids, "APPLIED"
    )


async def test_a_cancelled_task_does_not_reach_svms_that_have_not_confirmed(site: Site) -> None:
    await site.connect("online", "offline")
    await site.disconnect("offline")
    key = await site.new_key()
    task = await site.activate(key)
    await site.until_held("online", {ACTIVE: key.serial})
    cancelled = await cancel(site, task)
    assert outcomes_of(cancelled) == {"online": "APPLIED", "offline": "CANCELLED"}
    assert state_of(cancelled) == "PARTIAL"
    await site.reconnect("offline")
    await site.until_held("offline", {})
    assert await site.held("online") == {ACTIVE: key.serial}
    kinds = [event.kind for event in await site.history(task_id=task.task_id)]
    assert kinds.count(event_pb2.EVENT_KIND_TASK_CANCELLED) == 1
    assert kinds.count(event_pb2.EVENT_KIND_TASK_FINISHED) == 1


async def test_a_task_that_is_cancelled_before_anything_happened(offline: Site) -> None:
    task = await cancel(offline, await offline.activate(await offline.new_key()))
    assert (outcomes_of(task), state_of(task)) == ({"svm-1": "CANCELLED"}, "CANCELLED")
    problem = await refusal_of(cancel(offline, task))
    assert problem.reason == "TASK_FINISHED"
    assert problem.metadata == {"task_id": task.task_id, "state": "CANCELLED"}


async def test_a_cancelled_task_makes_room_for_what_rested_on_it_to_be_refused(
    offline: Site,
) -> None:
    """The SVM itself says what becomes of a reserve whose active key was withdrawn."""
    withdrawn = await offline.activate(await offline.new_key(ends=30))
    resting = await offline.renew(await offline.new_key(ends=60))
    await cancel(offline, withdrawn)
    await offline.reconnect("svm-1")
    resting = await offline.ended(offline.task(resting))
    assert outcomes_of(resting) == {"svm-1": "NO_ACTIVE_KEY"}
    refused = await offline.history(event_pb2.EVENT_KIND_INSTRUCTION_REFUSED)
    assert [event.actor for event in refused] == ["agent"]


async def test_a_task_is_given_up_at_its_deadline(site: Site) -> None:
    await site.connect("online", "offline")
    await site.disconnect("offline")
    key = await site.new_key()
    task = await site.activate(key, wait=to_duration(timedelta(days=2)))
    assert from_timestamp(task.deadline_at) == NOW + timedelta(days=2)
    await site.until_held("online", {ACTIVE: key.serial})
    await site.advance(1.999)
    assert state_of(await site.task(task)) == "RUNNING"
    await site.advance(0.001)
    task = await site.task(task)
    assert outcomes_of(task) == {"online": "APPLIED", "offline": "DEADLINE_EXCEEDED"}
    assert state_of(task) == "PARTIAL"
    (event,) = await site.history(event_pb2.EVENT_KIND_DEADLINE_EXCEEDED)
    assert event.svm_id == "offline"
    assert from_timestamp(event.occurred_at) == NOW + timedelta(days=2)
    await site.reconnect("offline")
    await site.until_held("offline", {})


async def test_a_deadline_that_passed_while_the_server_was_down(offline: Site) -> None:
    task = await offline.activate(await offline.new_key())
    await offline.server.stop()
    await offline.start(at=NOW + timedelta(days=8))
    assert outcomes_of(await offline.task(task)) == {"svm-1": "DEADLINE_EXCEEDED"}
    (event,) = await offline.history(event_pb2.EVENT_KIND_DEADLINE_EXCEEDED)
    assert from_timestamp(event.occurred_at) == NOW + timedelta(days=7)


@pytest.mark.parametrize("end", ["cancelled", "deadline"])
async def test_a_result_that_comes_after_the_end_is_the_truth(site: Site, end: str) -> None:
    """The instruction was on its way when the task gave up, and the SVM has followed it."""
    agent = RawAgent(site)
    await agent.open()
    await agent.report(full=True)
    key = await site.new_key()
    task = await site.activate(key)
    push = await agent.next_push()
    if end == "cancelled":
        assert outcomes_of(await cancel(site, task)) == {"svm-1": "CANCELLED"}
    else:
        await site.advance(7)
        assert outcomes_of(await site.task(task)) == {"svm-1": "DEADLINE_EXCEEDED"}
    await agent.report(results=applied(push.instructions), keyring=activated(key))
    task = await site.task(task)
    assert (outcomes_of(task), state_of(task)) == ({"svm-1": "APPLIED"}, "SUCCEEDED")
    (change,) = await site.history(event_pb2.EVENT_KIND_KEYRING_CHANGED)
    assert change.task_id == task.task_id
    assert len(await site.history(event_pb2.EVENT_KIND_TASK_FINISHED)) == 1
    # And never a second time.
    await agent.report(results=applied(push.instructions))
    again = await site.task(task)
    assert again == task
    await agent.leave()


async def test_R89_a_late_result_of_a_superseded_instruction_changes_no_outcome(
    site: Site,
) -> None:
    agent = RawAgent(site)
    await agent.open()
    await agent.report(full=True)
    first, second = await site.new_key(ends=30), await site.new_key(ends=60)
    older = await site.activate(first)
    push = await agent.next_push()
    newer = await site.activate(second)
    await agent.report(results=applied(push.instructions), keyring=activated(first))
    assert outcomes_of(await site.task(older)) == {"svm-1": "SUPERSEDED"}
    assert outcomes_of(await site.task(newer)) == {"svm-1": "PENDING"}
    assert [one.version for one in (await agent.next_push()).instructions] == [2]
    assert await site.held("svm-1") == {ACTIVE: first.serial}
    await agent.leave()


async def test_an_answer_to_a_part_leaves_the_rest_to_be_sent_again(
    tmp_path: Path, vendor: KeySigner
) -> None:
    """The first push is answered after the second was sent, and the second never is."""
    async with running_site(tmp_path, vendor, push_deadline=1) as site:
        agent = RawAgent(site)
        await agent.open()
        await agent.report(full=True)
        await site.activate(await site.new_key(ends=30))
        first = await agent.next_push()
        await site.activate(await site.new_key(KeyType.DESKTOP))
        second = await agent.next_push()
        assert [one.version for one in second.instructions] == [2]
        await agent.report(results=applied(first.instructions))
        again = await agent.next_push()
        assert [one.version for one in again.instructions] == [2]
        await agent.leave()


async def test_three_pushes_without_an_answer_mark_the_svm_until_it_answers(
    tmp_path: Path, vendor: KeySigner
) -> None:
    async with running_site(tmp_path, vendor, push_deadline=1, heartbeat=60) as site:
        agent = RawAgent(site)
        await agent.open()
        await agent.report(full=True)
        await site.activate(await site.new_key())
        push = await agent.next_push()
        await site.until_svm("svm-1", lambda svm: svm.push_stalled)
        (event,) = await site.history(event_pb2.EVENT_KIND_PUSH_STALLED)
        assert event.svm_id == "svm-1"
        await agent.report(results=applied(push.instructions))
        assert not (await site.svm("svm-1")).push_stalled
        await agent.leave()
