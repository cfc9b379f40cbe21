"""The program `sparekey-server`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from sparekey.runtime.command_line import run_command
from sparekey.runtime.logs import configure_logs
from sparekey.runtime.startup import (
    EXIT_REFUSED,
    StartupRefused,
    announce,
    collect_seldom,
    run_program,
    stop_requested,
)
from sparekey.server.license_server import LicenseServer
from sparekey.server.settings import ServerSettings

PROGRAM = "sparekey-server"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve(
    listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT for agents and operators; port 0 takes a free one."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for the embedded database.")] = None,
    database: Annotated[
        str | None, typer.Option(help="Database URL in place of the embedded one.")
    ] = None,
    activation_server: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the activation server; without it, key files only."),
    ] = None,
    vendor_keys: Annotated[
        Path | None,
        typer.Option(help="JSON file of trusted public keys by signer id."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(help="Folder of the certificate authority that `sparekey ca init` made."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A further name of this server, for its certificate."),
    ] = None,
    token_listen: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT for callers without a client certificate: agents that enroll, and"
            " operators with a token."
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="In place of --ca: the server's certificate, PEM, ECDSA.")
    ] = None,
    private_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="The authorities of its clients, PEM.")
    ] = None,
    certificate_lifetime: Annotated[
        float | None, typer.Option(help="Seconds that an agent's certificate lasts.")
    ] = None,
    test_clock: Annotated[
        str | None,
        typer.Option(
            help="Start with a clock that stands still at this instant and is moved by"
            " ClockService; for tests only."
        ),
    ] = None,
    heartbeat: Annotated[
        float | None, typer.Option(help="Seconds that an agent may be silent.")
    ] = None,
    subscription_poll_interval: Annotated[
        float | None,
        typer.Option(
            help="Seconds between two questions about a subscription, give or take a tenth;"
            " 3600 unless given."
        ),
    ] = None,
    block_grace: Annotated[
        float | None,
        typer.Option(
            help="Seconds that a blocked key keeps everything running where its issuer says"
            " nothing; 8 days unless given."
        ),
    ] = None,
    writer_process: Annotated[
        bool, typer.Option(help="Write in a process of its own, which uses a second core.")
    ] = True,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_json: Annotated[bool | None, typer.Option("--log-json", help="Log JSON lines.")] = None,
) -> None:
    """Run the license server: key storage, activation tasks, the agents' link, history.

    Defaults: --listen 127.0.0.1:7443 --data ./sparekey-data. Each option can be
    given as an environment variable too, for example SPAREKEY_SERVER_LISTEN.

    Off loopback every call is encrypted and known:
      sparekey ca init --folder /etc/sparekey/ca
      sparekey-server --listen 0.0.0.0:7443 --token-listen 0.0.0.0:7442 --ca /etc/sparekey/ca ...

    Example:
      sparekey-server --data /var/lib/sparekey --vendor-keys vendor-keys.json
      --activation-server 127.0.0.1:7444
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if value is not None}
    try:
        settings = ServerSettings(**given)
    except ValidationError as invalid:
        print(f"{PROGRAM}: {_sentence(invalid)}", file=sys.stderr)
        raise typer.Exit(EXIT_REFUSED) from None
    configure_logs(PROGRAM, level=settings.log_level, as_json=settings.log_json)
    raise typer.Exit(run_program(PROGRAM, lambda: _run(settings)))


async def _run(settings: ServerSettings) -> None:
    stop = stop_requested()
    server = LicenseServer(settings)
    await server.start()
    collect_seldom()
    facts: dict[str, object] = {"listen": server.address}
    if server.token_address is not None:
        facts["token_listen"] = server.token_address
    announce(PROGRAM, {**facts, "data": settings.database or settings.data.resolve()})
    asked = asyncio.create_task(stop.wait())
    failed = asyncio.create_task(server.failed())
    await asyncio.wait({asked, failed}, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        raise StartupRefused("the writing process has ended; see the log, then start again")
    failed.cancel()
    await server.stop()


def _sentence(invalid: ValidationError) -> str:
    first = invalid.errors()[0]
    option = "--" + str(first["loc"][0]).replace("_", "-")
    if first["type"] == "missing":
        return f"{option} is required; see {PROGRAM} --help"
    return f"{option}: {first['msg'].lower()}; see {PROGRAM} --help"


def main() -> None:
    """Start the program."""
    command = partial(app, prog_name=PROGRAM, standalone_mode=False)
    sys.exit(run_command(PROGRAM, command, see=f"{PROGRAM} --help"))
