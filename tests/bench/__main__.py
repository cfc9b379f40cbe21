"""Runs the benchmarks: a table for people and build/bench.json for programs."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import structlog

from bench import fanout, ingest, rpcs, storm
from bench.figures import print_table, write_json
from bench.world import World
from sparekey.runtime.startup import run_program


async def main() -> None:
    """Run all."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="sparekey-bench-") as folder:
        # First and on servers of their own, so that memory is what fresh processes need.
        async with World(Path(folder) / "storm") as world:
            print("reconnect_5000, memory_per_svm ...", file=sys.stderr)
            figures = await storm.measure(world, 5000)
        async with World(Path(folder) / "calls") as world:
            print("activate_rpc, renew_rpc ...", file=sys.stderr)
            figures.extend(await rpcs.measure(world))
            print("fanout_1000 ...", file=sys.stderr)
            figures.append(await fanout.measure(world, 1000))
            print("report_ingest ...", file=sys.stderr)
            figures.append(await ingest.measure(world))
            print("fanout_5000 ...", file=sys.stderr)
            figures.append(await fanout.measure(world, 5000, rounds=3, goal=1.6))
    write_json(figures, Path("build/bench.json"))
    print_table(figures)


if __name__ == "__main__":
    sys.exit(run_program("bench", main))
