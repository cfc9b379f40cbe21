"""The program `sparekey-agent`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sparekey.agent.agent import Agent, AgentSettings
from sparekey.agent.channels import open_channel, require_loopback
from sparekey.agent.inventory.sources import parse_source
from sparekey.agent.keyring_file import KeyringFile
from sparekey.agent.security import Security
from sparekey.agent.state_folder import locked_folder, settle_svm_id, settle_trust
from sparekey.runtime.clock import Clock, SettableClock, SystemClock
from sparekey.runtime.command_line import run_command
from sparekey.runtime.logs import configure_logs
from sparekey.runtime.startup import (
    EXIT_REFUSED,
    Address,
    StartupRefused,
    announce,
    parse_address,
    run_program,
    stop_requested,
)

NAME = "sparekey-agent"

_LEVELS = ("debug", "info", "warning", "error")
# A test clock's time is not known before the server tells it. Until then no key has begun or
# ended, so nothing happens at a wrong time.
_BEFORE_ALL_KEYS = datetime(1970, 1, 1, tzinfo=UTC)

_app = typer.Typer(
    name=NAME, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


@_app.command()
def _agent(
    server: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="The license server; off this machine it needs --ca-file."
        ),
    ],
    state: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Where the keyring is kept, with the SVM's id and the pinned vendor keys. One"
            " agent a folder; made where it is missing.",
        ),
    ],
    inventory: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="What the SVM protects: file:PATH (YAML or JSON, followed as it changes) or"
            " libvirt:URI, such as libvirt:qemu:///system?except=NAME&cluster=NAME, where except"
            " names the SVM's own domain.",
        ),
    ],
    vendor_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON of the signers to trust, {"signer id": "base64 public key"}. Needed at'
            " the first start, which pins them in the state folder.",
        ),
    ] = None,
    svm_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="1 to 63 lower-case letters, digits and hyphens. Kept from the first start;"
            " unless given, made from the host's name.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="By whom to know the server: root.pem of its authority. Pinned in the state"
            " folder at the first start.",
        ),
    ] = None,
    join_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file with the token of `sparekey join-token create`; needed until the agent"
            " has enrolled. Or as SPAREKEY_JOIN_TOKEN.",
        ),
    ] = None,
    enroll_at: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The server's --token-listen, for enrolling.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The certificate and its private key in PEM, where another PKI issues them.",
        ),
    ] = None,
    test_clock: Annotated[
        bool,
        typer.Option("--test-clock", help="Take the time from the server's test clock."),
    ] = False,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log one JSON object a line.")
    ] = False,
) -> int:
    """Keep one SVM licensed.

    The agent reports what its SVM protects, follows the server's instructions and holds the
    SVM's license keys. It works from its own keyring: when the active key ends the reserve key
    takes over at that instant, with or without a server.

    Once it runs it prints one line, `sparekey-agent ready svm_id=... state=...`; logs go to
    standard error. SIGTERM ends it in good order. What hinders the start is said in one
    sentence, with exit code 2.
    """
    if log_level not in _LEVELS:
        return _refuse(f"{log_level!r} is not a log level; use {', '.join(_LEVELS)}")
    configure_logs(NAME, level=log_level, as_json=log_json)

    async def program() -> None:
        address = parse_address(server)
        security = Security(ca_file, join_token_file, enroll_at, certificate)
        if not security.wanted(state):
            require_loopback(address)
        if address.port == 0:
            raise StartupRefused("--server needs the server's port; 0 is none")
        await _serve(address, state, inventory, vendor_keys, svm_id, test_clock, security)

    return run_program(NAME, program)


async def _serve(
    server: Address,
    state: Path,
    inventory: str,
    vendor_keys: Path | None,
    wanted_id: str | None,
    test_clock: bool,
    security: Security,
) -> None:
    stop = stop_requested()
    source = parse_source(inventory)
    with locked_folder(state) as folder:
        trusted = settle_trust(folder, vendor_keys)
        svm_id = settle_svm_id(folder, wanted_id)
        credentials = security.credentials(folder, svm_id) if security.wanted(folder) else None
        clock: Clock = SettableClock(_BEFORE_ALL_KEYS) if test_clock else SystemClock()
        agent = Agent(
            AgentSettings(svm_id=svm_id, server=server, follows_test_clock=test_clock),
            source,
            KeyringFile(folder),
            trusted,
            clock=clock,
            channel_factory=open_channel if credentials is None else credentials.open_channel,
        )
        async with contextlib.AsyncExitStack() as stack:
            if credentials is not None and credentials.renews:
                keeper = security.keeper(credentials, server, agent.renew_channel)
                keeping = asyncio.create_task(keeper.run())
                stack.callback(keeping.cancel)
            await _run_until(stop, agent, {"svm_id": svm_id, "state": folder})


async def _run_until(stop: asyncio.Event, agent: Agent, facts: dict[str, object]) -> None:
    running = asyncio.create_task(agent.run())
    started = asyncio.create_task(agent.started.wait())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, started, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if started.done() and not running.done():
            announce(NAME, facts)
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await agent.stop()
        await running
    finally:
        started.cancel()
        stopped.cancel()


def _refuse(sentence: str) -> int:
    print(f"{NAME}: {sentence}", file=sys.stderr)
    return EXIT_REFUSED


def main() -> None:
    """Run the program with the arguments of the command line."""
    sys.exit(run_command(NAME, partial(_app, standalone_mode=False)))


if __name__ == "__main__":
    main()
