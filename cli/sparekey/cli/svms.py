"""`sparekey svms`: what is out there, and in which state."""

from __future__ import annotations

from functools import partial

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from sparekey.cli.cells import cell
from sparekey.cli.connection import PAGE_SIZE, Connection
from sparekey.cli.options import ClusterFilter, DryRun, RequestId, SvmId
from sparekey.cli.session import Session, session_of
from sparekey.cli.tables import svm_details, svm_table
from sparekey.v1 import fleet_pb2

app = typer.Typer(no_args_is_help=True, help="The SVMs: their links, keys and ends.")


@app.command("list")
def list_svms(context: typer.Context, cluster: ClusterFilter = "") -> None:
    """List SVMs by id, with their keys and when those end."""
    session = session_of(context)
    connection = session.connection
    svms = connection.pages(
        connection.fleet.ListSvms,
        lambda token: fleet_pb2.ListSvmsRequest(
            cluster=cluster, page_size=PAGE_SIZE, page_token=token
        ),
        lambda response: response.svms,
    )
    where = f" in the cluster {cluster}" if cluster else ""
    session.show_all(
        svms,
        lambda listed: svm_table(listed, connection.now()),
        empty=f"no SVM is known{where}",
    )


@app.command()
def show(context: typer.Context, svm_id: SvmId) -> None:
    """Show everything about one SVM."""
    session = session_of(context)
    request = fleet_pb2.GetSvmRequest(svm_id=svm_id)
    _show(session, session.connection.call(session.connection.fleet.GetSvm, request).svm)


@app.command()
def watch(context: typer.Context, cluster: ClusterFilter = "") -> None:
    """Follow the fleet until Ctrl-C.

    On a terminal it is one table that changes; else, and with --output json,
    each message is printed as it comes, JSON as one object a line.
    """
    session = session_of(context)
    connection = session.connection
    messages = connection.fleet.WatchSvms(fleet_pb2.WatchSvmsRequest(cluster=cluster))
    svms: dict[str, fleet_pb2.Svm] = {}

    def table() -> RenderableType:
        return svm_table([svms[svm_id] for svm_id in sorted(svms)], connection.now())

    if session.as_json or not session.console.is_terminal:
        for message in messages:
            session.show_next(message, partial(_changed, message, connection))
        return
    with Live(console=session.console, auto_refresh=False, vertical_overflow="visible") as live:
        for message in messages:
            svms.update((svm.svm_id, svm) for svm in message.svms)
            for svm_id in (*message.forgotten_svm_ids, *message.left_svm_ids):
                svms.pop(svm_id, None)
            if message.caught_up:
                live.update(table(), refresh=True)


@app.command()
def exclude(
    context: typer.Context, svm_id: SvmId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Leave an SVM out of tasks for all SVMs or for a cluster.

    A task that names it still reaches it.
    """
    _exclude(session_of(context), svm_id, False, dry_run, request_id)


@app.command()
def include(
    context: typer.Context, svm_id: SvmId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Take an excluded SVM in again."""
    _exclude(session_of(context), svm_id, True, dry_run, request_id)


@app.command()
def forget(
    context: typer.Context, svm_id: SvmId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Forget an SVM that is gone for good; refused while it is connected."""
    session = session_of(context)
    request = fleet_pb2.ForgetSvmRequest(
        svm_id=svm_id, validate_only=dry_run, request_id=request_id
    )
    _show(session, session.connection.call(session.connection.fleet.ForgetSvm, request).svm)
    session.note("dry run: nothing was forgotten" if dry_run else "forgotten")


def _exclude(
    session: Session, svm_id: str, include_again: bool, dry_run: bool, request_id: str
) -> None:
    request = fleet_pb2.ExcludeSvmRequest(
        svm_id=svm_id, include_again=include_again, validate_only=dry_run, request_id=request_id
    )
    _show(session, session.connection.call(session.connection.fleet.ExcludeSvm, request).svm)
    if dry_run:
        session.note("dry run: nothing was changed")


def _changed(message: fleet_pb2.WatchSvmsResponse, connection: Connection) -> RenderableType:
    gone = [cell(f"{svm_id} left the cluster") for svm_id in message.left_svm_ids]
    gone += [cell(f"{svm_id} was forgotten") for svm_id in message.forgotten_svm_ids]
    return Group(*[svm_table(message.svms, connection.now())] if message.svms else [], *gone)


def _show(session: Session, svm: fleet_pb2.Svm) -> None:
    session.show(svm, lambda: svm_details(svm, session.connection.now()))
