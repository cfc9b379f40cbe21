"""`sparekey activate` and `sparekey renew`: scope, dry run, following and exit codes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sparekey.v1 import error_pb2, license_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import from_duration

if TYPE_CHECKING:
    from unit.cli.conftest import CommandLine, FakeServer

MakeTask = Callable[..., license_pb2.Task]
SERIAL = "0001-000001-00000001"
RUNNING = license_pb2.TASK_STATE_RUNNING
APPLIED = license_pb2.Outcome(svm_id="svm-1", state=license_pb2.OUTCOME_STATE_APPLIED)
PENDING = license_pb2.Outcome(svm_id="svm-2", state=license_pb2.OUTCOME_STATE_PENDING)
REFUSED = license_pb2.Outcome(
    svm_id="svm-2",
    state=license_pb2.OUTCOME_STATE_REFUSED,
    reason=license_pb2.REFUSAL_REASON_NO_ACTIVE_KEY,
    message="The SVM has no active key: activate it first.",
)
UNAVAILABLE = CallRefused(error_pb2.ERROR_REASON_SHUTTING_DOWN, "the server is stopping")


def update(task: license_pb2.Task, *outcomes: license_pb2.Outcome) -> license_pb2.WatchTaskResponse:
    bare = license_pb2.Task()
    bare.CopyFrom(task)
    del bare.outcomes[:]
    return license_pb2.WatchTaskResponse(task=bare, outcomes=outcomes)


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        (("--all",), license_pb2.Scope(all=license_pb2.AllSvms())),
        (("--cluster", "east"), license_pb2.Scope(cluster="east")),
        (
            ("--svm", "svm-1", "--svm", "svm-2"),
            license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=["svm-1", "svm-2"])),
        ),
    ],
)
@pytest.mark.parametrize(
    ("command", "rpc", "response"),
    [
        ("activate", "Activate", license_pb2.ActivateResponse),
        ("renew", "Renew", license_pb2.RenewResponse),
    ],
)
def test_the_scope_and_every_option_is_sent(
    sparekey: CommandLine,
    server: FakeServer,
    make_task: MakeTask,
    words: tuple[str, ...],
    scope: license_pb2.Scope,
    command: str,
    rpc: str,
    response: Any,
) -> None:
    server.answers[rpc] = response(task=make_task(outcomes=[APPLIED]))
    done = sparekey(command, SERIAL, *words, "--deadline", "1d12h", "--request-id", "r-1")
    assert done.exit_code == 0
    request = server.request(rpc)
    assert request.key_serial == SERIAL
    assert request.scope == scope
    assert from_duration(request.wait) == timedelta(days=1, hours=12)
    assert (request.request_id, request.validate_only) == ("r-1", False)


def test_without_a_deadline_the_server_chooses(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    server.answers["Renew"] = license_pb2.RenewResponse(task=make_task(outcomes=[APPLIED]))
    sparekey("renew", SERIAL, "--all")
    assert not server.request("Renew").HasField("wait")


@pytest.mark.parametrize(
    "words", [(), ("--all", "--cluster", "east"), ("--svm", "a", "--all"), ("--cluster", "")]
)
def test_exactly_one_scope_is_wanted(sparekey: CommandLine, words: tuple[str, ...]) -> None:
    done = sparekey("renew", SERIAL, *words)
    assert done.exit_code == 2
    assert "one of --all, --cluster NAME or --svm ID" in done.err
    assert sparekey.server.requests == {}


@pytest.mark.parametrize("span", ["7", "d", "1w", "-1d", "one day", "9999999d"])
def test_a_deadline_is_a_span_with_units(sparekey: CommandLine, span: str) -> None:
    done = sparekey("renew", SERIAL, "--all", f"--deadline={span}")
    assert done.exit_code == 2
    assert "--deadline" in done.err
    assert "span" in done.err


def test_a_dry_run_shows_what_would_come_and_follows_nothing(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    task = make_task(license_pb2.TASK_STATE_PARTIAL, [APPLIED, REFUSED], task_id="")
    server.answers["Renew"] = license_pb2.RenewResponse(task=task)
    done = sparekey("renew", SERIAL, "--all", "--dry-run")
    assert server.request("Renew").validate_only is True
    assert done.exit_code == 3
    assert "dry run" in done.out
    assert "nothing was changed" in done.err
    assert ["svm-1", "applied", "-"] in done.rows
    assert "no active key" in done.out
    assert "activate it first." in " ".join(done.out.split())
    assert "WatchTask" not in server.requests


@pytest.mark.parametrize(
    ("state", "exit_code"),
    [
        (license_pb2.TASK_STATE_SUCCEEDED, 0),
        (license_pb2.TASK_STATE_PARTIAL, 3),
        (license_pb2.TASK_STATE_FAILED, 4),
        (license_pb2.TASK_STATE_CANCELLED, 4),
        (99, 1),
    ],
)
def test_a_task_is_followed_to_its_end_and_the_exit_code_tells_it(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask, state: Any, exit_code: int
) -> None:
    first, last = make_task(RUNNING, [APPLIED, PENDING]), make_task(state, [APPLIED, REFUSED])
    server.answers["Renew"] = license_pb2.RenewResponse(task=first)
    server.answers["WatchTask"] = [update(first, APPLIED, PENDING), update(last, REFUSED)]
    done = sparekey("renew", SERIAL, "--all", "--output", "json")
    assert done.exit_code == exit_code
    assert server.request("WatchTask").task_id == "task-7"
    assert [outcome["state"] for outcome in done.json["outcomes"]] == [
        "OUTCOME_STATE_APPLIED",
        "OUTCOME_STATE_REFUSED",
    ]
    assert done.json["counts"]["refused"] == 1


def test_a_task_that_is_finished_at_once_is_not_followed(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    task = make_task(license_pb2.TASK_STATE_FAILED, [REFUSED])
    server.answers["Activate"] = license_pb2.ActivateResponse(task=task)
    assert sparekey("activate", SERIAL, "--svm", "svm-2").exit_code == 4
    assert "WatchTask" not in server.requests


def test_not_waiting_ends_well_and_says_how_to_follow(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    server.answers["Renew"] = license_pb2.RenewResponse(task=make_task(RUNNING, [PENDING]))
    done = sparekey("renew", SERIAL, "--all", "--no-wait")
    assert done.exit_code == 0
    assert "sparekey tasks watch task-7" in done.err
    assert "WatchTask" not in server.requests


def test_following_survives_a_restart_of_the_server(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    first = make_task(RUNNING, [PENDING])
    last = make_task(outcomes=[APPLIED])
    server.answers["Renew"] = license_pb2.RenewResponse(task=first)
    server.answers["WatchTask"] = [
        [update(first, PENDING), UNAVAILABLE],
        [update(first, PENDING)],  # an end without the task's end
        [UNAVAILABLE],
        [update(last, APPLIED)],
    ]
    assert sparekey("renew", SERIAL, "--all").exit_code == 0
    assert len(server.requests["WatchTask"]) == 4


def test_a_server_that_stays_away_ends_the_following_and_not_the_task(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    server.answers["Renew"] = license_pb2.RenewResponse(task=make_task(RUNNING, [PENDING]))
    server.answers["WatchTask"] = [UNAVAILABLE]
    done = sparekey("renew", SERIAL, "--all")
    assert (done.exit_code, done.out) == (1, "")
    assert "task-7 goes on" in done.err
    assert "sparekey tasks watch task-7" in done.err


def test_ctrl_c_ends_the_following_and_not_the_task(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    server.answers["Renew"] = license_pb2.RenewResponse(task=make_task(RUNNING, [PENDING]))
    server.answers["WatchTask"] = [UNAVAILABLE]
    monkeypatch.setattr("time.sleep", interrupt)
    done = sparekey("renew", SERIAL, "--all")
    assert done.exit_code == 130
    assert "task-7 goes on" in done.err


def test_progress_goes_to_the_terminal_and_not_into_the_answer(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = make_task(RUNNING, [APPLIED, PENDING]), make_task(outcomes=[APPLIED])
    server.answers["Renew"] = license_pb2.RenewResponse(task=first)
    server.answers["WatchTask"] = [update(first, APPLIED, PENDING), update(last, APPLIED)]
    assert "have answered" not in sparekey("renew", SERIAL, "--all").err
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    done = sparekey("renew", SERIAL, "--all", "-o", "json")
    assert "SVMs have answered" in done.err
    assert done.json["task_id"] == "task-7"


def test_of_a_large_task_only_what_needs_attention_is_listed(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask
) -> None:
    fine = [
        license_pb2.Outcome(svm_id=f"fine-{n}", state=license_pb2.OUTCOME_STATE_UNCHANGED)
        for n in range(60)
    ]
    advised = license_pb2.Outcome(
        svm_id="advised",
        state=license_pb2.OUTCOME_STATE_APPLIED,
        advice=[license_pb2.ADVICE_RESERVE_COVERAGE_GAP],
    )
    task = make_task(license_pb2.TASK_STATE_PARTIAL, [*fine, advised, REFUSED])
    server.answers["Renew"] = license_pb2.RenewResponse(task=task)
    done = sparekey("renew", SERIAL, "--all")
    assert "fine-" not in done.out
    assert "advised" in done.out
    assert "svm-2" in done.out
    assert "60 more SVMs hold the key as asked: sparekey tasks show task-7" in done.err


def test_outcomes_beyond_the_answer_are_fetched(
    sparekey: CommandLine, server: FakeServer, make_task: MakeTask, paged: Callable[..., Any]
) -> None:
    outcomes = [
        license_pb2.Outcome(svm_id=f"svm-{n}", state=license_pb2.OUTCOME_STATE_APPLIED)
        for n in range(5)
    ]
    task = make_task(outcomes=outcomes)
    del task.outcomes[1:]
    server.answers["Renew"] = license_pb2.RenewResponse(task=task)
    server.answers["ListOutcomes"] = paged(license_pb2.ListOutcomesResponse, "outcomes", outcomes)
    listed = sparekey("renew", SERIAL, "--all", "-o", "json").json["outcomes"]
    assert [outcome["svm_id"] for outcome in listed] == [f"svm-{n}" for n in range(5)]


def test_a_refused_task_is_one_sentence(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["Renew"] = CallRefused(
        error_pb2.ERROR_REASON_SCOPE_EMPTY, "no SVM is in the cluster west"
    )
    done = sparekey("renew", SERIAL, "--cluster", "west")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "sparekey: no SVM is in the cluster west (SCOPE_EMPTY)\n"
