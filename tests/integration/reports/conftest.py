"""A license server in this process with real agents, all on the server's test clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.runtime.clock import SettableClock
from sparekey.server.license_server import LicenseServer
from sparekey.server.settings import ServerSettings
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.testing.v1 import clock_pb2, clock_pb2_grpc
from sparekey.v1 import (
    fleet_pb2,
    fleet_pb2_grpc,
    key_pb2,
    key_pb2_grpc,
    license_pb2,
    license_pb2_grpc,
    report_pb2,
    report_pb2_grpc,
)
from sparekey.wire.timestamps import to_duration

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE = 10.0
"""Seconds after which what does not come counts as never coming."""


class Installation:
    """A server, its keys, its SVMs, and what is asked of its reports."""

    def __init__(self, server: LicenseServer, channel: grpc.aio.Channel, signer: KeySigner) -> None:
        self.server = server
        self.signer = signer
        trusted = TrustedSigners({signer.signer_id: signer.public_key})
        self.fleet = SimulatedFleet(server.address, trusted, follows_test_clock=True)
        self.reports: report_pb2_grpc.ReportServiceAsyncStub
        self.reports = report_pb2_grpc.ReportServiceStub(channel)
        self.keys: key_pb2_grpc.KeyServiceAsyncStub = key_pb2_grpc.KeyServiceStub(channel)
        self.licenses: license_pb2_grpc.LicenseServiceAsyncStub
        self.licenses = license_pb2_grpc.LicenseServiceStub(channel)
        self.svms: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(channel)
        self.clock: clock_pb2_grpc.ClockServiceAsyncStub
        self.clock = clock_pb2_grpc.ClockServiceStub(channel)

    async def add_key(
        self,
        number: int,
        type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
        *,
        kind: KeyKind = KeyKind.COMMERCIAL,
        starts: float = -30,
        ends: float | None = 30,
        units: int = 100,
    ) -> str:
        """Put a standard key into the storage; `starts` and `ends` are days from `NOW`."""
        key = LicenseKey(
            serial=f"{number:04X}-{number:06X}-{number:08X}",
            type=type,
            kind=kind,
            edition=Edition.STANDARD,
            origin=KeyOrigin.KEY_FILE,
            unit_limit=units,
            not_before=NOW + timedelta(days=starts),
            expires_at=None if ends is None else NOW + timedelta(days=ends),
        )
        await self.keys.AddKey(key_pb2.AddKeyRequest(key_file=self.signer.sign(key)))
        return key.serial

    async def connect(self, svm_id: str, *, cluster: str = "", **guests: int) -> None:
        """Start an SVM's agent; returns when the server has its report."""
        svm = make_svm(svm_id, cluster=cluster, **guests)
        await self.fleet.start([svm])
        await until(lambda: svm.running_agent.keeper.accepted_sequence > 0)

    async def run(self, task: license_pb2.Task) -> license_pb2.Task:
        """Follow a task to its end, which must be a success."""
        async with asyncio.timeout(PATIENCE):
            request = license_pb2.WatchTaskRequest(task_id=task.task_id)
            async for seen in self.licenses.WatchTask(request):
                task = seen.task
        assert task.state == license_pb2.TASK_STATE_SUCCEEDED, task
        return task

    async def activate(self, serial: str, *svm_ids: str) -> None:
        """Give SVMs an active key."""
        request = license_pb2.ActivateRequest(key_serial=serial, scope=_picked(svm_ids))
        await self.run((await self.licenses.Activate(request)).task)

    async def renew(self, serial: str, *svm_ids: str) -> None:
        """Give SVMs a reserve key."""
        request = license_pb2.RenewRequest(key_serial=serial, scope=_picked(svm_ids))
        await self.run((await self.licenses.Renew(request)).task)

    async def advance(self, days: float) -> None:
        """Move the time of the server and of its SVMs."""
        span = to_duration(timedelta(days=days))
        await self.clock.AdvanceClock(clock_pb2.AdvanceClockRequest(by=span))

    async def svm(self, svm_id: str) -> fleet_pb2.Svm:
        """An SVM as the server shows it."""
        return (await self.svms.GetSvm(fleet_pb2.GetSvmRequest(svm_id=svm_id))).svm

    async def forecast(
        self, days: int = 90, *what_if: report_pb2.WhatIf, cluster: str = ""
    ) -> tuple[report_pb2.ForecastSummary, list[report_pb2.CoverageGap]]:
        """The whole forecast."""
        request = report_pb2.ForecastCoverageRequest(
            horizon=to_duration(timedelta(days=days)), what_if=what_if, cluster=cluster
        )
        seen = [one async for one in self.reports.ForecastCoverage(request)]
        return seen[0].summary, [gap for one in seen for gap in one.gaps]

    async def plan(
        self, days: int = 90, *what_if: report_pb2.WhatIf
    ) -> tuple[report_pb2.PlanSummary, list[report_pb2.PlannedTask]]:
        """The whole plan."""
        request = report_pb2.PlanRenewalRequest(
            horizon=to_duration(timedelta(days=days)), what_if=what_if
        )
        seen = [one async for one in self.reports.PlanRenewal(request)]
        return seen[0].summary, [task for one in seen for task in one.tasks]


def _picked(svm_ids: Iterable[str]) -> license_pb2.Scope:
    return license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svm_ids))


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    """A running license server, its time at `NOW`."""
    signer = KeySigner("test-vendor", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    vendor_keys = tmp_path / "vendor-keys.json"
    vendor_keys.write_text(json.dumps({signer.signer_id: encode_public_key(signer.public_key)}))
    settings: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "data": tmp_path / "data",
        "vendor_keys": vendor_keys,
        "test_clock": NOW.isoformat(),
    }
    server = LicenseServer(ServerSettings(**settings))
    assert isinstance(server.clock, SettableClock)
    await server.start()
    channel = grpc.aio.insecure_channel(str(server.address))
    running = Installation(server, channel, signer)
    try:
        yield running
    finally:
        await running.fleet.stop(running.fleet.svms.values())
        await channel.close()
        await server.stop()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition of this process holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it is a condition of any kind
            await asyncio.sleep(0.002)
