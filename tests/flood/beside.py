"""Running a hostile client beside others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.security.secure_site import SecureSite

WARMING_SECONDS = 3.0
"""So long it does harm before anyone looks: its first burst is over by then."""


@contextmanager
def hostile_client(site: SecureSite, kind: str, level: str) -> Iterator[dict[str, int]]:
    """Run a hostile client for the block; afterwards the answer holds how its calls ended."""
    shown, _ = site.token("operator", f"{kind}.{level}".replace(" ", "-"))
    root = str(site.folder / "ca" / "root.pem")
    words = [*("-m", "flood.hostile"), kind, level, str(site.second), root, shown.token or ""]
    ended: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as hostile:
        assert hostile.stdout is not None
        try:
            assert hostile.stdout.readline() == b"ready\n"
            time.sleep(WARMING_SECONDS)
            yield ended
            assert hostile.poll() is None, "the hostile client ended by itself"
        finally:
            hostile.terminate()
            ended.update(json.loads(hostile.stdout.read() or "{}"))
