"""Runs the fault suite: a table for people and build/faults.json for programs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from faults.broken import BREAKS
from faults.figures import Figures, write_json
from faults.plan import Fault
from faults.run import Run, RunSettings
from sparekey.runtime.startup import run_program

_MOST_TROUBLES = 20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed alone")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of several seeds")
    parser.add_argument("--runs", type=int, default=4, help="how many seeds to play")
    parser.add_argument("--svms", type=int, default=300, help="simulated SVMs in each run")
    parser.add_argument("--hosts", type=int, default=5, help="in how many processes they are")
    parser.add_argument("--agents", type=int, default=4, help="SVMs with a sparekey-agent each")
    parser.add_argument("--broken", choices=BREAKS, default="", help="break the build on purpose")
    parser.add_argument("--seconds", type=float, default=30, help="how long faults strike")
    parser.add_argument("--keep", type=Path, help="keep the runs' folders here")
    return parser.parse_args()


async def _play(options: argparse.Namespace, folder: Path) -> bool:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    settings = RunSettings(
        svms=options.svms,
        hosts=options.hosts,
        agents=options.agents,
        seconds=options.seconds,
        broken=options.broken,
    )
    first = options.first_seed
    seeds = [options.seed] if options.seed is not None else range(first, first + options.runs)
    console = Console(stderr=True)
    total = Figures()
    for seed in seeds:
        started = time.monotonic()
        verdict = await Run(seed, folder / str(seed), settings).play()
        total.add(verdict.figures)
        console.print(
            f"seed {seed}: {verdict.figures.applied} applied,"
            f" at rest after {verdict.figures.longest_convergence_s} s,"
            f" {'clean' if verdict.figures.clean else 'NOT CLEAN'}"
            f" ({time.monotonic() - started:.0f} s)"
        )
        if not verdict.figures.clean:
            troubles = verdict.troubles()
            for trouble in troubles[:_MOST_TROUBLES]:
                console.print(f"  {trouble}", markup=False, highlight=False)
            console.print(f"  {len(troubles)} troubles; replay with: {settings.replay(seed)}")
    write_json(total, Path("build/faults.json"))
    _print(total)
    # A fault that struck nothing proves nothing; a single run may have been too short for one.
    if len(seeds) > 1 and total.idle_kinds:
        console.print(f"these struck nothing: {', '.join(total.idle_kinds)}")
        return False
    return total.clean


def _print(figures: Figures) -> None:
    console = Console(width=140)
    table = Table(title="Faults: what was done, and what came of it")
    sums = {name: value for name, value in asdict(figures).items() if name != "kinds"}
    for name in sums:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(f"{value:,}" for value in sums.values()))
    console.print(table)
    kinds = Table("fault", "what it is", "strikes", "struck")
    for fault in Fault:
        kind = figures.kind(fault)
        kinds.add_row(fault.name, fault.value, f"{kind.strikes:,}", f"{kind.struck:,}")
    console.print(kinds)


def main() -> int:
    """Play the runs; 1 where one was not clean."""
    options = _options()
    clean = []

    async def program() -> None:
        # Ended early it still unmounts and ends what it started, as with Ctrl-C.
        playing = asyncio.current_task()
        assert playing is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
        with tempfile.TemporaryDirectory(prefix="sparekey-faults-") as folder:
            clean.append(await _play(options, options.keep or Path(folder)))

    code = run_program("faults", program)
    return code or int(not all(clean))


if __name__ == "__main__":
    sys.exit(main())
