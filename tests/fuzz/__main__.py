"""Runs the fuzzing; prints what was tried. `python -m fuzz [INPUTS] [SEED] [PART-OF-A-NAME]`."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from fuzz.fuzzing import Broken, Tried
from fuzz.running import UNTAKEN, fuzz_target, targets

_NAME, _COUNT = max(map(len, targets())), 10
_TITLES = ("structured", "taken", "mutated", "taken", "refused", "unchanged", "seconds")


def main(inputs: int, seed: int, part: str) -> int:
    """Run all whose names hold a part; the exit code."""
    print(f"seed {seed}, {inputs} structured inputs and {inputs} mutations each")
    print(f"{'':{_NAME}}" + "".join(f"{title:>{_COUNT + 1}}" for title in _TITLES), flush=True)
    started = time.monotonic()
    reasons: Counter[str] = Counter()
    broken: list[str] = []
    sums = Tried("all together")
    # New processes, since a forked gRPC does not work; two, since one loop uses one core.
    with ProcessPoolExecutor(
        min(2, os.cpu_count() or 1), multiprocessing.get_context("spawn")
    ) as pool:
        running: set[Future[Tried]] = {
            pool.submit(fuzz_target, name, inputs, seed) for name in targets() if part in name
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    tried = future.result()
                except Broken as found:
                    broken.append(str(found))
                    print(f"BROKEN: {found}", flush=True)
                    continue
                _print(tried)
                reasons += tried.reasons
                _add(sums, tried)
                if tried.structured_taken * 20 < tried.structured and tried.name not in UNTAKEN:
                    broken.append(f"{tried.name} took hardly anything, so it was hardly tried")
    sums.seconds = time.monotonic() - started
    _print(sums)
    print("reasons: " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()))
    for name, reason in UNTAKEN.items():
        print(f"{name} need take hardly anything: {reason}")
    for problem in broken:
        print(f"BROKEN: {problem[:2000]}")
    return 1 if broken else 0


def _add(sums: Tried, tried: Tried) -> None:
    for name in ("structured", "structured_taken", "mutated", "mutated_taken", "unchanged"):
        setattr(sums, name, getattr(sums, name) + getattr(tried, name))


def _print(tried: Tried) -> None:
    counts = (
        *(tried.structured, tried.structured_taken, tried.mutated, tried.mutated_taken),
        *(tried.refused, tried.unchanged, f"{tried.seconds:.1f}"),
    )
    print(
        f"{tried.name:{_NAME}}" + "".join(f"{count:>{_COUNT + 1}}" for count in counts), flush=True
    )


if __name__ == "__main__":
    words = sys.argv[1:] + [""] * 3
    sys.exit(
        main(
            int(words[0] or 5000),
            int(words[1] or random.SystemRandom().randrange(2**32)),
            words[2],
        )
    )
