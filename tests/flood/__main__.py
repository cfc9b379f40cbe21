"""Measures the median latency of a good client beside each hostile one, as a ratio."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from integration.security.secure_site import SecureSite, start_site

from sparekey.v1 import access_pb2, key_pb2, key_pb2_grpc

KINDS = tuple(sys.argv[1:]) or (
    "slow_reading",
    "stream_hoarding",
    "header_flooding",
    "giant_messages",
)
CALLS = 400
WARMING_SECONDS = 2.0
MOST = 2.0


def median_ms(site: SecureSite) -> float:
    """The median latency of a call, in milliseconds."""
    keys: Any = key_pb2_grpc.KeyServiceStub(site.channel(site.operator("viewer", "good")))
    spans = []
    for _ in range(CALLS):
        started = time.perf_counter()
        keys.ListKeys(key_pb2.ListKeysRequest(), timeout=30)
        spans.append(time.perf_counter() - started)
        time.sleep(0.003)
    return statistics.median(spans) * 1000


def measure(site: SecureSite, kind: str) -> float:
    """The ratio of the median beside a hostile client to that without it, before and after."""
    shown, _ = site.token("viewer", "hostile")
    assert shown.token is not None
    before = median_ms(site)
    root = site.folder / "ca" / "root.pem"
    words = [sys.executable, "-m", "flood.hostile", kind, str(site.second), str(root), shown.token]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as hostile:
        try:
            time.sleep(WARMING_SECONDS)
            beside = median_ms(site)
            assert hostile.poll() is None, "the hostile client ended"
        finally:
            hostile.kill()
    after = median_ms(site)
    ratio = beside / statistics.mean((before, after))
    print(f"{kind:18} {before:6.2f} {beside:6.2f} {after:6.2f} ms  {ratio:5.2f}", flush=True)
    return ratio


def main() -> int:
    """Measure all; fail where a ratio is too high."""
    with tempfile.TemporaryDirectory(prefix="sparekey-flood-") as folder:
        site = start_site(Path(folder), "--log-level", "error")
        try:
            for number in range(300):
                ban = access_pb2.BanSvmRequest(svm_id=f"svm-{number}")
                site.access.BanSvm(ban, timeout=30)  # a history to read slowly
            print("hostile client     before beside  after      ratio", flush=True)
            ratios = [measure(site, kind) for kind in KINDS]
        finally:
            for channel in site.channels:
                channel.close()
            site.program.stop()
    return int(max(ratios) > MOST)


if __name__ == "__main__":
    sys.exit(main())
