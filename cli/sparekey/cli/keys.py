"""`sparekey keys`: the key storage."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from sparekey.cli.connection import PAGE_SIZE
from sparekey.cli.options import DryRun, RequestId, Serial
from sparekey.cli.problems import EXIT_USAGE, CommandFailed
from sparekey.cli.session import Session, session_of
from sparekey.cli.tables import key_details, key_table
from sparekey.v1 import key_pb2

app = typer.Typer(
    no_args_is_help=True,
    help="The key storage: add, look up and delete license keys.",
)
_CODE = re.compile(r"(?:[A-Za-z0-9]{5}-){3}[A-Za-z0-9]{5}")
# A longer text is no key file and no code; the server says so of the first bytes.
_MOST_BYTES = 64 * 1024


@app.command()
def add(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A signed key file.", show_default=False)
    ] = "",
    code_from: Annotated[
        str,
        typer.Option(
            "--code-from",
            metavar="FILE",
            help="A file that holds an activation code; - is standard input.",
            show_default=False,
        ),
    ] = "",
    dry_run: DryRun = False,
    request_id: RequestId = "",
) -> None:
    """Add a key from a signed key file, or by an activation code.

    A code is never an argument, since lists of processes show those.
    Without FILE and --code-from it is asked for and not shown.

    Examples:
      sparekey keys add spare-2031.key
      sparekey keys add --code-from code.txt
      pass show sparekey/code | sparekey keys add --code-from -
    """
    session = session_of(context)
    request = key_pb2.AddKeyRequest(validate_only=dry_run, request_id=request_id)
    if file and code_from:
        raise CommandFailed("give a key file or --code-from, not both", EXIT_USAGE)
    if _CODE.fullmatch(file.strip()) and not Path(file).exists():
        raise CommandFailed(
            "an activation code does not belong on the command line, where others see it; put it"
            " in a file for --code-from",
            EXIT_USAGE,
        )
    if file:
        request.key_file = _read(file)
    else:
        request.activation_code = _read_code(code_from)
    response = session.connection.call(session.connection.keys.AddKey, request)
    session.show(response, lambda: key_details(response.key, session.connection.now()))
    if dry_run:
        session.note("dry run: nothing was stored")
    elif response.already_stored:
        session.note("the storage held this key before; nothing was changed")


@app.command("list")
def list_keys(context: typer.Context) -> None:
    """List every stored key; what ends first comes first."""
    session = session_of(context)
    connection = session.connection
    keys = connection.pages(
        connection.keys.ListKeys,
        lambda token: key_pb2.ListKeysRequest(page_size=PAGE_SIZE, page_token=token),
        lambda response: response.keys,
    )
    session.show_all(
        keys,
        lambda listed: key_table(listed, connection.now()),
        empty="no keys are stored; add one with: sparekey keys add FILE",
    )


@app.command()
def show(context: typer.Context, serial: Serial) -> None:
    """Show everything about one key."""
    session = session_of(context)
    request = key_pb2.GetKeyRequest(serial=serial)
    response = session.connection.call(session.connection.keys.GetKey, request)
    _show_key(session, response.key)


@app.command()
def delete(
    context: typer.Context,
    serial: Serial,
    force: Annotated[
        bool, typer.Option("--force", help="Even while a running task refers to the key.")
    ] = False,
    dry_run: DryRun = False,
    request_id: RequestId = "",
) -> None:
    """Take a key out of the storage. SVMs that run under it keep running."""
    session = session_of(context)
    request = key_pb2.DeleteKeyRequest(
        serial=serial, force=force, validate_only=dry_run, request_id=request_id
    )
    response = session.connection.call(session.connection.keys.DeleteKey, request)
    _show_key(session, response.key)
    session.note("dry run: nothing was deleted" if dry_run else "deleted")


@app.command()
def refresh(context: typer.Context, dry_run: DryRun = False, request_id: RequestId = "") -> None:
    """Ask the activation server now which keys are blocked."""
    session = session_of(context)
    request = key_pb2.RefreshKeysRequest(validate_only=dry_run, request_id=request_id)
    response = session.connection.call(session.connection.keys.RefreshKeys, request)
    session.show_all(
        response.newly_blocked_keys,
        lambda listed: key_table(listed, session.connection.now()),
        empty="no key was newly blocked",
    )


def _show_key(session: Session, key: key_pb2.Key) -> None:
    session.show(key, lambda: key_details(key, session.connection.now()))


def _read(name: str) -> bytes:
    try:
        if name == "-":
            return sys.stdin.buffer.read(_MOST_BYTES)
        with Path(name).open("rb") as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file"
        raise CommandFailed(f"cannot read {name}: {reason.lower()}", EXIT_USAGE) from None


def _read_code(name: str) -> str:
    if name:
        code = _read(name).decode("utf-8", "replace").strip()
    elif sys.stdin.isatty():
        code = str(typer.prompt("Activation code", hide_input=True, err=True)).strip()
    else:
        raise CommandFailed("name a key file, or give a code with --code-from FILE", EXIT_USAGE)
    if not code:
        raise CommandFailed("there is no activation code; the input is empty", EXIT_USAGE)
    return code
