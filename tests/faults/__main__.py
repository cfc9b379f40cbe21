"""Runs the fault suite: a table for people and build/faults.json for programs."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from faults.figures import Figures, write_json
from faults.run import Run, RunSettings
from sparekey.runtime.startup import run_program

_MOST_TROUBLES = 20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed alone")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of several seeds")
    parser.add_argument("--runs", type=int, default=5, help="how many seeds to play")
    parser.add_argument("--svms", type=int, default=300, help="simulated SVMs in each run")
    parser.add_argument("--seconds", type=float, default=30, help="how long faults strike")
    parser.add_argument("--keep", type=Path, help="keep the runs' folders here")
    return parser.parse_args()


async def _play(options: argparse.Namespace, folder: Path) -> bool:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    settings = RunSettings(svms=options.svms, seconds=options.seconds)
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
            console.print(f"  {len(troubles)} troubles; replay with: make faults SEED={seed}")
    write_json(total, Path("build/faults.json"))
    _print(total)
    return total.clean


def _print(figures: Figures) -> None:
    table = Table(title="Faults: what was done, and what came of it")
    for name in asdict(figures):
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:,}" for value in asdict(figures).values()))
    Console(width=140).print(table)


def main() -> int:
    """Play the runs; 1 where one was not clean."""
    options = _options()
    clean = []

    async def program() -> None:
        with tempfile.TemporaryDirectory(prefix="sparekey-faults-") as folder:
            clean.append(await _play(options, options.keep or Path(folder)))

    code = run_program("faults", program)
    return code or int(not all(clean))


if __name__ == "__main__":
    sys.exit(main())
