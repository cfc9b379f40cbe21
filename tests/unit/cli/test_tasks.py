"""`sparekey tasks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sparekey.v1 import error_pb2, license_pb2
from sparekey.wire.errors import CallRefused

if TYPE_CHECKING:
    from unit.cli.conftest import CommandLine, FakeServer

MakeTask = Callable[..., license_pb2.Task]
APPLIED = license_pb2.Outcome(svm_id="svm-1", state=license_pb2.OUTCOME_STATE_APPLIED)
REFUSED = license_pb2.Outcome(
    svm_id="svm-2",
    state=license_pb2.OUTCOME_STATE_REFUSED,
    reason=license_pb2.REFUSAL_REASON_TYPE_MISMATCH,
)


@pytest.fixture
def five(server: FakeServer, make_task: MakeTask, paged: Callable[..., Any]) -> FakeServer:
    tasks = [make_task(outcomes=[APPLIED, REFUSED], task_id=f"task-{n}") for n in range(5, 0, -1)]
    server.answers["ListTasks"] = paged(license_pb2.ListTasksResponse, "tasks", tasks)
    return server


def test_the_list_has_every_page(sparekey: CommandLine, five: FakeServer) -> None:
    done = sparekey("tasks", "list")
    assert done.exit_code == 0
    listed = [row[0] for row in done.rows if row[0].startswith("task-")]
    assert listed == [f"task-{n}" for n in range(5, 0, -1)]
    assert len(five.requests["ListTasks"]) == 3
    assert len(sparekey("tasks", "list", "-o", "json").json) == 5


def test_a_limit_asks_for_no_more_than_it_needs(sparekey: CommandLine, five: FakeServer) -> None:
    assert len(sparekey("tasks", "list", "--limit", "2", "-o", "json").json) == 2
    assert five.request("ListTasks").page_size == 2
    assert sparekey("tasks", "list", "--limit", "-1").exit_code == 2


def test_no_tasks(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["ListTasks"] = license_pb2.ListTasksResponse()
    done = sparekey("tasks", "list")
    assert (done.exit_code, done.out, done.err) == (0, "", "there are no tasks\n")


def test_showing_a_task_is_no_judgement(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    task = make_task(license_pb2.TASK_STATE_PARTIAL, [APPLIED, REFUSED])
    server.answers["GetTask"] = license_pb2.GetTaskResponse(task=task)
    done = sparekey("tasks", "show", "task-7")
    assert done.exit_code == 0
    assert "cluster east: partial" in done.out
    assert "2 SVMs: 1 applied, 1 refused" in done.out
    assert "started 2030-01-01T00:00:00Z, deadline 2030-01-08T00:00:00Z, by operator" in done.out
    assert ["svm-2", "refused", "type", "mismatch"] in done.rows
    assert sparekey("tasks", "show", "task-7", "-o", "json").json["state"] == "TASK_STATE_PARTIAL"


@pytest.mark.parametrize("state", ["refused", "REFUSED", "OUTCOME_STATE_REFUSED"])
def test_outcomes_can_be_chosen_by_state(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask, state: str
) -> None:
    task = make_task(license_pb2.TASK_STATE_PARTIAL, [APPLIED, REFUSED])
    server.answers["GetTask"] = license_pb2.GetTaskResponse(task=task)
    server.answers["ListOutcomes"] = license_pb2.ListOutcomesResponse(outcomes=[REFUSED])
    done = sparekey("tasks", "show", "task-7", "--state", state)
    assert server.request("ListOutcomes").state == license_pb2.OUTCOME_STATE_REFUSED
    assert "svm-2" in done.out
    assert "svm-1" not in done.out


def test_a_state_that_is_none_lists_those_that_are(sparekey: CommandLine) -> None:
    done = sparekey("tasks", "show", "task-7", "--state", "odd")
    assert done.exit_code == 2
    assert "'odd' is none of pending, applied, unchanged, refused" in done.err
    assert sparekey.server.requests == {}


def test_watching_ends_with_the_tasks_exit_code(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    task = make_task(license_pb2.TASK_STATE_PARTIAL, [APPLIED, REFUSED])
    server.answers["WatchTask"] = [
        license_pb2.WatchTaskResponse(task=task, outcomes=[REFUSED, APPLIED])
    ]
    done = sparekey("tasks", "watch", "task-7")
    assert done.exit_code == 3
    assert done.out.index("svm-1") < done.out.index("svm-2")


def test_watching_what_is_not_there(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["WatchTask"] = [CallRefused(error_pb2.ERROR_REASON_TASK_NOT_FOUND, "no task")]
    done = sparekey("tasks", "watch", "task-8")
    assert (done.exit_code, done.err) == (1, "sparekey: no task (TASK_NOT_FOUND)\n")


def test_running_a_task_again(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    again = make_task(outcomes=[APPLIED], task_id="task-9", rerun_of="task-7")
    server.answers["RunTask"] = license_pb2.RunTaskResponse(task=again)
    done = sparekey("tasks", "run", "task-7", "--request-id", "r")
    assert (done.exit_code, done.err) == (0, "")
    assert "task-9" in done.out
    assert "1 SVM: 1 applied" in done.out
    request = server.request("RunTask")
    assert (request.task_id, request.request_id, request.validate_only) == ("task-7", "r", False)


def test_a_dry_run_of_a_task_that_runs_again_starts_nothing(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    task = make_task(license_pb2.TASK_STATE_PARTIAL, [APPLIED, REFUSED], task_id="")
    server.answers["RunTask"] = license_pb2.RunTaskResponse(task=task)
    done = sparekey("tasks", "run", "task-7", "--dry-run")
    assert done.err == "dry run: nothing was started\n"
    assert ["svm-1", "applied", "-"] in done.rows
    assert ["svm-2", "refused", "type", "mismatch"] in done.rows
    assert server.request("RunTask").validate_only


def test_a_task_that_cannot_run_again(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["RunTask"] = CallRefused(error_pb2.ERROR_REASON_KEY_NOT_FOUND, "its key is gone")
    done = sparekey("tasks", "run", "task-7")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "sparekey: its key is gone (KEY_NOT_FOUND)\n"


def test_cancelling(sparekey: CommandLine, server: FakeServer, make_task: MakeTask) -> None:
    task = make_task(license_pb2.TASK_STATE_CANCELLED, [APPLIED])
    server.answers["CancelTask"] = license_pb2.CancelTaskResponse(task=task)
    assert sparekey("tasks", "cancel", "task-7", "--request-id", "r").exit_code == 0
    assert server.request("CancelTask").request_id == "r"
    assert "nothing was cancelled" in sparekey("tasks", "cancel", "task-7", "--dry-run").err
