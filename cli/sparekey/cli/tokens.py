"""`sparekey token` and `sparekey join-token`: tokens of operators, and of agents that enroll."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from sparekey.certificates.private_files import write_file
from sparekey.cli.cells import BAD, FAINT, cell, instant_cell, new_table, word
from sparekey.cli.connection import PAGE_SIZE
from sparekey.cli.options import DryRun, RequestId, read_enum, read_span
from sparekey.cli.problems import EXIT_USAGE, CommandFailed
from sparekey.cli.session import Session, session_of
from sparekey.runtime.startup import StartupRefused
from sparekey.v1 import access_pb2
from sparekey.wire.timestamps import instant_or_none, to_duration

app = typer.Typer(no_args_is_help=True, help="Tokens of operators and programs.")
join_app = typer.Typer(no_args_is_help=True, help="Tokens with which agents enroll, once each.")

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write the token to a file that only you may read."),
]
TokenId = Annotated[str, typer.Argument(metavar="ID", help="The token's id.", show_default=False)]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Who acts by it; events name it.")
    ],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, operator or admin.")],
    lifetime: Annotated[
        str, typer.Option("--lifetime", metavar="SPAN", help="How long it lasts.")
    ] = "30d",
    clusters: Annotated[
        list[str] | None,
        typer.Option(
            "--cluster",
            metavar="NAME",
            help="Act upon SVMs of this cluster only; can be given again.",
            show_default=False,
        ),
    ] = None,
    out: Out = None,
    dry_run: DryRun = False,
    request_id: RequestId = "",
) -> None:
    """Make a token; it is shown this once.

    Examples:
      sparekey token create --name backup-report --role viewer --out report.token
      sparekey token create --name north-team --role operator --cluster north
    """
    session = session_of(context)
    request = access_pb2.CreateTokenRequest(
        name=name,
        role=read_enum(role, access_pb2.Role, "--role"),  # type: ignore[arg-type]
        lifetime=to_duration(read_span(lifetime, "--lifetime")),
        clusters=clusters or (),
        validate_only=dry_run,
        request_id=request_id,
    )
    _show(session, session.connection.call(session.connection.access.CreateToken, request), out)


@join_app.command("create")
def create_join(
    context: typer.Context,
    svm: Annotated[
        str,
        typer.Option(
            "--svm",
            metavar="ID",
            help="The only SVM that may use it; needed to enroll one again.",
            show_default=False,
        ),
    ] = "",
    lifetime: Annotated[
        str, typer.Option("--lifetime", metavar="SPAN", help="How long it can be used.")
    ] = "1h",
    out: Out = None,
    dry_run: DryRun = False,
    request_id: RequestId = "",
) -> None:
    """Make a join token; it is shown this once, and one agent can use it once.

    Examples:
      sparekey join-token create --svm svm-17 --out svm-17.token
    """
    session = session_of(context)
    request = access_pb2.CreateJoinTokenRequest(
        svm_id=svm,
        lifetime=to_duration(read_span(lifetime, "--lifetime")),
        validate_only=dry_run,
        request_id=request_id,
    )
    response = session.connection.call(session.connection.access.CreateJoinToken, request)
    _show(session, response, out)


@app.command("list")
def list_tokens(context: typer.Context) -> None:
    """List tokens of both kinds, newest first; never their secrets."""
    session = session_of(context)
    connection = session.connection
    tokens = connection.pages(
        connection.access.ListTokens,
        lambda token: access_pb2.ListTokensRequest(page_size=PAGE_SIZE, page_token=token),
        lambda response: response.tokens,
    )
    session.show_all(tokens, _table, empty="there are no tokens")


@app.command()
def revoke(
    context: typer.Context, token_id: TokenId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Make a token of either kind useless at once."""
    session = session_of(context)
    request = access_pb2.RevokeTokenRequest(
        token_id=token_id, validate_only=dry_run, request_id=request_id
    )
    response = session.connection.call(session.connection.access.RevokeToken, request)
    session.show(response.record, lambda: _table([response.record]))
    session.note("dry run: nothing was revoked" if dry_run else "revoked")


def _show(session: Session, response: Any, out: Path | None) -> None:
    if not response.token:
        session.show(response.record, lambda: _table([response.record]))
        session.note("no token was made: this was a dry run, or a retry of a call that made one")
        return
    if out is None:
        session.show(response, lambda: cell(response.token))
        session.note(f"{response.record.token_id}: keep the token, it is not shown again")
        return
    try:
        write_file(out, f"{response.token}\n".encode("ascii"))
    except StartupRefused as refused:
        raise CommandFailed(
            f"{refused}; the token {response.record.token_id} is lost, so revoke it", EXIT_USAGE
        ) from None
    session.show(response.record, lambda: _table([response.record]))
    session.note(f"wrote {out}")


def _table(tokens: Iterable[access_pb2.Token]) -> Table:
    table = new_table()
    for title in ("ID", "FOR", "ROLE", "CLUSTERS", "STATE", "ENDS"):
        table.add_column(title, no_wrap=title == "ID")
    for token in tokens:
        joins = token.kind == access_pb2.TOKEN_KIND_JOIN
        whom = f"SVM {token.svm_id or 'of any id'}" if joins else token.name
        table.add_row(
            cell(token.token_id),
            cell(whom),
            cell("join" if joins else word(access_pb2.Role, token.role)),
            cell(", ".join(token.clusters) or ("" if joins else "all")),
            _state(token),
            instant_cell(instant_or_none(token, "expires_at")),
        )
    return table


def _state(token: access_pb2.Token) -> Any:
    if token.HasField("revoked_at"):
        return cell("revoked", BAD)
    return cell("used", FAINT) if token.HasField("used_at") else cell("valid")
