"""The program `sparekey-simulate`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
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
from sparekey.runtime.startup import StartupRefused, parse_address, run_program, stop_requested
from sparekey.testing.fleet.simulated import SimulatedFleet
from sparekey.testing.simulator.mix import make_svms, parse_mix
from sparekey.testing.simulator.simulation import Counters, Simulation

PROGRAM = "sparekey-simulate"
_REFRESH_SECONDS = 0.5
_FIRST_WITHIN_FOR_EACH = 0.002

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Output(Enum):
    """How the end is told."""

    TABLE = "table"
    JSON = "json"


@app.command()
def simulate(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="The license server.")],
    vendor_keys: Annotated[
        Path, typer.Option(metavar="FILE", help="JSON of the signers to trust, by signer id.")
    ],
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
    output: Annotated[Output, typer.Option(help="How the counters are told.")] = Output.TABLE,
) -> None:
    """Simulate many SVMs: each is the real agent with a stream of its own, in one process.

    Keyrings are kept in memory and end with the program. For tests and measurements only.

    Example:
      sparekey-simulate --server 127.0.0.1:7443 --vendor-keys vendor-keys.json --svms 5000
      --mix servers=60,desktops=30,mixed=10 --churn 5
    """
    configure_logs(PROGRAM, level="error")

    async def program() -> None:
        address = parse_address(server)
        require_loopback(address)
        chosen = parse_mix(mix)
        chance = random.Random(seed)  # noqa: S311 - repeatable, keeps no secret
        fleet = SimulatedFleet(
            address,
            _trusted(vendor_keys),
            timing=Timing(first_try_within=max(0.1, svms * _FIRST_WITHIN_FOR_EACH)),
            seed=seed,
        )
        made = make_svms(svms, chosen, clusters, prefix, chance)
        async with fleet:
            counters = await _watch(Simulation(fleet, made, chosen, churn, chance), seconds)
        if output is Output.JSON:
            print(json.dumps(counters.as_document(), indent=2))
        else:
            Console().print(_table(counters))

    raise typer.Exit(run_program(PROGRAM, program))


async def _watch(simulation: Simulation, seconds: float) -> Counters:
    ended = stop_requested()
    console = Console(stderr=True)
    running = asyncio.create_task(simulation.run(ended))
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
