"""What is fuzzed: a running server with things in it that inputs can name."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import grpc.aio
from google.protobuf.message import Message

from fuzz.agents import AgentReports, first_report, leave, take_in
from fuzz.keys_of_vendor import NOW, make_key_files, make_signer
from fuzz.watches import StoreWatch, Watch
from sparekey.activation.control.v1 import control_pb2, control_pb2_grpc
from sparekey.activation.fake.server import FakeActivation
from sparekey.licensing.key_files import encode_public_key
from sparekey.runtime.clock import SettableClock
from sparekey.server.license_server import LicenseServer
from sparekey.server.settings import ServerSettings
from sparekey.server.store.bulk import stored_instant
from sparekey.testing.v1 import clock_pb2
from sparekey.v1 import (
    agent_pb2,
    event_pb2,
    fleet_pb2,
    key_pb2,
    key_pb2_grpc,
    license_pb2,
    license_pb2_grpc,
    report_pb2,
)
from sparekey.wire.timestamps import to_duration

MIN_SVMS, MIN_KEYS, MIN_RUNNING = 20, 8, 5
PATIENCE = 60.0
"""Seconds that something may take on a busy machine that has not much to do."""
TRANSPORT = [("grpc.max_receive_message_length", -1)]
CODES = [f"TEST0-FUZZ0-00000-{number:05d}" for number in range(8)]
SERVICES = [
    *key_pb2.DESCRIPTOR.services_by_name.values(),
    *license_pb2.DESCRIPTOR.services_by_name.values(),
    *fleet_pb2.DESCRIPTOR.services_by_name.values(),
    *report_pb2.DESCRIPTOR.services_by_name.values(),
    *event_pb2.DESCRIPTOR.services_by_name.values(),
    *agent_pb2.DESCRIPTOR.services_by_name.values(),
    *clock_pb2.DESCRIPTOR.services_by_name.values(),
]


class World(Protocol):
    """A server under test.

    Attributes:
        known: What exists there, for inputs to name; by a field's full name or its name.
    """

    known: dict[str, Sequence[Any]]

    @property
    def watch(self) -> Watch:
        """Sees whether the server's state has changed."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def channel(self, method: str) -> grpc.aio.Channel:
        """Where a method, by its name, is called with the right to do so."""
        ...

    async def refill(self) -> None:
        """Make anew what was used up, so that the next inputs can name what exists."""
        ...

    async def rest(self) -> None:
        """Wait until what earlier inputs led to has been done."""
        ...

    def compose(self, svm_id: str) -> Message | None:
        """A frame that goes on from where an SVM stands; None where there are no agents."""
        ...


class StoreAndClock:
    """Sees changes of what a license server has stored, and of its time."""

    def __init__(self, store: StoreWatch, server: LicenseServer) -> None:
        self._store = store
        self._server = server

    def changes(self) -> Mapping[str, int]:
        """As `StoreWatch` says, and the time in whole microseconds."""
        return {**self._store.changes(), "clock": stored_instant(self._server.clock.now()) or 0}


class LicenseWorld:
    """A license server on plaintext with keys, SVMs, tasks and the fake activation server.

    Args:
        folder: For its data.
        randomness: Seeded.
        holds_stream: Whether one SVM's agent stays connected.
        moves_clock: Whether inputs move the clock; a clock that went back lets nothing be made.
        writer_process: Whether a process of its own writes, as in the program.
    """

    def __init__(
        self,
        folder: Path,
        randomness: random.Random,
        *,
        holds_stream: bool = False,
        moves_clock: bool = False,
        writer_process: bool = False,
    ) -> None:
        self.known: dict[str, Sequence[Any]] = {
            "boot_id": ["boot"],
            "cluster": ["north", "south"],
            "page_size": [1, 2, 50, 1000],
            "page_token": [""],
        }
        self._folder = folder
        self._random = randomness
        self._holds_stream = holds_stream
        self._moves_clock = moves_clock
        self._writer_process = writer_process
        self._signer = make_signer(randomness)
        self._key_files = make_key_files(randomness, self._signer, 40)
        self._next_svm = 0
        self._filled: dict[str, int] = {}
        self._rested = 0

    async def __aenter__(self) -> Self:
        clock = SettableClock(NOW)
        self._fake = await FakeActivation().start(
            data=self._folder / "fake", clock=clock, randomness=random.Random(self._random.random())
        )
        await self._define_codes()
        trusted = json.loads(self._fake.vendor_keys_path.read_text())
        trusted[self._signer.signer_id] = encode_public_key(self._signer.public_key)
        vendor_keys = self._folder / "vendor-keys.json"
        vendor_keys.write_text(json.dumps(trusted))
        # Nobody answers pushes here; nothing is to be written for that.
        settings: dict[str, Any] = {
            "data": self._folder / "data",
            "vendor_keys": vendor_keys,
            "listen": "127.0.0.1:0",
            "activation_server": str(self._fake.address),
            "test_clock": NOW.isoformat(),
            "heartbeat": 3600,
            "push_deadline": 3600,
            "writer_process": self._writer_process,
        }
        self._server = LicenseServer(ServerSettings(**settings))
        await self._server.start()
        self._channel = grpc.aio.insecure_channel(str(self._server.address), TRANSPORT)
        self._keys: Any = key_pb2_grpc.KeyServiceStub(self._channel)
        self._licenses: Any = license_pb2_grpc.LicenseServiceStub(self._channel)
        self._store = StoreWatch(self._folder / "data" / "sparekey.db")
        self.watch = StoreAndClock(self._store, self._server)
        self._reports = AgentReports(self._store, self._random)
        for code in CODES[:4]:
            await self._keys.AddKey(key_pb2.AddKeyRequest(activation_code=code))
        await self.refill()
        self._held = None
        if self._holds_stream:
            self._held = await take_in(self._channel, "svm-connected", None)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.cancel()
        self._store.close()
        await self._channel.close()
        await self._server.stop()
        await self._fake.stop()

    def channel(self, _method: str) -> grpc.aio.Channel:
        """Everyone on loopback may do everything."""
        return self._channel

    def compose(self, svm_id: str) -> Message:
        """The report that an SVM might send next."""
        return self._reports.next_frame(svm_id)

    async def refill(self) -> None:
        """Keep some SVMs, keys and running tasks there."""
        if self._filled == self.watch.changes() or (self._filled and self._moves_clock):
            return
        serials = self._store.column("SELECT serial FROM keys WHERE in_storage")
        missing = max(0, MIN_KEYS - len(serials))
        for key_file in self._key_files[:missing]:
            await self._keys.AddKey(key_pb2.AddKeyRequest(key_file=key_file))
        for _ in range(MIN_SVMS - self._store.column("SELECT count(*) FROM svms")[0]):
            self._next_svm += 1
            report = first_report(self._store, self._random)
            await leave(await take_in(self._channel, f"svm-{self._next_svm}", report, PATIENCE))
        await self._run_tasks()
        self._name_all()
        self._filled = dict(self.watch.changes())

    async def rest(self) -> None:
        """Wait until the server has asked about each subscription that was added."""
        added = self._store.changes()["keys"]
        if added == self._rested:
            return
        self._rested = added
        unheard = (
            "SELECT count(*) FROM keys WHERE kind = 'SUBSCRIPTION' AND origin = 'ACTIVATION_CODE'"
            " AND in_storage AND serial NOT IN (SELECT serial FROM subscriptions)"
        )
        async with asyncio.timeout(PATIENCE):
            while self._store.column(unheard)[0]:  # noqa: ASYNC110 - commits are not told here
                await asyncio.sleep(0.005)

    async def _run_tasks(self) -> None:
        running = self._store.column("SELECT count(*) FROM tasks WHERE state = 'RUNNING'")[0]
        serials = self._store.column("SELECT serial FROM keys WHERE in_storage")
        svm_ids = self._store.column("SELECT id FROM svms")
        for _ in range(2 * max(0, MIN_RUNNING - running)):
            picked = license_pb2.PickedSvms(svm_ids=[self._random.choice(svm_ids)])
            await self._licenses.Activate(
                license_pb2.ActivateRequest(
                    key_serial=self._random.choice(serials), scope=license_pb2.Scope(picked=picked)
                )
            )

    def _name_all(self) -> None:
        store = self._store
        serials = store.column("SELECT serial FROM keys WHERE in_storage")
        svm_ids = store.column("SELECT id FROM svms ORDER BY registered_at DESC LIMIT 50")
        running = store.column("SELECT id FROM tasks WHERE state = 'RUNNING' LIMIT 20")
        recent = store.column("SELECT id FROM tasks ORDER BY number DESC LIMIT 10")
        last = store.column("SELECT max(cursor) FROM events")[0]
        self.known |= {
            "serial": serials,
            "key_serial": serials,
            "blocked_serial": serials,
            "previous_serial": serials,
            "svm_id": svm_ids,
            "svm_ids": svm_ids,
            "task_id": [*running, *recent],
            "sparekey.v1.CancelTaskRequest.task_id": running,
            "sparekey.v1.Hello.svm_id": ["hello-1", "hello-2", "hello-3", "hello-4"],
            "after_cursor": [0, 1, max(0, last - 20), last],
            "key_file": self._key_files,
            "activation_code": [*CODES, "TEST0-FUZZ0-UNKNO-WN000"],
        }

    async def _define_codes(self) -> None:
        channel = grpc.aio.insecure_channel(str(self._fake.control_address))
        control: Any = control_pb2_grpc.ControlServiceStub(channel)
        for number, code in enumerate(CODES):
            await control.DefineCode(define_code(code, number))
        await channel.close()


def define_code(code: str, number: int) -> control_pb2.DefineCodeRequest:
    """A code for a key whose type and kind follow from a number."""
    kind = (key_pb2.KEY_KIND_COMMERCIAL, key_pb2.KEY_KIND_SUBSCRIPTION)[number % 2]
    properties = control_pb2.KeyProperties(
        type=number % 4 + 1,  # type: ignore[arg-type]
        kind=kind,
        edition=key_pb2.EDITION_STANDARD,
        unit_limit=100,
        term=to_duration(timedelta(days=60 + 30 * number)),
    )
    return control_pb2.DefineCodeRequest(
        code=code, key=properties, renewals=3, activation_limit=1000
    )
