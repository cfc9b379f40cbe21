"""Forecast and plan of large fleets: by the rules alone, and over the wire from a stored fleet.

Run as `python -m bench.reports [SVMS ...]`; the fleet is mixed, most SVMs have a gap ahead.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.forecast import SvmSituation, forecast
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.key_files import KeySigner, encode_public_key
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.renewal_plan import StorageKey, plan_renewal
from sparekey.server.store.database import open_database, sqlite_url
from sparekey.server.store.keys import StoredKey, insert_key
from sparekey.server.store.svms import SvmRecord, save_keyrings, save_svms
from sparekey.testing.fleet.processes import running, start_server
from sparekey.v1 import report_pb2, report_pb2_grpc

SIZES = (10_000, 100_000)
HORIZON = timedelta(days=90)
_BATCH = 5000


@dataclass(frozen=True)
class Fleet:
    """A fleet and the keys of the storage."""

    now: datetime
    keys: list[LicenseKey]
    spare: list[LicenseKey]
    svms: list[SvmSituation]


def make_fleet(size: int) -> Fleet:
    """SVMs with one of 29 server keys, half with a reserve, a third with a desktop key too.

    Every SVM has keyrings of its own: it got its keys at an instant of its own.
    """
    chance = random.Random(1)
    now = datetime.now(UTC).replace(microsecond=0)
    servers = [_key(now, number, KeyType.SERVER, 5 + 7 * number) for number in range(29)]
    desktops = [_key(now, 100 + number, KeyType.DESKTOP, 5 + 7 * number) for number in range(29)]
    spare = [_key(now, 200 + number, KeyType.SERVER, 400, size) for number in range(5)]
    svms = []
    for number in range(size):
        came = now - timedelta(days=1, microseconds=chance.randrange(10**9))
        first = chance.randrange(29)
        slots = {Slot(KeyType.SERVER, Role.ACTIVE): HeldKey(servers[first], came)}
        if first < 28 and chance.random() < 0.5:
            reserve = servers[chance.randrange(first + 1, 29)]
            slots[Slot(KeyType.SERVER, Role.RESERVE)] = HeldKey(reserve, came)
        if chance.random() < 0.3:
            slots[Slot(KeyType.DESKTOP, Role.ACTIVE)] = HeldKey(chance.choice(desktops), came)
        svms.append(
            SvmSituation(
                f"svm-{number:06}",
                Keyring(slots),
                GuestMix(chance.randrange(1, 30), chance.randrange(5)),
                f"cluster-{number % 50}",
                f"host-{number}",
                HostCpu(2, 32),
            )
        )
    return Fleet(now, servers + desktops, spare, svms)


def _key(
    now: datetime, number: int, key_type: KeyType, ends: float, units: int = 1_000_000
) -> LicenseKey:
    return LicenseKey(
        serial=f"0000-000001-{number:08X}",
        type=key_type,
        kind=KeyKind.COMMERCIAL,
        edition=Edition.STANDARD,
        origin=KeyOrigin.KEY_FILE,
        unit_limit=units,
        not_before=now - timedelta(days=30),
        expires_at=now + timedelta(days=ends),
    )


def store_fleet(folder: Path, fleet: Fleet) -> None:
    """Write the fleet into a new database."""
    engine = open_database(sqlite_url(folder))
    with engine.execution_options(sparekey_writes=True).begin() as connection:
        for key in [*fleet.keys, *fleet.spare]:
            insert_key(connection, StoredKey(key, b"-", fleet.now))
        for start in range(0, len(fleet.svms), _BATCH):
            records = [
                SvmRecord(
                    svm.svm_id,
                    fleet.now,
                    fleet.now,
                    cluster=svm.cluster,
                    guests=svm.guests,
                    host_uuid=svm.host_uuid,
                    host_cpu=svm.host_cpu,
                    keyring=svm.keyring,
                    keyring_revision=1,
                )
                for svm in fleet.svms[start : start + _BATCH]
            ]
            save_svms(connection, records)
            save_keyrings(connection, ((record, EMPTY) for record in records))
    engine.dispose()


def measure(size: int, folder: Path) -> dict[str, float]:
    """Seconds for each question, and what it came to."""
    fleet = make_fleet(size)
    until = fleet.now + HORIZON
    storage = [StorageKey(key, key.unit_limit) for key in fleet.spare]
    figures: dict[str, float] = {"svms": size}
    told = _timed(figures, "forecast_pure", lambda: forecast(fleet.svms, fleet.now, until))
    _timed(figures, "plan_pure", lambda: plan_renewal(fleet.svms, storage, fleet.now, until))
    figures["gaps"] = len(told.gaps)

    store_fleet(folder, fleet)
    signer = KeySigner("bench", Ed25519PrivateKey.generate())
    vendor_keys = folder / "vendor-keys.json"
    vendor_keys.write_text(json.dumps({"bench": encode_public_key(signer.public_key)}))
    server = start_server(folder, vendor_keys, "--log-level", "warning")
    with running(server), grpc.insecure_channel(str(server.address)) as channel:
        reports: Any = report_pb2_grpc.ReportServiceStub(channel)
        answers = _timed(
            figures,
            "forecast_rpc",
            lambda: list(reports.ForecastCoverage(report_pb2.ForecastCoverageRequest())),
        )
        assert sum(len(answer.gaps) for answer in answers) == len(told.gaps)
        answers = _timed(
            figures,
            "plan_rpc",
            lambda: list(reports.PlanRenewal(report_pb2.PlanRenewalRequest())),
        )
        figures["keys"] = len(answers[0].summary.keys)
        figures["tasks"] = answers[0].summary.task_count
        _timed(
            figures,
            "usage_rpc",
            lambda: reports.GetKeyUsage(report_pb2.GetKeyUsageRequest()),
        )
    return figures


def _timed(figures: dict[str, float], name: str, ask: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    answer = ask()
    figures[name] = round(time.perf_counter() - start, 2)
    return answer


def main() -> None:
    """Measure each size; print one line of JSON for each."""
    for size in [int(word) for word in sys.argv[1:]] or SIZES:
        with tempfile.TemporaryDirectory(prefix="sparekey-bench-") as folder:
            print(json.dumps(measure(size, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
