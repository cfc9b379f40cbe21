"""`sparekey clock`: the test clock of a server that was started with one."""

from __future__ import annotations

from typing import Annotated, Any

import grpc
import typer
from google.protobuf.message import Message

from sparekey.cli.cells import facts, instant_cell
from sparekey.cli.options import read_instant, read_span
from sparekey.cli.problems import CommandFailed
from sparekey.cli.session import Session, session_of
from sparekey.testing.v1 import clock_pb2
from sparekey.wire.errors import read_problem
from sparekey.wire.timestamps import instant_or_none, to_duration, to_timestamp

app = typer.Typer(
    no_args_is_help=True,
    help="The test clock; only of a server started with --test-clock.",
)


@app.command()
def show(context: typer.Context) -> None:
    """Show the server's time."""
    session = session_of(context)
    _show(session, _call(session, "GetClock", clock_pb2.GetClockRequest()))


@app.command()
def advance(
    context: typer.Context,
    by: Annotated[
        str, typer.Argument(metavar="SPAN", help="How far, such as 30d or 12h.", show_default=False)
    ],
) -> None:
    """Move the server's time on, and with it every agent that follows the clock.

    Answers when everything that is due until then has been done. The fake
    activation server has a time of its own: set it first, by SetClock on its
    control port.

    Examples:
      sparekey clock advance 30d
      sparekey clock advance 1d12h
    """
    session = session_of(context)
    request = clock_pb2.AdvanceClockRequest(by=to_duration(read_span(by, "SPAN")))
    _show(session, _call(session, "AdvanceClock", request))


@app.command("set")
def set_clock(
    context: typer.Context,
    time: Annotated[
        str,
        typer.Argument(
            metavar="TIME", help="A date or an instant, as ISO 8601.", show_default=False
        ),
    ],
) -> None:
    """Set the server's time; it can also go back.

    The fake activation server has a time of its own, as for `advance`.

    Examples:
      sparekey clock set 2031-01-01
      sparekey clock set 2031-01-01T12:00:00Z
    """
    session = session_of(context)
    request = clock_pb2.SetClockRequest(time=to_timestamp(read_instant(time, "TIME")))
    _show(session, _call(session, "SetClock", request))


def _call(session: Session, method: str, request: Message) -> Any:
    try:
        return session.connection.call(getattr(session.connection.clock, method), request)
    except grpc.RpcError as error:
        if read_problem(error).code is grpc.StatusCode.UNIMPLEMENTED:
            raise CommandFailed(
                "the server has no test clock; start it with --test-clock"
            ) from None
        raise


def _show(session: Session, response: Any) -> None:
    rows: list[tuple[str, object]] = [("time", instant_cell(instant_or_none(response, "time")))]
    if "confirmed_agent_count" in response.DESCRIPTOR.fields_by_name:
        rows.append(("agents", f"{response.confirmed_agent_count} have confirmed"))
    session.show(response, lambda: facts(rows))
