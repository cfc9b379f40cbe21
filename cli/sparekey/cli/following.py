"""Following a task until it is finished, through restarts of the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import grpc
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sparekey.cli.cells import plain
from sparekey.cli.connection import PAGE_SIZE, Connection
from sparekey.cli.problems import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    EXIT_REFUSED,
    CommandFailed,
    is_passing,
)
from sparekey.cli.session import Session
from sparekey.cli.tables import outcome_table, task_summary
from sparekey.cli.task_tables import needs_attention
from sparekey.v1 import license_pb2
from sparekey.wire.errors import read_problem

FEW_OUTCOMES = 50
"""More outcomes are not all printed after a task: those that are fine are counted."""

_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_LONGEST_WAIT = timedelta(minutes=1)


def exit_code(task: license_pb2.Task) -> int:
    """The exit code that tells a task's state; a running task is no failure."""
    match task.state:
        case license_pb2.TASK_STATE_SUCCEEDED | license_pb2.TASK_STATE_RUNNING:
            return 0
        case license_pb2.TASK_STATE_PARTIAL:
            return EXIT_PARTIAL
        case license_pb2.TASK_STATE_FAILED | license_pb2.TASK_STATE_CANCELLED:
            return EXIT_FAILED
        case _:
            return EXIT_REFUSED


def follow(session: Session, task_id: str) -> license_pb2.Task:
    """Follow a task with a progress bar until it is finished; return it with its outcomes.

    Raises:
        CommandFailed: Ctrl-C ended it, or the server went away for long; the task goes on.
        grpc.RpcError: the call was refused.
    """
    task = license_pb2.Task(task_id=task_id)
    outcomes: dict[str, license_pb2.Outcome] = {}
    try:
        with _progress(session) as progress:
            bar = progress.add_task(plain(task_id), total=None)
            for update in _updates(session.connection, task_id):
                task.CopyFrom(update.task)
                outcomes.update((outcome.svm_id, outcome) for outcome in update.outcomes)
                total = task.counts.total
                answered = total - task.counts.pending
                progress.update(
                    bar,
                    description=f"{plain(task_id)}: {answered} of {total} SVMs have answered",
                    total=total,
                    completed=answered,
                )
    except KeyboardInterrupt:
        raise CommandFailed(
            f"no longer followed; {plain(task_id)} goes on: sparekey tasks watch {plain(task_id)}",
            EXIT_INTERRUPTED,
        ) from None
    del task.outcomes[:]
    task.outcomes.extend(outcomes[svm_id] for svm_id in sorted(outcomes))
    return task


def _updates(connection: Connection, task_id: str) -> Iterator[license_pb2.WatchTaskResponse]:
    """What WatchTask says, with a new watch after each cut; the first message has everything."""
    request = license_pb2.WatchTaskRequest(task_id=task_id)
    waits = iter(_WAITS)
    while True:
        running = True
        wait = timedelta(0)
        try:
            for update in connection.licenses.WatchTask(request):
                running = update.task.state == license_pb2.TASK_STATE_RUNNING
                waits = iter(_WAITS)
                yield update
        except grpc.RpcError as error:
            problem = read_problem(error)
            if not is_passing(problem):
                raise
            wait = min(problem.retry_after or wait, _LONGEST_WAIT)
        if not running:
            return
        next_wait = next(waits, None)
        if next_wait is None:
            raise CommandFailed(
                f"the server at {connection.address} is gone; {plain(task_id)} goes on when it is"
                f" back: sparekey tasks watch {plain(task_id)}"
            )
        time.sleep(max(next_wait, wait.total_seconds()))


def with_all_outcomes(connection: Connection, task: license_pb2.Task) -> license_pb2.Task:
    """The task with every outcome, asking for those that the answer had no room for."""
    if not task.task_id or len(task.outcomes) >= task.counts.total:
        return task
    outcomes = list(list_outcomes(connection, task.task_id))
    whole = license_pb2.Task()
    whole.CopyFrom(task)
    del whole.outcomes[:]
    whole.outcomes.extend(outcomes)
    return whole


def list_outcomes(
    connection: Connection, task_id: str, state: int = 0
) -> Iterator[license_pb2.Outcome]:
    """A task's outcomes by SVM id; only those in a state, where one is given."""
    return connection.pages(
        connection.licenses.ListOutcomes,
        lambda token: license_pb2.ListOutcomesRequest(
            task_id=task_id,
            state=state,  # type: ignore[arg-type]
            page_size=PAGE_SIZE,
            page_token=token,
        ),
        lambda response: response.outcomes,
    )


def show_task(session: Session, task: license_pb2.Task, *, every_outcome: bool = False) -> None:
    """Print a task: its summary and its outcomes; of a large one those that need attention."""
    if session.as_json:
        session.show(task, lambda: "")
        return
    session.console.print(task_summary(task), soft_wrap=True)
    shown = list(task.outcomes)
    if not every_outcome and len(shown) > FEW_OUTCOMES:
        shown = [outcome for outcome in shown if needs_attention(outcome)]
    if shown:
        session.console.print()
        session.console.print(outcome_table(shown))
    if fine := len(task.outcomes) - len(shown):
        hint = f": sparekey tasks show {plain(task.task_id)}" if task.task_id else ""
        session.note(f"{fine} more SVMs hold the key as asked{hint}")


def _progress(session: Session) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=session.notes,
        transient=True,
        disable=not session.notes.is_terminal,
    )
