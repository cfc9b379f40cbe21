"""kill -9 in the midst of tasks: nothing is lost, nothing happens twice.

Thirty agents stay up in this process while their server is killed twenty times, at a random
point between a task's start and its end, and started again on the same data and port.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from sparekey.agent.timing import Timing
from sparekey.licensing.changes import apply_change
from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keyring import Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.runtime.startup import parse_address
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.v1 import (
    event_pb2,
    event_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    key_pb2,
    key_pb2_grpc,
    keyring_pb2,
    license_pb2,
    license_pb2_grpc,
)
from sparekey.wire.licensing_messages import read_change, read_slot

from .words import scope_of

KILLS = 20
AHEAD = 2
PROGRAM = """
import sys
import sparekey.server.main as program
sys.argv += ["--listen", sys.stdin.readline().strip()]
program.main()
"""
SVMS = 30
SEED = 20300101
PATIENCE = 30.0
NOW = datetime.now(UTC)
EAGER = Timing(first_try_within=0.05, backoff_base=0.05, backoff_cap=0.1)


def make_key(number: int) -> LicenseKey:
    """Each later one ends later, so that every one can follow as active or reserve."""
    return LicenseKey(
        serial=f"{number:04X}-{number:06X}-{number:08X}",
        type=KeyType.SERVER,
        kind=KeyKind.COMMERCIAL,
        edition=Edition.STANDARD,
        origin=KeyOrigin.KEY_FILE,
        unit_limit=100,
        not_before=NOW - timedelta(days=1),
        expires_at=NOW + timedelta(days=30 + number),
    )


class Servers:
    """The program, started again and again; the next ones wait, loaded, for their turn.

    Loading takes a second or two, and a restart has nothing else to wait for.
    """

    def __init__(self, folder: Path, vendor_keys: Path) -> None:
        self.address = "127.0.0.1:0"
        self._log = folder / "server.log"
        self._options = ["--data", str(folder / "data"), "--vendor-keys", str(vendor_keys)]
        self._count = 0
        self._loaded: deque[subprocess.Popen[str]] = deque()
        self._running: subprocess.Popen[str] | None = None
        for _ in range(AHEAD):
            self._load()

    def start(self) -> None:
        """Let the next one go, on the address of those before; returns when it is ready."""
        self._load()
        self._running = self._loaded.popleft()
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        self._running.stdin.write(f"{self.address}\n")
        self._running.stdin.flush()
        words = self._running.stdout.readline().split()
        assert words[:2] == ["sparekey-server", "ready"], self._log.read_text()
        self.address = words[2].removeprefix("listen=")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        assert self._running is not None
        self._running.kill()
        self._running.communicate()
        self._running = None

    def stop(self) -> int:
        """End it in good order; its exit code."""
        assert self._running is not None
        self._running.terminate()
        self._running.communicate(timeout=15)
        return self._running.returncode

    def close(self) -> None:
        """End all, those too that still wait."""
        for process in (*self._loaded, *([self._running] if self._running else [])):
            process.kill()
            process.communicate()

    def _load(self) -> None:
        # With and without a process of its own for writing, which outlives a kill a little.
        writing = "--writer-process" if self._count % 2 else "--no-writer-process"
        self._count += 1
        with self._log.open("a") as log:
            self._loaded.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, *self._options, writing],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )


class Client:
    """Calls to a server that comes and goes; every call is repeated until it is answered."""

    def __init__(self, address: str) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
        self.channel = grpc.aio.insecure_channel(address, options=options)
        self.keys: key_pb2_grpc.KeyServiceAsyncStub = key_pb2_grpc.KeyServiceStub(self.channel)
        self.licenses: license_pb2_grpc.LicenseServiceAsyncStub
        self.licenses = license_pb2_grpc.LicenseServiceStub(self.channel)
        self.svms: fleet_pb2_grpc.FleetServiceAsyncStub
        self.svms = fleet_pb2_grpc.FleetServiceStub(self.channel)
        self.events: event_pb2_grpc.EventServiceAsyncStub
        self.events = event_pb2_grpc.EventServiceStub(self.channel)

    async def start_task(self, key: LicenseKey, *, reserve: bool) -> license_pb2.Task:
        """Start a task for all SVMs; safe to repeat by its request id."""
        fields = {"key_serial": key.serial, "scope": scope_of(), "request_id": key.serial}
        while True:
            try:
                if reserve:
                    request = license_pb2.RenewRequest(**fields)  # type: ignore[arg-type]
                    return (await self.licenses.Renew(request, wait_for_ready=True)).task
                active = license_pb2.ActivateRequest(**fields)  # type: ignore[arg-type]
                return (await self.licenses.Activate(active, wait_for_ready=True)).task
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    async def ended(self, task_id: str) -> license_pb2.Task:
        """Follow a task to its end, whatever happens to the server meanwhile."""
        request = license_pb2.WatchTaskRequest(task_id=task_id)
        while True:
            try:
                async for _ in self.licenses.WatchTask(request, wait_for_ready=True):
                    pass
                get = license_pb2.GetTaskRequest(task_id=task_id)
                return (await self.licenses.GetTask(get, wait_for_ready=True)).task
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    async def history(self) -> list[event_pb2.Event]:
        found: list[event_pb2.Event] = []
        token = ""
        while True:
            request = event_pb2.ListEventsRequest(page_size=1000, page_token=token)
            page = await self.events.ListEvents(request)
            found.extend(page.events)
            token = page.next_page_token
            if not token:
                return found


@pytest.mark.timeout(180)
async def test_R87_R89_a_server_that_is_killed_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, vendor: KeySigner, capsys: pytest.CaptureFixture[str]
) -> None:
    randomness = random.Random(SEED)
    vendor_keys = tmp_path / "vendor-keys.json"
    vendor_keys.write_text(json.dumps({vendor.signer_id: encode_public_key(vendor.public_key)}))
    trusted = TrustedSigners({vendor.signer_id: vendor.public_key})
    keys = [make_key(number) for number in range(KILLS)]
    tasks: list[license_pb2.Task] = []
    points = []
    with closing(Servers(tmp_path, vendor_keys)) as servers:
        await asyncio.to_thread(servers.start)
        client = Client(servers.address)
        for key in keys:
            await client.keys.AddKey(key_pb2.AddKeyRequest(key_file=vendor.sign(key)))
        async with SimulatedFleet(parse_address(servers.address), trusted, timing=EAGER) as fleet:
            await fleet.start([make_svm(f"svm-{number:02}") for number in range(SVMS)])
            for number, key in enumerate(keys):
                started = asyncio.create_task(client.start_task(key, reserve=number % 2 == 1))
                points.append(await kill_point(client, started, randomness))
                await asyncio.to_thread(servers.kill)
                await asyncio.to_thread(servers.start)
                async with asyncio.timeout(PATIENCE):
                    tasks.append(await client.ended((await started).task_id))
            with capsys.disabled():
                print(f"\nseed {SEED}, killed {', '.join(points)}")
            check_tasks(tasks)
            await check_svms(client, fleet, keys)
        await client.channel.close()
        assert await asyncio.to_thread(servers.stop) == 0


async def kill_point(
    client: Client, started: asyncio.Task[license_pb2.Task], randomness: random.Random
) -> str:
    """Wait for a random point of a task: before its answer, or after some SVMs have followed."""
    if randomness.random() < 0.5:
        delay = randomness.uniform(0, 0.05)
        await asyncio.wait({started}, timeout=delay)
        return f"{delay * 1000:.1f} ms after the call"
    wanted = randomness.randrange(SVMS)
    task = await started
    request = license_pb2.WatchTaskRequest(task_id=task.task_id)
    watch = client.licenses.WatchTask(request)
    seen = 0
    async for message in watch:
        seen = message.task.counts.total - message.task.counts.pending
        if seen >= wanted:
            break
    watch.cancel()
    return f"after {seen} SVMs"


def check_tasks(tasks: Sequence[license_pb2.Task]) -> None:
    """Every SVM's outcome was reached, and each task was started once."""
    assert len({task.task_id for task in tasks}) == KILLS
    for task in tasks:
        assert task.state == license_pb2.TASK_STATE_SUCCEEDED, task
        assert task.counts.applied == task.counts.total == SVMS
        assert all(one.state == license_pb2.OUTCOME_STATE_APPLIED for one in task.outcomes)


async def check_svms(client: Client, fleet: SimulatedFleet, keys: Sequence[LicenseKey]) -> None:
    """The history is complete, and by itself gives what both sides hold."""
    history = await client.history()
    cursors = [event.cursor for event in history]
    assert cursors == sorted(set(cursors))
    kinds = Counter(event.kind for event in history)
    assert kinds[event_pb2.EVENT_KIND_TASK_STARTED] == KILLS
    assert kinds[event_pb2.EVENT_KIND_TASK_FINISHED] == KILLS
    assert kinds[event_pb2.EVENT_KIND_KEYRING_RESYNCED] == 0
    assert kinds[event_pb2.EVENT_KIND_INSTRUCTION_REFUSED] == 0
    for svm_id, svm in fleet.svms.items():
        changes = [
            event.change
            for event in history
            if event.svm_id == svm_id and event.kind == event_pb2.EVENT_KIND_KEYRING_CHANGED
        ]
        assert [change.revision for change in changes] == list(range(1, len(changes) + 1))
        put_in = Counter(
            change.serial
            for change in changes
            if change.reason == keyring_pb2.KEYRING_CHANGE_REASON_REQUESTED
        )
        assert put_in == Counter(key.serial for key in keys), svm_id
        slots: dict[Slot, str] = {}
        for message in changes:
            change = read_change(message)
            assert change is not None
            apply_change(slots, change)
        stored = (await client.svms.GetSvm(fleet_pb2.GetSvmRequest(svm_id=svm_id))).svm
        assert stored.keyring.revision == len(changes) == svm.running_agent.keeper.revision
        assert slots == svm.running_agent.keeper.keyring.serials()
        assert slots == {read_slot(held.slot): held.serial for held in stored.keyring.keys}
        assert len(slots) == 2
        assert stored.pending_instruction_count == 0
