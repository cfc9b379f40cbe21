"""`sparekey events`: the history."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import Annotated

import grpc
import typer

from sparekey.cli.connection import PAGE_SIZE
from sparekey.cli.options import read_enum
from sparekey.cli.problems import is_passing
from sparekey.cli.session import session_of
from sparekey.cli.tables import event_line, event_table
from sparekey.v1 import event_pb2
from sparekey.wire.errors import read_problem

app = typer.Typer(no_args_is_help=True, help="The history: every change, who led to it and when.")

Svm = Annotated[
    str,
    typer.Option("--svm", metavar="ID", help="Only events about this SVM.", show_default=False),
]
Kinds = Annotated[
    list[str],
    typer.Option(
        "--kind",
        metavar="KIND",
        help="Only events of this kind, for example key-added; can be repeated.",
        show_default=False,
    ),
]
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


@app.command("list")
def list_events(
    context: typer.Context,
    svm: Svm = "",
    key: Annotated[
        str,
        typer.Option("--key", metavar="SERIAL", help="Only about this key.", show_default=False),
    ] = "",
    task: Annotated[
        str,
        typer.Option("--task", metavar="TASK", help="Only of this task.", show_default=False),
    ] = "",
    kind: Kinds = [],  # noqa: B006 - typer copies it
    after: Annotated[
        int, typer.Option("--after", metavar="CURSOR", min=0, help="Only after this cursor.")
    ] = 0,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="The most to list; 0 lists all.")
    ] = 0,
) -> None:
    """List events, oldest first.

    Examples:
      sparekey events list --svm svm-1
      sparekey events list --kind keyring-changed --kind key-blocked
      sparekey events list --after 1200 --limit 50 --output json
    """
    session = session_of(context)
    connection = session.connection
    kinds = _kinds(kind)
    events = connection.pages(
        connection.events.ListEvents,
        lambda token: event_pb2.ListEventsRequest(
            svm_id=svm,
            key_serial=key,
            task_id=task,
            kinds=kinds,  # type: ignore[arg-type]
            after_cursor=after,
            page_size=min(limit or PAGE_SIZE, PAGE_SIZE),
            page_token=token,
        ),
        lambda response: response.events,
    )
    session.show_all(islice(events, limit or None), event_table, empty="there are no such events")


@app.command()
def follow(
    context: typer.Context,
    svm: Svm = "",
    kind: Kinds = [],  # noqa: B006 - typer copies it
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            metavar="CURSOR",
            min=0,
            help="Begin after this cursor, 0 is the beginning; else what comes from now on.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print events as they come, one a line, until Ctrl-C; JSON as one object a line.

    Where the server goes away for a while it goes on from where it was.
    """
    session = session_of(context)
    request = event_pb2.WatchEventsRequest(
        svm_id=svm,
        kinds=_kinds(kind),  # type: ignore[arg-type]
        after_cursor=after or 0,
        from_now=after is None,
    )
    waits = iter(_WAITS)
    reached = False
    while True:
        try:
            for message in session.connection.events.WatchEvents(request):
                for event in message.events:
                    session.show_next(event, partial(event_line, event))
                request.after_cursor, request.from_now = message.cursor, False
                waits, reached = iter(_WAITS), True
        except grpc.RpcError as error:
            wait = next(waits, None)
            if not reached or wait is None or not is_passing(read_problem(error)):
                raise
            time.sleep(wait)
        else:
            return


def _kinds(names: list[str]) -> list[int]:
    return [read_enum(name, event_pb2.EventKind, "--kind") for name in names]
