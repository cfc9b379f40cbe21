"""The program `sparekey-simulate`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sparekey.agent.channels import require_loopback
from sparekey.agent.timing import Timing
from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.logs import configure_logs
from sparekey.runtime.startup import (
    StartupRefused,
    announce,
    parse_address,
    run_program,
    stop_requested,
)
from sparekey.testing.fleet.simulated import IMPATIENT, SimulatedFleet
from sparekey.testing.fleet.steered import SIMULATOR as PROGRAM
from sparekey.testing.simulator.cast import keep_on_disk, read_cast
from sparekey.testing.simulator.mix import make_svms, parse_mix
from sparekey.testing.simulator.simulation import Counters, Simulation
from sparekey.testing.simulator.steering import Steering

_REFRESH_SECONDS = 0.5
_FIRST_WITHIN_FOR_EACH = 0.002

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Output(Enum):
    """How the end is told."""

    TABLE = "table"
    JSON = "json"


@app.command()
def simulate(
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The license server.")
    ] = None,
    vendor_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON of the signers to trust, by signer id."),
    ] = None,
    svms: Annotated[int, typer.Option(min=1, max=100_000, help="How many SVMs.")] = 100,
    mix: Annotated[
        str, typer.Option(help="Weights of SVMs beside servers, desktops, or both.")
    ] = "servers=60,desktops=30,mixed=10",
    churn: Annotated[
        float,
        typer.Option(
            min=0,
            help="Percent of the SVMs that change in a minute, in guests or by"
            " a restart of the agent.",
        ),
    ] = 0.0,
    clusters: Annotated[int, typer.Option(min=0, help="How many clusters; 0 for none.")] = 4,
    prefix: Annotated[str, typer.Option(help="What the SVMs' ids start with.")] = "sim",
    seconds: Annotated[
        float, typer.Option(min=0, help="How long; 0 for until SIGTERM or Ctrl-C.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Makes guests and changes repeatable.")] = 0,
    cast: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON list of the SVMs in place of --svms and --mix: [{"svm_id": "svm-1",'
            ' "cluster": "north", "servers": 3}].',
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep each keyring in a folder of its own here, as real agents do; unless"
            " given, keyrings end with the program.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Agents wait a moment where real ones wait minutes.")
    ] = False,
    test_clock: Annotated[
        bool, typer.Option("--test-clock", help="Take the time from the server's test clock.")
    ] = False,
    steered: Annotated[
        bool,
        typer.Option(
            "--steered",
            help="Follow commands on standard input: join, cut, back, calm, status.",
        ),
    ] = False,
    output: Annotated[Output, typer.Option(help="How the counters are told.")] = Output.TABLE,
) -> None:
    """Simulate many SVMs: each is the real agent with a stream of its own, in one process.

    For tests and measurements only.

    Example:
      sparekey-simulate --server 127.0.0.1:7443 --vendor-keys vendor-keys.json --svms 5000
      --mix servers=60,desktops=30,mixed=10 --churn 5
    """
    configure_logs(PROGRAM, level="error")

    def make_fleet(address_text: str, keys: Path) -> SimulatedFleet:
        address = parse_address(address_text)
        require_loopback(address)
        spread = max(0.1, svms * _FIRST_WITHIN_FOR_EACH)
        return SimulatedFleet(
            address,
            _trusted(keys),
            timing=replace(IMPATIENT if quick else Timing(), first_try_within=spread),
            seed=seed,
            follows_test_clock=test_clock,
        )

    async def program() -> None:
        chosen = parse_mix(mix)
        chance = random.Random(seed)  # noqa: S311 - repeatable, keeps no secret
        made = read_cast(cast) if cast else make_svms(svms, chosen, clusters, prefix, chance)
        if state is not None:
            keep_on_disk(made, state)
        simulation = Simulation(made, chosen, churn, chance)
        if server is not None and vendor_keys is not None:
            simulation.fleet = make_fleet(server, vendor_keys)
            simulation.fleet.begin(made)
        elif not steered:
            raise StartupRefused("name the server with --server and its vendor's --vendor-keys")
        async with _ended_with(simulation):
            if steered:
                announce(PROGRAM, {"svms": len(made)})
                counters = await _watch(simulation, seconds, Steering(simulation, make_fleet))
            else:
                counters = await _watch(simulation, seconds)
        if steered:
            return
        if output is Output.JSON:
            print(json.dumps(counters.as_document(), indent=2))
        else:
            Console().print(_table(counters))

    raise typer.Exit(run_program(PROGRAM, program))


@contextlib.asynccontextmanager
async def _ended_with(simulation: Simulation) -> AsyncIterator[None]:
    """Stop the agents in good order at the end."""
    try:
        yield
    finally:
        if simulation.fleet is not None:
            await simulation.fleet.stop(simulation.svms.values())


async def _watch(
    simulation: Simulation, seconds: float, steering: Steering | None = None
) -> Counters:
    ended = stop_requested()
    console = Console(stderr=True)
    running = asyncio.create_task(simulation.run(ended))
    following = asyncio.create_task(steering.run(ended)) if steering else None
    if seconds:
        asyncio.get_running_loop().call_later(seconds, ended.set)
    with contextlib.ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False, transient=True))
        while not ended.is_set() and not running.done():
            if live is not None:
                live.update(_table(simulation.count()), refresh=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_SECONDS):
                    await ended.wait()
    counters = simulation.count()
    if following is not None:
        following.cancel()
        await asyncio.wait([following])
    await running
    return counters


def _table(counters: Counters) -> Table:
    table = Table(title="Simulated SVMs")
    for name in counters.as_document():
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(f"{value:,}" for value in counters.as_document().values()))
    return table


def _trusted(path: Path) -> TrustedSigners:
    try:
        return TrustedSigners.from_text(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StartupRefused(
            f"{path} holds no public keys by signer id ({error}); name the vendor's file"
        ) from None


def main() -> None:
    """Start the program."""
    app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
