"""A server's storage and the agents' own code beside it, without any socket between them.

What an operator asks for goes through the same operations as in the server; what waits for an
SVM is handed to the real keeper of its keyring, and its report is taken in as from the link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, delete, select

from sparekey.agent.instructions_received import read_instruction, result_message
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.keyring_record import MemoryKeyringStorage
from sparekey.agent.reports import Reports
from sparekey.licensing.changes import apply_change
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.key_files import KeySigner, TrustedSigners
from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.scopes import AllSvms, PickedSvms
from sparekey.runtime.clock import SettableClock
from sparekey.server.keys.adding import AddKey, add_keys
from sparekey.server.keys.blocking import MarkBlocked, mark_blocked
from sparekey.server.link import frames
from sparekey.server.link.pusher import read_waiting
from sparekey.server.link.reporting import Arrival, take_hellos, take_reports
from sparekey.server.store import schema
from sparekey.server.store.requests import Retry
from sparekey.server.store.svms import SvmRecord, load_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.planning import TaskOrder
from sparekey.server.tasks.starting import StartTask, start_tasks
from sparekey.v1 import agent_pb2, event_pb2, license_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import read_change

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NO_RETRY = Retry(None, b"")
SIGNER = KeySigner("test-vendor", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
TRUSTED = TrustedSigners({"test-vendor": SIGNER.public_key})


def make_key(
    number: int,
    type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
    *,
    kind: KeyKind = KeyKind.COMMERCIAL,
    edition: Edition = Edition.STANDARD,
    starts: float = -30,
    ends: float | None = 30,
) -> LicenseKey:
    """A key; `starts` and `ends` are days from `NOW`."""
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


@dataclass
class Svm:
    """One SVM's own side."""

    keeper: KeyringKeeper
    reports: Reports


@dataclass
class World:
    """One installation; its time moves by `advance` only."""

    engine: Engine
    clock: SettableClock = field(default_factory=lambda: SettableClock(NOW))
    svms: dict[str, Svm] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def clear(self) -> None:
        """Empty every table."""
        with self._writing() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(delete(table))

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def write(self, operation: Any, *requests: Any) -> list[Any]:
        """Apply an operation to requests as the writer would in one group."""
        with self._writing() as connection:
            transaction = Transaction(connection, self.now)
            answers = list(operation(transaction, requests))
            transaction.flush()
        return answers

    def read(self, function: Any, *arguments: Any) -> Any:
        with self.engine.connect() as connection:
            return function(connection, *arguments)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.engine.execution_options(sparekey_writes=True).begin() as connection:
            yield connection

    def add_keys(self, keys: Iterable[LicenseKey]) -> None:
        for key in keys:
            self.write(add_keys, AddKey(key, SIGNER.sign(key), "operator", NO_RETRY))

    def add_svm(self, svm_id: str, guests: GuestMix | None = None) -> None:
        """A new SVM connects for the first time."""
        keeper = KeyringKeeper(MemoryKeyringStorage(), TRUSTED, self.clock, svm_id)
        inventory = Inventory("", guests or GuestMix(), "host", HostCpu(2, 16))
        self.svms[svm_id] = Svm(keeper, Reports(keeper, inventory))
        self.sync([svm_id])

    def order(self, key: LicenseKey, role: Role, svm_ids: Sequence[str] = ()) -> TaskOrder:
        """What a task is asked: for picked SVMs, or for all."""
        picked = license_pb2.PickedSvms(svm_ids=svm_ids)
        scope = license_pb2.Scope(picked=picked) if svm_ids else license_pb2.Scope()
        return TaskOrder(
            serial=key.serial,
            role=role,
            scope=PickedSvms(tuple(svm_ids)) if svm_ids else AllSvms(),
            encoded_scope=scope.SerializeToString(),
            wait=timedelta(days=7),
            actor="operator",
            task_id=f"task-{next(self._numbers)}",
        )

    def start(self, order: TaskOrder) -> license_pb2.Task | CallRefused:
        """Start a task; the answer."""
        request = StartTask(order, NO_RETRY, license_pb2.ActivateResponse)
        (answer,) = self.write(start_tasks, request)
        return answer if isinstance(answer, CallRefused) else answer.task

    def block(self, key: LicenseKey) -> None:
        """The activation server says that a key is blocked."""
        self.write(mark_blocked, MarkBlocked((key.serial,), "server", NO_RETRY))

    def advance(self, days: float) -> None:
        """Time goes on for all; agents that are offline act by themselves."""
        self.clock.advance(timedelta(days=days))
        for svm in self.svms.values():
            svm.keeper.settle_now()

    def sync(self, svm_ids: Iterable[str]) -> None:
        """SVMs connect, follow what waits for them, and report until nothing is left."""
        for svm_id in svm_ids:
            self._say_hello(svm_id)
            while self._push(svm_id):
                pass

    def _say_hello(self, svm_id: str) -> None:
        svm = self.svms[svm_id]
        svm.keeper.settle_now()
        hello = agent_pb2.Hello(
            svm_id=svm_id,
            boot_id="boot",
            accepted_sequence=svm.keeper.accepted_sequence,
            report_digest=svm.reports.open_stream(),
            keyring_revision=svm.keeper.revision,
            results=[result_message(result) for result in svm.keeper.results.values()],
        )
        (taken,) = self.write(take_hellos, hello)
        svm.keeper.accept(taken.keyring_revision)
        if taken.full_report_wanted:
            svm.reports.want_whole(taken.keyring_revision)
        self._report(svm_id, [])

    def _push(self, svm_id: str) -> bool:
        """Hand over what waits; False if nothing does."""
        waiting, key_files = self.read(read_waiting, [svm_id])
        if svm_id not in waiting:
            return False
        push = frames.push(1, waiting[svm_id], key_files).push
        instructions = [read_instruction(message) for message in push.instructions]
        known = [one for one in instructions if one is not None]
        results = self.svms[svm_id].keeper.follow_push(known)
        self._report(svm_id, [result_message(result) for result in results])
        return True

    def _report(self, svm_id: str, results: Sequence[agent_pb2.SlotResult]) -> None:
        svm = self.svms[svm_id]
        report = svm.reports.next_report(results, self.now)
        if report is None:
            return
        (taken,) = self.write(take_reports, Arrival(svm_id, (report.SerializeToString(),)))
        assert not isinstance(taken, CallRefused), taken
        assert not taken.full_report_wanted
        svm.keeper.accept(taken.keyring_revision, taken.sequence)

    def record(self, svm_id: str) -> SvmRecord:
        """An SVM as it is stored."""
        records: dict[str, SvmRecord] = self.read(load_svms, [svm_id])
        return records[svm_id]

    def events(self) -> list[event_pb2.Event]:
        """The whole history."""
        rows = self.read(
            lambda connection: list(connection.execute(select(schema.events.c.content)))
        )
        return [event_pb2.Event.FromString(content) for (content,) in rows]

    def replayed(self, svm_id: str) -> dict[Slot, str]:
        """An SVM's serials by slot, rebuilt from the history alone; no revision may be missing."""
        slots: dict[Slot, str] = {}
        revision = 0
        for event in self.events():
            if event.svm_id == svm_id and event.kind == event_pb2.EVENT_KIND_KEYRING_CHANGED:
                revision += 1
                assert event.change.revision == revision
                change = read_change(event.change)
                assert change is not None
                apply_change(slots, change)
        return slots
