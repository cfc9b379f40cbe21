"""The server's own parts on a database of their own, and SVMs that follow the rules, no sockets."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import sqlalchemy.event
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.activation.v1 import activation_pb2
from sparekey.licensing.changes import Change, Transition
from sparekey.licensing.key_files import KeySigner, TrustedSigners
from sparekey.licensing.keyring import EMPTY, Keyring
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.settling import settle
from sparekey.runtime.clock import SettableClock
from sparekey.server.activation_client import ActivationClient
from sparekey.server.keys.adding import AddKey, add_keys
from sparekey.server.link.reporting import Arrival, take_hellos, take_reports
from sparekey.server.scheduler.jobs import KeyChecks, Renewals, TaskDeadlines
from sparekey.server.scheduler.life_jobs import (
    ClockWatch,
    ExpiryNotices,
    LimitChecks,
    SubscriptionPolls,
)
from sparekey.server.scheduler.scheduler import Scheduler
from sparekey.server.services.calls import PageTokens
from sparekey.server.services.license_service import LicenseServicer
from sparekey.server.store.commits import CommitFeed
from sparekey.server.store.database import open_database, sqlite_url
from sparekey.server.store.events import EventFilter, page_of_events
from sparekey.server.store.instructions import StoredInstruction, load_pending
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.reader import Connection, Reader
from sparekey.server.store.requests import Retry
from sparekey.server.store.svms import touch_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.writer import ThreadTarget, Writer
from sparekey.server.tasks.waiting import follow_stored
from sparekey.v1 import agent_pb2, error_pb2, event_pb2, guest_pb2, keyring_pb2, license_pb2
from sparekey.wire.callers import LOCAL_CALLER
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import REFUSALS, keyring_message, slot_message
from sparekey.wire.timestamps import from_timestamp, to_duration, to_timestamp

START = datetime(2030, 1, 1, tzinfo=UTC)
SIGNER = KeySigner("year", Ed25519PrivateKey.from_private_bytes(bytes(32)))
HOUR = timedelta(hours=1)
_NO_RETRY = Retry(None, b"")


def instant(hour: int) -> datetime:
    return START + hour * HOUR


def hour_of(at: datetime) -> int:
    hours, rest = divmod(at - START, HOUR)
    assert not rest, at
    return hours


@dataclass
class Provider:
    """The activation server: what it would say, if it can be reached."""

    clock: SettableClock
    reachable: bool = True
    subscriptions: dict[str, activation_pb2.Subscription] = field(default_factory=dict)
    successors: dict[str, LicenseKey] = field(default_factory=dict)
    blocked_serials: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def check(self) -> None:
        if not self.reachable:
            reason = error_pb2.ERROR_REASON_ACTIVATION_SERVER_UNAVAILABLE
            raise CallRefused(reason, "not there")

    async def subscription(self, serial: str) -> activation_pb2.Subscription:
        self.check()
        self.asked.append(serial)
        return self.subscriptions[serial]

    async def renew(self, serial: str) -> bytes:
        self.check()
        if serial not in self.successors:
            raise CallRefused(error_pb2.ERROR_REASON_CODE_EXPIRED, "no successor")
        return SIGNER.sign(self.successors[serial])

    async def blocked(self, serials: Sequence[str]) -> dict[str, timedelta | None]:
        self.check()
        return {serial: None for serial in serials if serial in self.blocked_serials}


@dataclass
class RuleSvm:
    """An SVM that follows its instructions by the rules, as an agent does."""

    svm_id: str
    keyring: Keyring = EMPTY
    revision: int = 0
    accepted: int = 0
    sequence: int = 0
    changes: list[tuple[int, Change]] = field(default_factory=list)
    results: list[agent_pb2.SlotResult] = field(default_factory=list)
    surroundings: agent_pb2.Report | None = None

    def live(self, now: datetime) -> None:
        self._take(settle(self.keyring, now))

    def follow(self, told: StoredInstruction, keys: dict[str, StoredKey], now: datetime) -> None:
        result = follow_stored(self.keyring, told, keys, now)
        state = agent_pb2.SLOT_RESULT_STATE_REFUSED
        reason = None if isinstance(result, Transition) else REFUSALS[result]
        if isinstance(result, Transition):
            self._take(result)
            state = agent_pb2.SLOT_RESULT_STATE_APPLIED
        else:
            self.live(now)
        self.results.append(
            agent_pb2.SlotResult(
                slot=slot_message(told.slot),
                version=told.version,
                state=state,
                reason=cast("Any", reason),
            )
        )

    def _take(self, transition: Transition) -> None:
        for change in transition.changes:
            self.revision += 1
            self.changes.append((self.revision, change))
        self.keyring = transition.keyring

    def report(self) -> agent_pb2.Report | None:
        if not (self.results or self.surroundings or self.revision != self.accepted):
            return None
        self.sequence += 1
        report = self.surroundings or agent_pb2.Report()
        report.sequence = self.sequence
        report.results.extend(self.results)
        if self.revision != self.accepted:
            message = keyring_message(self.keyring.slots, self.revision, self.changes)
            report.keyring.CopyFrom(message)
        self.results, self.changes, self.surroundings = [], [], None
        self.accepted = self.revision
        return report


def guest_list(guests: dict[str, str], off: dict[str, int]) -> guest_pb2.GuestList:
    return guest_pb2.GuestList(
        guests=[
            guest_pb2.Guest(
                instance_uuid=vm,
                os_class=guest_pb2.OsClass.Value(f"OS_CLASS_{os}"),
                last_protected_at=to_timestamp(instant(off[vm])) if vm in off else None,
            )
            for vm, os in guests.items()
        ]
    )


class YearServer:
    """Storage, tasks and due work of one server; the clock is moved by the test."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.clock = SettableClock(START)
        self.provider = Provider(self.clock)
        self.svms: dict[str, RuleSvm] = {}
        self._engine = open_database(sqlite_url(folder))
        # What is tested here is what is told and when, not that it outlives a power cut.
        sqlalchemy.event.listen(self._engine, "connect", _do_not_sync)
        self._engine.dispose()
        feed = CommitFeed()
        self.reader = Reader(self._engine)
        self.writer = Writer(ThreadTarget(self._engine), self.clock, feed)
        client = cast("ActivationClient", self.provider)
        trusted = TrustedSigners({"year": SIGNER.public_key})
        self._cursor = 0
        self._tasks = 0
        hour = timedelta(hours=1)
        reader, writer, clock = self.reader, self.writer, self.clock
        polls = SubscriptionPolls(
            reader, writer, clock, client, trusted, self._task_id, hour, random.Random(seed)
        )
        self.scheduler = Scheduler(
            [
                ClockWatch(writer, clock),
                TaskDeadlines(reader, writer),
                Renewals(reader, writer, clock, client, trusted, self._task_id),
                polls,
                KeyChecks(reader, writer, clock, client, hour),
                ExpiryNotices(reader, writer, clock),
                LimitChecks(reader, writer),
            ],
            clock,
            feed,
        )
        self.licenses = LicenseServicer(
            reader, writer, clock, feed, PageTokens(b"secret"), self._task_id, polls.ask
        )

    def _task_id(self) -> str:
        self._tasks += 1
        return f"task-{self._tasks}"

    async def stop(self) -> None:
        await self.writer.stop()
        self.reader.stop()
        self._engine.dispose()

    async def add_key(self, key: LicenseKey) -> None:
        request = AddKey(key, SIGNER.sign(key), "operator", _NO_RETRY)
        await self.writer.write(add_keys, request)

    async def task(
        self, serial: str, role: str, names: Iterable[str]
    ) -> tuple[str, dict[str, str]]:
        """Start a task; its id and the refusals by SVM."""
        scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=sorted(names)))
        wait = to_duration(timedelta(days=90))
        if role == "ACTIVE":
            activate = license_pb2.ActivateRequest(key_serial=serial, scope=scope, wait=wait)
            task = (await self.licenses.activate(activate, self._call(activate))).task
        else:
            renew = license_pb2.RenewRequest(key_serial=serial, scope=scope, wait=wait)
            task = (await self.licenses.renew(renew, self._call(renew))).task
        return task.task_id, _refusals(task)

    async def run_again(
        self, task_id: str, clusters: tuple[str, ...] = ()
    ) -> tuple[str, dict[str, str]]:
        """Run a task again; the key that it gives now and the refusals by SVM."""
        wait = to_duration(timedelta(days=90))
        request = license_pb2.RunTaskRequest(task_id=task_id, wait=wait)
        task = (await self.licenses.run_task(request, self._call(request, clusters))).task
        return task.key_serial, _refusals(task)

    def _call(self, request: Any, clusters: tuple[str, ...] = ()) -> Call:
        caller = replace(LOCAL_CALLER, clusters=clusters)
        return Call("/test", caller, request.SerializeToString(), cast("Any", None))

    async def greet(self, names: Iterable[str]) -> None:
        """The SVMs connect."""
        hellos = [
            agent_pb2.Hello(svm_id=name, boot_id="boot", accepted_sequence=1) for name in names
        ]
        await asyncio.gather(*(self.writer.write(take_hellos, hello) for hello in hellos))

    async def hear(self, names: Sequence[str]) -> None:
        """The SVMs live on to now, and report what is new."""
        arrivals = []
        for name in names:
            self.svms[name].live(self.clock.now())
            if (report := self.svms[name].report()) is not None:
                arrivals.append(Arrival(name, (report.SerializeToString(),)))
        taken = await asyncio.gather(*(self.writer.write(take_reports, one) for one in arrivals))
        assert not any(one.full_report_wanted for one in taken)
        await self.writer.write(_touch, tuple(names))

    async def deliver(self, names: Sequence[str]) -> None:
        """The SVMs follow what waits for them, until nothing does."""
        for _ in range(5):
            waiting, keys = await self.reader.read(_pending, list(names))
            if not waiting:
                return
            for name, some in waiting.items():
                for told in some:
                    self.svms[name].follow(told, keys, self.clock.now())
            await self.hear(sorted(waiting))
        raise AssertionError("instructions never end")

    async def new_events(self) -> Counter[tuple[Any, ...]]:
        """What was told since the last call, in the model's words."""
        found: Counter[tuple[Any, ...]] = Counter()
        while True:
            page = await self.reader.read(page_of_events, EventFilter(), self._cursor, 5000)
            if not page:
                return found
            self._cursor = page[-1].cursor
            found.update(one for event in page if (one := _plain(event)) is not None)


def _do_not_sync(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


def _touch(transaction: Transaction, requests: Sequence[tuple[str, ...]]) -> list[None]:
    for names in requests:
        touch_svms(transaction.connection, dict.fromkeys(names, transaction.now))
    return [None] * len(requests)


def _pending(
    connection: Connection, names: list[str]
) -> tuple[dict[str, list[StoredInstruction]], dict[str, StoredKey]]:
    waiting = load_pending(connection, names)
    serials = {one.serial for some in waiting.values() for one in some if one.serial}
    return waiting, load_keys(connection, serials)


def _refusals(task: license_pb2.Task) -> dict[str, str]:
    return {
        one.svm_id: license_pb2.RefusalReason.Name(one.reason).removeprefix("REFUSAL_REASON_")
        for one in task.outcomes
        if one.state == license_pb2.OUTCOME_STATE_REFUSED
    }


def _plain(event: event_pb2.Event) -> tuple[Any, ...] | None:
    at = hour_of(from_timestamp(event.occurred_at))
    serial = event.key_serial
    match event.kind:
        case event_pb2.EVENT_KIND_EXPIRY_NOTICE:
            bare = event.uncovered_svm_count
            return ("NOTICE", serial, event.days_left, int(event.severity), bare, at)
        case event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED:
            name = activation_pb2.SubscriptionState.Name(cast("Any", int(event.subscription.state)))
            return ("SUBSCRIPTION", serial, name.removeprefix("SUBSCRIPTION_STATE_"), at)
        case event_pb2.EVENT_KIND_LIMIT_OK:
            return ("LIMIT", serial, "OK", event.units_used)
        case event_pb2.EVENT_KIND_LIMIT_BAND:
            band = event_pb2.Severity.Name(event.severity).removeprefix("SEVERITY_")
            return ("LIMIT", serial, band, event.units_used)
        case event_pb2.EVENT_KIND_KEYRING_CHANGED:
            if event.change.kind == keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED:
                return ("PROMOTED", event.svm_id, serial, at)
        case event_pb2.EVENT_KIND_KEYS_VOIDED | event_pb2.EVENT_KIND_KEYS_REINSTATED:
            kind = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_KEYS_")
            return ("KEYS", event.svm_id, kind)
        case event_pb2.EVENT_KIND_KEYRING_RESYNCED:
            raise AssertionError(event.message)
    return None


def license_key(plain: Any) -> LicenseKey:
    """A key of the model as a key."""
    return LicenseKey(
        serial=plain.serial,
        type=KeyType[plain.type],
        kind=KeyKind[plain.kind],
        edition=Edition[plain.edition],
        origin=KeyOrigin.ACTIVATION_CODE if plain.by_code else KeyOrigin.KEY_FILE,
        unit_limit=plain.limit,
        not_before=instant(plain.start),
        expires_at=None if plain.end is None else instant(plain.end),
    )


def slots_of(keyring: Keyring) -> dict[tuple[str, str], tuple[str, bool]]:
    """By type and role the serial, and whether the key is marked as blocked."""
    return {
        (slot.type.name, slot.role.name): (held.key.serial, held.blocked_at is not None)
        for slot, held in keyring.slots.items()
    }
