"""Runs the fuzzing; prints what was tried. `python -m fuzz [INPUTS] [SEED] [SERVICE]`."""

from __future__ import annotations

import logging
import random
import sys
import tempfile
import time
from pathlib import Path

import structlog

from fuzz.targets import (
    SERVICES,
    FuzzedServer,
    fuzz_certificate_requests,
    fuzz_key_files,
    fuzz_state_files,
)
from sparekey.runtime.startup import run_program

INPUTS = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
WANTED = sys.argv[3] if len(sys.argv) > 3 else ""
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)


async def main() -> None:
    """Run all."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(f"seed {SEED}, {INPUTS} structured inputs and {INPUTS} mutations each", flush=True)
    with tempfile.TemporaryDirectory(prefix="sparekey-fuzz-") as folder:
        async with FuzzedServer(Path(folder), SEED) as fuzzed:
            for service in SERVICES:
                if WANTED not in service.full_name:
                    continue
                for method in service.methods:
                    started = time.monotonic()
                    await fuzzed.fuzz(method, INPUTS, INPUTS)
                    name = f"/{service.full_name}/{method.name}"
                    counts = fuzzed.counts
                    print(
                        f"{name:55} {counts.inputs[name]:7} inputs {counts.accepted[name]:7} taken"
                        f" {time.monotonic() - started:7.1f} s",
                        flush=True,
                    )
            randomness = random.Random(SEED)
            for fuzz in (fuzz_key_files, fuzz_state_files, fuzz_certificate_requests):
                told = fuzz(fuzzed.inputs, randomness, INPUTS)
                print(f"{fuzz.__name__:55} {sum(told.values()):7} inputs {dict(told)}", flush=True)
            print(
                f"{sum(fuzzed.counts.inputs.values())} calls; reasons {dict(fuzzed.counts.reasons)}"
            )
            print(f"{fuzzed.counts.unchanged} groups all refused, after which nothing had changed")


if __name__ == "__main__":
    sys.exit(run_program("fuzz", main))
