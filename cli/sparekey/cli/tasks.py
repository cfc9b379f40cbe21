"""`sparekey tasks`: activation tasks."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from sparekey.cli.connection import PAGE_SIZE
from sparekey.cli.following import (
    exit_code,
    follow,
    list_outcomes,
    show_task,
    with_all_outcomes,
)
from sparekey.cli.options import DryRun, RequestId, TaskId, read_enum
from sparekey.cli.session import session_of
from sparekey.cli.tables import task_table
from sparekey.v1 import license_pb2

app = typer.Typer(no_args_is_help=True, help="Activation tasks: look them up, follow and cancel.")


@app.command("list")
def list_tasks(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="The most to list; 0 lists all.")
    ] = 0,
) -> None:
    """List tasks, newest first."""
    session = session_of(context)
    connection = session.connection
    tasks = connection.pages(
        connection.licenses.ListTasks,
        lambda token: license_pb2.ListTasksRequest(
            page_size=min(limit or PAGE_SIZE, PAGE_SIZE), page_token=token
        ),
        lambda response: response.tasks,
    )
    session.show_all(islice(tasks, limit or None), task_table, empty="there are no tasks")


@app.command()
def show(
    context: typer.Context,
    task_id: TaskId,
    state: Annotated[
        str,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only outcomes in this state, for example refused.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Show a task and how it ended on each SVM, and why.

    Examples:
      sparekey tasks show task-7
      sparekey tasks show task-7 --state refused
    """
    session = session_of(context)
    connection = session.connection
    number = read_enum(state, license_pb2.OutcomeState, "--state") if state else 0
    request = license_pb2.GetTaskRequest(task_id=task_id)
    task = connection.call(connection.licenses.GetTask, request).task
    if number:
        outcomes = list(list_outcomes(connection, task_id, number))
        del task.outcomes[:]
        task.outcomes.extend(outcomes)
    else:
        task = with_all_outcomes(connection, task)
    show_task(session, task, every_outcome=True)


@app.command()
def watch(context: typer.Context, task_id: TaskId) -> None:
    """Follow a task until it is finished.

    The exit code is 0 if it succeeded, 3 if only on some SVMs, 4 if on none.
    Ctrl-C ends the watch and not the task.
    """
    session = session_of(context)
    task = follow(session, task_id)
    show_task(session, task)
    raise typer.Exit(exit_code(task))


@app.command("run")
def run_again(
    context: typer.Context, task_id: TaskId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Run a task again: its key, or the one that renewed it, to its scope as that is now.

    For a subscription that is over: have it renewed by its provider first.
    """
    session = session_of(context)
    request = license_pb2.RunTaskRequest(
        task_id=task_id, validate_only=dry_run, request_id=request_id
    )
    task = session.connection.call(session.connection.licenses.RunTask, request).task
    show_task(session, task, every_outcome=dry_run)
    if dry_run:
        session.note("dry run: nothing was started")


@app.command()
def cancel(
    context: typer.Context, task_id: TaskId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Take back what a task's SVMs have not confirmed yet.

    SVMs that followed already keep their keys.
    """
    session = session_of(context)
    request = license_pb2.CancelTaskRequest(
        task_id=task_id, validate_only=dry_run, request_id=request_id
    )
    task = session.connection.call(session.connection.licenses.CancelTask, request).task
    show_task(session, with_all_outcomes(session.connection, task))
    if dry_run:
        session.note("dry run: nothing was cancelled")
