"""Runs the benchmarks: a table for people and build/bench.json for programs.

Each has a client process and servers of its own: what one leaves behind, scattered memory above
all, would weigh on those after it, and on ours more than on the bare side.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import structlog

from bench import fanout, ingest, rpcs, storm
from bench.figures import Figure, print_table, write_json
from bench.world import World
from sparekey.runtime.startup import run_program


async def _fanout_1000(world: World) -> Sequence[Figure]:
    return [await fanout.measure(world, 1000)]


async def _fanout_5000(world: World) -> Sequence[Figure]:
    return [await fanout.measure(world, 5000, rounds=5, goal=1.6)]


async def _storm(world: World) -> Sequence[Figure]:
    return await storm.measure(world, 5000)


async def _ingest(world: World) -> Sequence[Figure]:
    return [await ingest.measure(world)]


BENCHMARKS: dict[str, Callable[[World], Awaitable[Sequence[Figure]]]] = {
    "activate_rpc, renew_rpc": rpcs.measure,
    "fanout_1000": _fanout_1000,
    "fanout_5000": _fanout_5000,
    "report_ingest": _ingest,
    "reconnect_5000, memory_per_svm": _storm,
}


async def measure_one(name: str, folder: Path) -> None:
    """Measure in this process, and leave the figures in the folder."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    async with World(folder) as world:
        figures = await BENCHMARKS[name](world)
    (folder / "figures.json").write_text(json.dumps([asdict(figure) for figure in figures]))


def main() -> int:
    """Run all, each in a process of its own."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="sparekey-bench-") as folder:
        for number, name in enumerate(BENCHMARKS):
            print(f"{name} ...", file=sys.stderr)
            own = Path(folder) / str(number)
            subprocess.run([sys.executable, "-m", "bench", name, str(own)], check=True)
            figures.extend(Figure(**one) for one in json.loads((own / "figures.json").read_text()))
    write_json(figures, Path("build/bench.json"))
    print_table(figures)
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(run_program("bench", lambda: measure_one(sys.argv[1], Path(sys.argv[2]))))
    sys.exit(main())
