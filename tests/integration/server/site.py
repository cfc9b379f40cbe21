"""A license server in the test's own process, with its vendor, its operator and its SVMs.

Calls go over real channels; agents are real. Time is the server's test clock, which starts at
`NOW` and which the agents follow.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio

from sparekey.activation.control.v1 import control_pb2_grpc
from sparekey.activation.fake.server import FakeActivation
from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.runtime.clock import SettableClock
from sparekey.server.license_server import LicenseServer
from sparekey.server.settings import ServerSettings
from sparekey.server.store.database import open_database, sqlite_url
from sparekey.testing.fleet.simulated import SimulatedFleet, SimulatedSvm, make_svm
from sparekey.testing.v1 import clock_pb2, clock_pb2_grpc
from sparekey.v1 import (
    agent_pb2_grpc,
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
from sparekey.wire.timestamps import from_timestamp, to_duration

from .words import PATIENCE, Held, in_words, scope_of, serial_of, slot_in_words, word

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Dump = dict[str, list[tuple[Any, ...]]]
"""Every row of every table."""


class Site:
    """One installation: a server, its keys, its SVMs and the fake activation server if asked for.

    Args:
        folder: Where the data is; a second site on the same folder is the same installation.
        signer: The vendor.
        settings: Further settings of the server.
    """

    def __init__(self, folder: Path, signer: KeySigner, **settings: Any) -> None:
        self.folder = folder
        self.signer = signer
        self.trusted = TrustedSigners({signer.signer_id: signer.public_key})
        self.fake: FakeActivation | None = None
        self._fake_clock = SettableClock(NOW)
        self._settings = settings
        self._listen = "127.0.0.1:0"
        self._numbers = count(0xA000)
        self._channels: list[grpc.aio.Channel] = []

    async def start(self, *, at: datetime = NOW) -> None:
        """Start the server, at first on any free port and later on the same one."""
        vendor_keys = {self.signer.signer_id: encode_public_key(self.signer.public_key)}
        if self.fake is not None:
            vendor_keys |= json.loads(self.fake.vendor_keys_path.read_text())
            self._settings["activation_server"] = str(self.fake.address)
            self.trusted = TrustedSigners.from_text(vendor_keys)
        path = self.folder / "vendor-keys.json"
        path.write_text(json.dumps(vendor_keys))
        settings = ServerSettings(
            listen=self._listen,
            data=self.folder / "data",
            vendor_keys=path,
            **{"test_clock": at.isoformat(), **self._settings},
        )
        if not settings.data.exists():
            settings.data.mkdir()
            self.database.write_bytes(_fresh_database())
        self.server = LicenseServer(settings)
        await self.server.start()
        self._listen = str(self.server.address)
        self.channel = self._open(self._listen)
        self.keys: key_pb2_grpc.KeyServiceAsyncStub = key_pb2_grpc.KeyServiceStub(self.channel)
        self.licenses: license_pb2_grpc.LicenseServiceAsyncStub
        self.licenses = license_pb2_grpc.LicenseServiceStub(self.channel)
        self.svms: fleet_pb2_grpc.FleetServiceAsyncStub
        self.svms = fleet_pb2_grpc.FleetServiceStub(self.channel)
        self.events: event_pb2_grpc.EventServiceAsyncStub
        self.events = event_pb2_grpc.EventServiceStub(self.channel)
        self.agents: agent_pb2_grpc.AgentServiceAsyncStub
        self.agents = agent_pb2_grpc.AgentServiceStub(self.channel)
        self.clock: clock_pb2_grpc.ClockServiceAsyncStub
        self.clock = clock_pb2_grpc.ClockServiceStub(self.channel)
        self.fleet = SimulatedFleet(self.server.address, self.trusted, follows_test_clock=True)

    async def start_fake(self) -> FakeActivation:
        """Start the fake activation server; before the license server, which is to know it."""
        self.fake = await FakeActivation().start(data=self.folder / "fake", clock=self._fake_clock)
        self.control: control_pb2_grpc.ControlServiceAsyncStub
        self.control = control_pb2_grpc.ControlServiceStub(
            self._open(str(self.fake.control_address))
        )
        return self.fake

    async def stop(self) -> None:
        """Stop the SVMs, then the server."""
        await self.fleet.stop(self.fleet.svms.values())
        await self.server.stop()
        for channel in self._channels:
            await channel.close()
        self._channels = []

    def _open(self, address: str) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(address)
        self._channels.append(channel)
        return channel

    @property
    def now(self) -> datetime:
        """The server's time."""
        return self.server.clock.now()

    async def advance(self, days: float) -> None:
        """Move the time of the server, of its SVMs and of the fake."""
        span = timedelta(days=days)
        self._fake_clock.set(self.now + span)
        await self.clock.AdvanceClock(clock_pb2.AdvanceClockRequest(by=to_duration(span)))

    # Keys.

    def make_key(
        self,
        type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
        *,
        kind: KeyKind = KeyKind.COMMERCIAL,
        edition: Edition = Edition.STANDARD,
        starts: float = -30,
        ends: float | None = 30,
    ) -> LicenseKey:
        """A key with a serial of its own; `starts` and `ends` are days from `NOW`."""
        number = next(self._numbers)
        return LicenseKey(
            serial=f"{number:04X}-{number:06X}-{number:08X}",
            type=type,
            kind=kind,
            edition=edition,
            origin=KeyOrigin.KEY_FILE,
            unit_limit=100,
            not_before=NOW + timedelta(days=starts),
            expires_at=None if ends is None else NOW + timedelta(days=ends),
        )

    async def add(self, *keys: LicenseKey) -> None:
        """Put keys into the storage, by their files."""
        for key in keys:
            await self.keys.AddKey(key_pb2.AddKeyRequest(key_file=self.signer.sign(key)))

    async def new_key(self, *arguments: Any, **more: Any) -> LicenseKey:
        """Make a key as `make_key` does, and put it into the storage."""
        key = self.make_key(*arguments, **more)
        await self.add(key)
        return key

    # SVMs.

    async def connect(self, *svm_ids: str, **surroundings: Any) -> None:
        """Start the agents of new SVMs; returns when the server has their first report."""
        await self.connect_svms(*(make_svm(svm_id, **surroundings) for svm_id in svm_ids))

    async def connect_svms(self, *svms: SimulatedSvm) -> None:
        """Start the agents of SVMs; returns when the server has their report."""
        await self.fleet.start(svms)
        await self.until_svms(
            [svm.svm_id for svm in svms], lambda svm: svm.host_cpu.host_uuid != ""
        )

    async def disconnect(self, *svm_ids: str) -> None:
        """End agents in good order, and wait until the server knows."""
        await self.fleet.stop([self.fleet.svms[svm_id] for svm_id in svm_ids])
        for svm_id in svm_ids:
            await self.until_svm(svm_id, lambda svm: svm.link_state == fleet_pb2.LINK_STATE_OFFLINE)

    async def reconnect(self, *svm_ids: str) -> None:
        """Start the agents of known SVMs again, with their disks as they were."""
        await self.fleet.start([self.fleet.svms[svm_id] for svm_id in svm_ids])

    async def svm(self, svm_id: str) -> fleet_pb2.Svm:
        """An SVM as the server shows it."""
        return (await self.svms.GetSvm(fleet_pb2.GetSvmRequest(svm_id=svm_id))).svm

    async def held(self, svm_id: str) -> Held:
        """What an SVM holds, by its last report."""
        return in_words((await self.svm(svm_id)).keyring)

    def truly_held(self, svm_id: str) -> Held:
        """What an SVM's running agent holds."""
        slots = self.fleet.svms[svm_id].running_agent.keeper.keyring.slots
        return {slot_in_words(slot): held.key.serial for slot, held in slots.items()}

    async def until_svm(
        self, svm_id: str, wanted: Callable[[fleet_pb2.Svm], object]
    ) -> fleet_pb2.Svm:
        """Follow the fleet until an SVM is as wanted; the SVM."""
        return (await self.until_svms([svm_id], wanted))[svm_id]

    async def until_svms(
        self, svm_ids: Iterable[str], wanted: Callable[[fleet_pb2.Svm], object]
    ) -> dict[str, fleet_pb2.Svm]:
        """Follow the fleet until each of some SVMs was as wanted; as each was then."""
        missing, found = set(svm_ids), dict[str, fleet_pb2.Svm]()
        watch = self.svms.WatchSvms(fleet_pb2.WatchSvmsRequest())
        try:
            async with asyncio.timeout(PATIENCE):
                async for seen in watch:
                    for svm in seen.svms:
                        if svm.svm_id in missing and wanted(svm):
                            found[svm.svm_id] = svm
                            missing.remove(svm.svm_id)
                    if not missing:
                        return found
        finally:
            watch.cancel()
        raise AssertionError("a watch ends only with its server")

    async def until_held(self, svm_id: str, held: Mapping[tuple[str, str], str]) -> None:
        """Wait until an SVM has reported these keys and nothing waits for it."""
        await self.until_svm(
            svm_id,
            lambda svm: in_words(svm.keyring) == held and not svm.pending_instruction_count,
        )

    # Tasks.

    async def activate(
        self, key: LicenseKey | str, *svm_ids: str, cluster: str = "", **more: Any
    ) -> license_pb2.Task:
        """Start a task: for picked SVMs, for a cluster, else for all."""
        request = license_pb2.ActivateRequest(
            key_serial=serial_of(key), scope=scope_of(svm_ids, cluster), **more
        )
        return (await self.licenses.Activate(request)).task

    async def renew(
        self, key: LicenseKey | str, *svm_ids: str, cluster: str = "", **more: Any
    ) -> license_pb2.Task:
        """Start a task for a reserve key."""
        request = license_pb2.RenewRequest(
            key_serial=serial_of(key), scope=scope_of(svm_ids, cluster), **more
        )
        return (await self.licenses.Renew(request)).task

    async def task(self, task: license_pb2.Task) -> license_pb2.Task:
        """A task as it is now."""
        return (await self.licenses.GetTask(license_pb2.GetTaskRequest(task_id=task.task_id))).task

    async def ended(self, starting: Awaitable[license_pb2.Task]) -> license_pb2.Task:
        """Follow a task to its end."""
        task = await starting
        async with asyncio.timeout(PATIENCE):
            request = license_pb2.WatchTaskRequest(task_id=task.task_id)
            async for _ in self.licenses.WatchTask(request):
                pass
        return await self.task(task)

    async def license(self, *keys: LicenseKey, reserves: Iterable[LicenseKey] = ()) -> None:
        """Give all SVMs active keys, then reserve keys; each must succeed."""
        for start, some in ((self.activate, keys), (self.renew, reserves)):
            for key in some:
                task = await self.ended(start(key))
                assert task.state == license_pb2.TASK_STATE_SUCCEEDED, task

    # History and storage.

    async def history(self, *kinds: event_pb2.EventKind.ValueType, **filters: Any) -> list[Any]:
        """All events, oldest first, of these kinds or of all."""
        found: list[event_pb2.Event] = []
        token = ""
        while True:
            page = await self.events.ListEvents(
                event_pb2.ListEventsRequest(
                    kinds=kinds, page_size=1000, page_token=token, **filters
                )
            )
            found.extend(page.events)
            token = page.next_page_token
            if not token:
                return found

    async def until_event(self, kind: event_pb2.EventKind.ValueType) -> event_pb2.Event:
        """Wait until there is an event of a kind; the first one."""
        watch = self.events.WatchEvents(event_pb2.WatchEventsRequest(kinds=[kind]))
        try:
            async with asyncio.timeout(PATIENCE):
                async for seen in watch:
                    if seen.events:
                        return seen.events[0]
        finally:
            watch.cancel()
        raise AssertionError("a watch ends only with its server")

    async def changes(self, svm_id: str) -> list[tuple[str, str, str, datetime]]:
        """The changes of an SVM's keyring: kind, reason, serial and instant."""
        events = await self.history(event_pb2.EVENT_KIND_KEYRING_CHANGED, svm_id=svm_id)
        return [
            (
                word(keyring_pb2.KeyringChangeKind, event.change.kind),
                word(keyring_pb2.KeyringChangeReason, event.change.reason),
                event.change.serial,
                from_timestamp(event.change.changed_at),
            )
            for event in events
        ]

    @property
    def database(self) -> Path:
        """The file of the embedded database."""
        return self.folder / "data" / "sparekey.db"

    def dump(self) -> Dump:
        """Every row of every table, read over a connection of its own."""
        with closing(sqlite3.connect(self.database)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {
                name: sorted(connection.execute(f'SELECT * FROM "{name}"'), key=repr)
                for (name,) in names.fetchall()
            }


@cache
def _fresh_database() -> bytes:
    """A database in which nothing is stored yet; making it once saves each test a moment."""
    with TemporaryDirectory() as folder:
        engine = open_database(sqlite_url(Path(folder)))
        engine.dispose()
        return (Path(folder) / "sparekey.db").read_bytes()


@asynccontextmanager
async def running_site(
    folder: Path, signer: KeySigner, *, fake: bool = False, **settings: Any
) -> AsyncIterator[Site]:
    """A site that runs until the end of the block."""
    site = Site(folder, signer, **settings)
    async with AsyncExitStack() as stack:
        if fake:
            stack.push_async_callback((await site.start_fake()).stop)
        await site.start()
        stack.push_async_callback(site.stop)
        yield site
