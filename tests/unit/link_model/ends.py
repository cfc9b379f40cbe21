"""The link's two ends without a network: the real keeper and reports, the real operations.

What lies between is a model: for each stream two rows of frames in flight. A frame can be lost
with all behind it when its stream is cut, can reach the server after the agent has opened another
stream, and either end can crash at any step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from faults.watching import WatchedStorage
from sqlalchemy import Connection, Engine, delete, select

from sparekey.agent.instructions_received import read_instruction, result_message
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.reports import Reports
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.key_files import KeySigner, TrustedSigners
from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.scopes import PickedSvms
from sparekey.licensing.tasks import OutcomeState
from sparekey.runtime.clock import SettableClock
from sparekey.server.keys.adding import AddKey, add_keys
from sparekey.server.link import frames
from sparekey.server.link.pusher import read_waiting
from sparekey.server.link.reporting import Arrival, take_hellos, take_reports
from sparekey.server.store import schema
from sparekey.server.store.instructions import StoredInstruction, load_instructions
from sparekey.server.store.requests import Retry
from sparekey.server.store.svms import SvmRecord, load_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.planning import TaskOrder
from sparekey.server.tasks.starting import StartTask, start_tasks
from sparekey.v1 import agent_pb2, event_pb2, license_pb2
from sparekey.wire.errors import CallRefused

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NO_RETRY = Retry(None, b"")
SIGNER = KeySigner("model", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
TRUSTED = TrustedSigners({"model": SIGNER.public_key})
KEYS = [
    LicenseKey(
        serial=f"{number:04X}-{days:06X}-00000001",
        type=key_type,
        kind=KeyKind.COMMERCIAL,
        edition=Edition.STANDARD,
        origin=KeyOrigin.KEY_FILE,
        unit_limit=100,
        not_before=NOW - timedelta(days=1),
        expires_at=NOW + timedelta(days=days),
    )
    for number, key_type in enumerate((KeyType.SERVER, KeyType.DESKTOP, KeyType.CORES))
    for days in (5, 10, 20, 400)
]


class ServerCrashed(Exception):
    """The server ended before its commit."""


@dataclass(eq=False)
class Wire:
    """One stream's frames in flight.

    Attributes:
        up: From the agent, oldest first; the first of a stream is Hello.
        down: To the agent.
        ended: The server has ended it, or is gone.
    """

    up: deque[agent_pb2.ConnectRequest] = field(default_factory=deque)
    down: deque[agent_pb2.ConnectResponse] = field(default_factory=deque)
    ended: bool = False


class AgentEnd:
    """One agent, as `sparekey.agent.stream` has it, a step at a time."""

    def __init__(self, svm_id: str, clock: SettableClock) -> None:
        self.svm_id = svm_id
        self.disk = WatchedStorage()
        self.inventory = Inventory("", GuestMix(1, 1), f"host-of-{svm_id}", HostCpu(2, 16))
        self.wire: Wire | None = None
        self._clock = clock
        self._boots = count(1)
        self._boot()

    def _boot(self) -> None:
        self.boot_id = f"{self.svm_id}-{next(self._boots)}"
        self.keeper = KeyringKeeper(self.disk, TRUSTED, self._clock, self.svm_id)
        self.keeper.settle_now()
        self.reports = Reports(self.keeper, self.inventory)

    def crash(self) -> None:
        """End without a word and start again from the disk."""
        self.hang_up()
        self._boot()

    def hang_up(self) -> None:
        """Notice that the stream is broken."""
        self.wire = None

    def connect(self) -> Wire:
        """Open a stream: Hello is on its way."""
        self.hang_up()
        self.keeper.settle_now()
        hello = agent_pb2.Hello(
            svm_id=self.svm_id,
            boot_id=self.boot_id,
            accepted_sequence=self.keeper.accepted_sequence,
            report_digest=self.reports.open_stream(),
            keyring_revision=self.keeper.revision,
            results=[result_message(result) for result in self.keeper.results.values()],
        )
        self.wire = Wire()
        self.wire.up.append(agent_pb2.ConnectRequest(hello=hello))
        self.welcomed = False
        return self.wire

    def tell(self, results: Sequence[agent_pb2.SlotResult] = ()) -> None:
        """Send what there is to tell, where a server has welcomed the agent."""
        if self.wire is None or not self.welcomed:
            return
        report = self.reports.next_report(results, None)
        if report is not None:
            self.wire.up.append(agent_pb2.ConnectRequest(report=report))

    def take(self, frame: agent_pb2.ConnectResponse) -> None:
        """Follow one frame of the server."""
        results: list[agent_pb2.SlotResult] = []
        match frame.WhichOneof("frame"):
            case "welcome":
                self.welcomed = True
                revision = frame.welcome.accepted_keyring_revision
                self.keeper.accept(revision)
                if frame.welcome.full_report_wanted:
                    self.reports.want_whole(revision)
            case "push":
                read = [read_instruction(message) for message in frame.push.instructions]
                followed = self.keeper.follow_push([one for one in read if one is not None])
                results = [result_message(result) for result in followed]
            case "report_accepted":
                accepted = frame.report_accepted
                self.keeper.accept(accepted.accepted_keyring_revision, accepted.sequence)
            case "full_report_wanted":
                revision = frame.full_report_wanted.accepted_keyring_revision
                self.keeper.accept(revision)
                self.reports.want_whole(revision)
            case other:
                raise AssertionError(other)
        self.tell(results)


class ServerEnd:
    """The server's storage and operations; its memory is the open streams and what they got."""

    def __init__(self, engine: Engine, clock: SettableClock) -> None:
        self._engine = engine
        self._clock = clock
        self._numbers = count(1)
        self.open: dict[str, Wire] = {}
        self._pushed: dict[str, int] = {}
        with self._writing() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(delete(table))
        self.write(add_keys, *(AddKey(key, SIGNER.sign(key), "operator", NO_RETRY) for key in KEYS))

    def crash(self) -> None:
        """Lose all that is not on disk."""
        for wire in self.open.values():
            wire.ended = True
        self.open.clear()
        self._pushed.clear()

    def start_task(self, key: LicenseKey, role: Role, svm_ids: Sequence[str]) -> None:
        """What an operator asks for; a refusal is fine."""
        order = TaskOrder(
            serial=key.serial,
            role=role,
            scope=PickedSvms(tuple(svm_ids)),
            encoded_scope=license_pb2.Scope(
                picked=license_pb2.PickedSvms(svm_ids=svm_ids)
            ).SerializeToString(),
            wait=timedelta(days=90),
            actor="operator",
            task_id=f"task-{next(self._numbers)}",
        )
        self.write(start_tasks, StartTask(order, NO_RETRY, license_pb2.ActivateResponse))

    def receive(self, svm_id: str, wire: Wire, *, crash: str = "") -> None:
        """Take the next frame of a stream, and answer.

        Args:
            svm_id: Whose stream it is.
            wire: The stream.
            crash: "before" or "after": the server ends just before or after the commit.
        """
        frame = wire.up.popleft()
        if frame.HasField("hello"):
            replaced, self.open[svm_id] = self.open.get(svm_id), wire
            if replaced is not None:
                replaced.ended = True  # the newcomer takes its place
            self._pushed[svm_id] = 0
            (taken,) = self.write(take_hellos, frame.hello, crash=crash)
            answers = [frames.welcome(taken, timedelta(seconds=30), NOW, None)]
        elif self.open.get(svm_id) is not wire:
            return  # a stream that the server has ended: nobody reads it any more
        else:
            frames.check_report(frame.report)
            arrival = Arrival(svm_id, (frame.report.SerializeToString(),))
            (taken,) = self.write(take_reports, arrival, crash=crash)
            assert not isinstance(taken, CallRefused), taken
            answers = [frames.report_accepted(taken)]
            if taken.full_report_wanted:
                answers.insert(0, frames.full_report_wanted(taken))
        if crash:
            self.crash()
        else:
            wire.down.extend(answers)

    def push(self, svm_id: str, *, again: bool = False) -> None:
        """Send what waits and was not sent yet; `again` where a deadline has passed."""
        wire = self.open.get(svm_id)
        if wire is None:
            return
        if again:
            self._pushed[svm_id] = 0
        waiting, key_files = self.read(read_waiting, [svm_id])
        fresh = [one for one in waiting.get(svm_id, ()) if one.version > self._pushed[svm_id]]
        if fresh:
            self._pushed[svm_id] = fresh[-1].version
            wire.down.append(frames.push(1, fresh, key_files))

    def write(self, operation: Any, *requests: Any, crash: str = "") -> list[Any]:
        """Apply an operation as the writer does; a crash before the commit undoes it."""
        answers: list[Any] = []
        with suppress(ServerCrashed), self._writing() as connection:
            transaction = Transaction(connection, self._clock.now())
            answers = list(operation(transaction, requests))
            transaction.flush()
            _crash_if(crash == "before")
        return answers

    def read(self, function: Any, *arguments: Any) -> Any:
        with self._engine.connect() as connection:
            return function(connection, *arguments)

    def record(self, svm_id: str) -> SvmRecord | None:
        """An SVM as it is stored."""
        records: dict[str, SvmRecord] = self.read(load_svms, [svm_id])
        return records.get(svm_id)

    def instructions(self, svm_id: str) -> list[StoredInstruction]:
        """The newest instruction of each slot."""
        return list(self.read(load_instructions, [svm_id]).get(svm_id, {}).values())

    def applied(self, svm_id: str) -> set[int]:
        """The versions of which a task says that the SVM has applied them."""
        outcomes = schema.outcomes.c
        query = select(outcomes.instruction_version).where(
            outcomes.svm_id == svm_id,
            outcomes.state == OutcomeState.APPLIED.name,
            outcomes.instruction_version > 0,
        )
        return set(self.read(lambda connection: list(connection.scalars(query))))

    def events(self, svm_id: str) -> list[event_pb2.Event]:
        """An SVM's history."""
        query = (
            select(schema.events.c.content)
            .where(schema.events.c.svm_id == svm_id)
            .order_by(schema.events.c.cursor)
        )
        contents = self.read(lambda connection: list(connection.scalars(query)))
        return [event_pb2.Event.FromString(content) for content in contents]

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._engine.execution_options(sparekey_writes=True).begin() as connection:
            yield connection


def _crash_if(crash: bool) -> None:
    if crash:
        raise ServerCrashed
