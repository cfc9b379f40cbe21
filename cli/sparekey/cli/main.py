"""The program `sparekey`: global options, the commands, and an end without a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from sparekey.cli import (
    activation,
    authority,
    certificates,
    clock,
    events,
    keys,
    reports,
    svms,
    tasks,
    tokens,
)
from sparekey.cli.cells import plain
from sparekey.cli.connection import Connection
from sparekey.cli.credentials import Credentials
from sparekey.cli.options import read_span
from sparekey.cli.problems import (
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    EXIT_USAGE,
    CommandFailed,
    describe,
)
from sparekey.cli.session import Output, Run, Session
from sparekey.runtime.logs import redact_text
from sparekey.runtime.startup import StartupRefused, parse_address

_GLOBAL_OPTIONS = (
    "--server",
    "--output",
    "-o",
    "--timeout",
    "--ca-file",
    "--certificate",
    "--token-file",
)

app = typer.Typer(
    name="sparekey",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(keys.app, name="keys")
app.command("activate")(activation.activate)
app.command("renew")(activation.renew)
app.add_typer(tasks.app, name="tasks")
app.add_typer(svms.app, name="svms")
app.command("usage")(reports.usage)
app.command("forecast")(reports.forecast)
app.command("plan")(reports.plan)
app.command("explain")(reports.explain)
app.add_typer(events.app, name="events")
app.add_typer(tokens.app, name="token")
app.add_typer(tokens.join_app, name="join-token")
app.add_typer(certificates.app, name="certificates")
app.add_typer(authority.app, name="ca")
app.add_typer(clock.app, name="clock")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sparekey {version('sparekey')}")
        raise typer.Exit


@app.callback()
def configure(
    context: typer.Context,
    server: Annotated[
        str,
        typer.Option("--server", metavar="HOST:PORT", envvar="SPAREKEY_SERVER", help="The server."),
    ] = "127.0.0.1:7443",
    output: Annotated[
        Output, typer.Option("--output", "-o", help="For people, or JSON for programs.")
    ] = Output.TABLE,
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="SPAN", help="How long to wait for each answer."),
    ] = "30s",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            envvar="SPAREKEY_CA_FILE",
            help="By whom to know the server: root.pem of its authority.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            metavar="FILE",
            envvar="SPAREKEY_CERTIFICATE",
            help="Who you are: a certificate and its private key in PEM.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Who you are: a file with a token, for the server's --token-listen. Or as"
            " SPAREKEY_TOKEN.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep licenses of SVMs in force: store keys, activate, renew, look.

    Global options can stand anywhere. Exit codes: 0 done, 1 refused or not
    reachable, 2 wrong usage, 3 a task succeeded only on some SVMs, 4 on none.

    Examples:
      sparekey keys add spare-2031.key
      sparekey renew 4A3F-00B2C1-9D8E7F66 --all --dry-run
      sparekey svms list --output json
    """
    run = context.obj
    assert isinstance(run, Run)
    try:
        credentials = Credentials.read(ca_file, certificate, token_file)
    except StartupRefused as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from None
    run.session = Session(_connect(server, timeout, credentials), output)
    context.call_on_close(run.session.connection.close)


def _connect(server: str, timeout: str, credentials: Credentials) -> Connection:
    try:
        address = parse_address(server)
    except StartupRefused as refused:
        raise typer.BadParameter(str(refused), param_hint="--server") from None
    if not address.is_loopback and not credentials.encrypted:
        # A code must not cross a network in the clear.
        raise typer.BadParameter(
            f"{address} is not on this machine, and the connection is not encrypted; name the"
            f" server's authority with --ca-file, or make a"
            f" tunnel, as with: ssh -L 7443:127.0.0.1:{address.port} {address.host}",
            param_hint="--server",
        )
    return Connection(address, read_span(timeout, "--timeout"), credentials)


@cache
def _command() -> Any:
    return typer.main.get_command(app)


def global_options_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the global options, wherever they stood, before the command."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in _GLOBAL_OPTIONS:
            value = next(left, None)
            if value is None:
                return [*first, argument]  # alone it is told what it lacks
            first += [argument, value]
        elif argument.startswith(tuple(f"{name}=" for name in _GLOBAL_OPTIONS if name != "-o")):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    Args:
        arguments: The words after the program's name; the process's own if None.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Better a question mark than no table in a terminal of few letters.
            stream.reconfigure(errors="replace")
    words = global_options_first(sys.argv[1:] if arguments is None else arguments)
    run = Run()
    try:
        result = _command()(words, prog_name="sparekey", standalone_mode=False, obj=run)
    except CommandFailed as failed:
        return _end(str(failed), failed.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _end("stopped", EXIT_INTERRUPTED)
    except grpc.RpcError as error:
        address = run.session.connection.address if run.session else "?"
        return _end(describe(error, address), EXIT_REFUSED)
    except Exception as error:  # noqa: BLE001 - a traceback is nothing for an operator
        return _end_by(error)
    return result if isinstance(result, int) else 0


def _end(sentence: str, exit_code: int) -> int:
    # A code that was typed where it does not belong is not repeated into a log (R79).
    print(f"sparekey: {redact_text(plain(sentence))}", file=sys.stderr)
    return exit_code


def _end_by(error: Exception) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        return EXIT_USAGE  # the help is printed already
    # Which class means wrong usage depends on typer's release; they all have these.
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "sparekey"
        sentence = str(format_message()).replace("Value error, ", "").rstrip(".")
        sentence = sentence[:1].lower() + sentence[1:]
        return _end(f"{sentence}; see {command} --help", EXIT_USAGE)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return _end(
        f"a fault of this program: {type(error).__name__} in {where.name}, line {where.lineno};"
        " please report it",
        EXIT_REFUSED,
    )
