"""`sparekey activate` and `sparekey renew`: put a stored key on SVMs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from google.protobuf.duration_pb2 import Duration

from sparekey.cli.following import exit_code, follow, show_task, with_all_outcomes
from sparekey.cli.options import DryRun, RequestId, Serial, read_span
from sparekey.cli.problems import EXIT_USAGE, CommandFailed
from sparekey.cli.session import Session, session_of
from sparekey.v1 import license_pb2
from sparekey.wire.timestamps import to_duration

All = Annotated[bool, typer.Option("--all", help="Every SVM that is not excluded.")]
Cluster = Annotated[
    str,
    typer.Option("--cluster", metavar="NAME", help="The SVMs of it.", show_default=False),
]
Svms = Annotated[
    list[str],
    typer.Option("--svm", metavar="ID", help="One SVM; can be repeated.", show_default=False),
]
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Follow the task until it is finished."),
]
Deadline = Annotated[
    str,
    typer.Option(
        "--deadline",
        metavar="SPAN",
        help="How long to wait for SVMs that are offline, 1s to 90d; the server's default is 7d.",
        show_default=False,
    ),
]


def activate(
    context: typer.Context,
    serial: Serial,
    all_svms: All = False,
    cluster: Cluster = "",
    svm: Svms = [],  # noqa: B006 - typer copies it
    dry_run: DryRun = False,
    wait: Wait = True,
    deadline: Deadline = "",
    request_id: RequestId = "",
) -> None:
    """Put a stored key on SVMs as their active key.

    It replaces an active key of the same type. The exit code is 0 if every
    SVM holds the key as asked, 3 if only some do, 4 if none does.

    Examples:
      sparekey activate 4A3F-00B2C1-9D8E7F66 --all --dry-run
      sparekey activate 4A3F-00B2C1-9D8E7F66 --cluster east
      sparekey activate 4A3F-00B2C1-9D8E7F66 --svm svm-1 --svm svm-2
    """
    session = session_of(context)
    request = license_pb2.ActivateRequest(
        key_serial=serial,
        scope=_scope(all_svms, cluster, svm),
        wait=_span(deadline),
        validate_only=dry_run,
        request_id=request_id,
    )
    _run(session, session.connection.licenses.Activate, request, wait=wait)


def renew(
    context: typer.Context,
    serial: Serial,
    all_svms: All = False,
    cluster: Cluster = "",
    svm: Svms = [],  # noqa: B006 - typer copies it
    dry_run: DryRun = False,
    wait: Wait = True,
    deadline: Deadline = "",
    request_id: RequestId = "",
) -> None:
    """Put a stored key on SVMs as their reserve key.

    It takes over by itself when the active key ends. The exit code is 0 if
    every SVM holds the key as asked, 3 if only some do, 4 if none does.

    Examples:
      sparekey renew 4A3F-00B2C1-9D8E7F66 --all --dry-run
      sparekey renew 4A3F-00B2C1-9D8E7F66 --cluster east --deadline 30d
      sparekey renew 4A3F-00B2C1-9D8E7F66 --all --no-wait
    """
    session = session_of(context)
    request = license_pb2.RenewRequest(
        key_serial=serial,
        scope=_scope(all_svms, cluster, svm),
        wait=_span(deadline),
        validate_only=dry_run,
        request_id=request_id,
    )
    _run(session, session.connection.licenses.Renew, request, wait=wait)


def _run(session: Session, method: Callable[..., Any], request: Any, *, wait: bool) -> None:
    task: license_pb2.Task = session.connection.call(method, request).task
    if wait and task.task_id and task.state == license_pb2.TASK_STATE_RUNNING:
        task = follow(session, task.task_id)
    task = with_all_outcomes(session.connection, task)
    show_task(session, task)
    if request.validate_only:
        session.note("dry run: nothing was changed")
    elif task.state == license_pb2.TASK_STATE_RUNNING:
        session.note(f"follow it with: sparekey tasks watch {task.task_id}")
    raise typer.Exit(exit_code(task))


def _scope(all_svms: bool, cluster: str, svms: list[str]) -> license_pb2.Scope:
    if [all_svms, bool(cluster), bool(svms)].count(True) != 1:
        raise CommandFailed(
            "say for which SVMs: one of --all, --cluster NAME or --svm ID", EXIT_USAGE
        )
    if all_svms:
        return license_pb2.Scope(all=license_pb2.AllSvms())
    if cluster:
        return license_pb2.Scope(cluster=cluster)
    return license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svms))


def _span(text: str) -> Duration | None:
    return to_duration(read_span(text, "--deadline")) if text else None
