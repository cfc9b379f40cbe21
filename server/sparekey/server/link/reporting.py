"""What agents say, written down in batches: hellos and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keys import KeyOrigin
from sparekey.licensing.units import Guest
from sparekey.server.life.guest_lists import follow_guests, read_guest_list
from sparekey.server.link.keyrings import ACTOR, read_keyring, take_keyring, untold_blocks
from sparekey.server.link.results import InstructionBook
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.svms import (
    SvmRecord,
    load_svms,
    save_keyrings,
    save_svms,
)
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.void_keys import note_registered_again
from sparekey.v1 import agent_pb2, error_pb2, event_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import (
    guest_mix_message,
    host_cpu_message,
    read_guest_mix,
    read_host_cpu,
)

_MAX_CLUSTER_LENGTH = 100
_MAX_UUID_LENGTH = 64


class Arrival(NamedTuple):
    """Reports of one SVM that came one after the other.

    They are encoded, since on their way to the writing process a message costs far more.
    """

    svm_id: str
    reports: tuple[bytes, ...]


class Taken(NamedTuple):
    """What the agent is told about its reports or its hello.

    Attributes:
        sequence: The newest report that is on disk; 0 after a hello.
        keyring_revision: The keyring revision that is on disk.
        full_report_wanted: Whether a full report must come next.
        has_waiting: Whether instructions wait for the SVM; after reports that
            answered none it is not looked at.
    """

    sequence: int
    keyring_revision: int
    full_report_wanted: bool
    has_waiting: bool = False


def take_hellos(
    transaction: Transaction, hellos: Sequence[agent_pb2.Hello]
) -> list[Taken | CallRefused]:
    """Register or recognise agents; an unchanged one is asked for nothing."""
    svm_ids = [hello.svm_id for hello in hellos]
    keys: dict[str, StoredKey] = {}
    records = load_svms(transaction.connection, svm_ids, keys)
    book = InstructionBook.load(transaction, svm_ids)
    book.keys.update(keys)
    answers: list[Taken | CallRefused] = []
    new: list[str] = []
    for hello in hellos:
        record = records.get(hello.svm_id)
        if record is None:
            record = records[hello.svm_id] = _register(transaction, hello)
            new.append(hello.svm_id)
        record.boot_id = hello.boot_id
        record.agent_version = hello.agent_version[:64]
        record.last_seen_at = transaction.now
        book.take_results(transaction, record, hello.results)
        known = (
            record.report_digest == hello.report_digest
            and record.keyring_revision == hello.keyring_revision
            and record.report_sequence == hello.accepted_sequence
        )
        # A task that was to replace a blocked key may have been withdrawn meanwhile.
        for instruction in untold_blocks(record, keys):
            book.put_in(transaction, record, instruction)
        waits = bool(book.waiting(record.svm_id))
        answers.append(Taken(0, record.keyring_revision, not known, waits))
        transaction.commit.svms.add(record.svm_id)
    note_registered_again(transaction.connection, new, transaction.now)
    # The SVMs come first: their instructions refer to them.
    save_svms(transaction.connection, list(records.values()))
    book.save(transaction)
    return answers


def _register(transaction: Transaction, hello: agent_pb2.Hello) -> SvmRecord:
    record = SvmRecord(
        svm_id=hello.svm_id, registered_at=transaction.now, last_seen_at=transaction.now
    )
    transaction.add_event(
        event_pb2.EVENT_KIND_SVM_REGISTERED,
        "The SVM connected for the first time.",
        actor=ACTOR,
        svm_id=record.svm_id,
    )
    return record


def take_reports(
    transaction: Transaction, arrivals: Sequence[Arrival]
) -> list[Taken | CallRefused]:
    """Write reports down in order; each is all taken or all refused, and those after it with it."""
    connection = transaction.connection
    arrived = [(one.svm_id, _decoded(one)) for one in arrivals]
    concerned = {svm_id for svm_id, reports in arrived if any(map(_concerns_keys, reports))}
    listing = {svm_id for svm_id, reports in arrived if any(map(_lists_guests, reports))}
    keys = load_keys(connection, _serials(report for _, reports in arrived for report in reports))
    records = load_svms(
        connection,
        [svm_id for svm_id, _ in arrived],
        keys,
        with_keys=(concerned | listing).__contains__,
    )
    book = InstructionBook.load(transaction, concerned)
    book.keys.update(keys)
    answers: list[Taken | CallRefused] = []
    keyrings: dict[str, SvmRecord] = {}
    before = {svm_id: record.keyring for svm_id, record in records.items()}
    stood = {svm_id: _Surroundings.of(record) for svm_id, record in records.items()}
    lists: dict[str, tuple[Guest, ...]] = {}
    for svm_id, reports in arrived:
        record = records.get(svm_id)
        if record is None:
            answers.append(_unknown(svm_id))
            continue
        taken: Taken | None = None
        try:
            for report in reports:
                listed = None
                if _lists_guests(report):
                    listed = read_guest_list(report.guest_list, transaction.now)
                taken = _take(transaction, book, record, report, keyrings, taken)
                if listed is not None:
                    lists[svm_id] = listed
        except CallRefused as refused:
            answers.append(refused)
            continue
        assert taken is not None
        waits = svm_id in concerned and bool(book.waiting(svm_id))
        answers.append(taken._replace(has_waiting=waits))
    for record in records.values():
        _tell_surroundings(transaction, stood[record.svm_id], record)
    save_svms(connection, list(records.values()))
    book.save(transaction)
    save_keyrings(connection, ((one, before[one.svm_id]) for one in keyrings.values()))
    after = {svm_id: record.keyring for svm_id, record in records.items()}
    follow_guests(transaction, before, after, lists)
    return answers


def _decoded(arrival: Arrival) -> list[agent_pb2.Report]:
    return [agent_pb2.Report.FromString(encoded) for encoded in arrival.reports]


def _take(
    transaction: Transaction,
    book: InstructionBook,
    record: SvmRecord,
    report: agent_pb2.Report,
    keyrings: dict[str, SvmRecord],
    earlier: Taken | None,
) -> Taken:
    """Take one report in.

    Raises:
        CallRefused: its keyring breaks the rules; nothing of it was taken.
    """
    record.last_seen_at = transaction.now
    if not report.full and report.sequence <= record.report_sequence:
        wanted = earlier is not None and earlier.full_report_wanted
        return Taken(report.sequence, record.keyring_revision, full_report_wanted=wanted)
    joins_on = report.full or report.sequence == record.report_sequence + 1
    if report.HasField("keyring"):
        reported = read_keyring(report.keyring, book.keys)
        tasks = book.take_results(transaction, record, report.results)
        before = record.keyring
        remedy = take_keyring(transaction, record, report.keyring, reported, book.keys, tasks)
        if record.keyring != before:
            keyrings[record.svm_id] = record
            for held in record.keyring.actives():
                if held.key.origin is KeyOrigin.ACTIVATION_CODE and held.key.expires_at:
                    transaction.commit.add_due(held.key.expires_at)
        for instruction in remedy.instructions:
            book.put_in(transaction, record, instruction)
    elif report.results:
        book.take_results(transaction, record, report.results)
    _take_surroundings(record, report)
    if joins_on:
        record.report_sequence = report.sequence
        record.report_digest = report.digest
    return Taken(report.sequence, record.keyring_revision, full_report_wanted=not joins_on)


def _take_surroundings(record: SvmRecord, report: agent_pb2.Report) -> None:
    if report.HasField("placement"):
        record.cluster = report.placement.cluster[:_MAX_CLUSTER_LENGTH]
    if report.HasField("guests"):
        record.guests = read_guest_mix(report.guests)
    if report.HasField("host_cpu"):
        record.host_cpu = read_host_cpu(report.host_cpu)
        record.host_uuid = report.host_cpu.host_uuid[:_MAX_UUID_LENGTH]


class _Surroundings(NamedTuple):
    """What an SVM reports besides its keys."""

    cluster: str
    guests: GuestMix
    host_uuid: str
    host_cpu: HostCpu

    @classmethod
    def of(cls, record: SvmRecord) -> _Surroundings:
        return cls(record.cluster, record.guests, record.host_uuid, record.host_cpu)


def _tell_surroundings(transaction: Transaction, before: _Surroundings, record: SvmRecord) -> None:
    """One event where placement, guests or host have changed."""
    after = _Surroundings.of(record)
    if before == after:
        return
    transaction.commit.svms.add(record.svm_id)
    host_changed = (before.host_uuid, before.host_cpu) != (after.host_uuid, after.host_cpu)
    transaction.add_event(
        event_pb2.EVENT_KIND_SVM_CHANGED,
        _describe(record.cluster, record.guests, record.host_cpu),
        actor=ACTOR,
        svm_id=record.svm_id,
        guests=guest_mix_message(record.guests) if before.guests != after.guests else None,
        host_cpu=host_cpu_message(record.host_cpu, record.host_uuid) if host_changed else None,
    )


def _describe(cluster: str, guests: GuestMix, host: HostCpu) -> str:
    where = f"in cluster {cluster}" if cluster else "in no cluster"
    return (
        f"It is {where} and reports {guests.servers} server, {guests.desktops} desktop and"
        f" {guests.unknown} unknown guests, on a host with {host.processors} processors and"
        f" {host.cores} cores."
    )


def _concerns_keys(report: agent_pb2.Report) -> bool:
    return report.HasField("keyring") or bool(report.results)


def _lists_guests(report: agent_pb2.Report) -> bool:
    return report.HasField("guest_list")


def _serials(reports: Iterable[agent_pb2.Report]) -> set[str]:
    return {
        held.serial
        for report in reports
        if report.HasField("keyring")
        for held in report.keyring.keys
    }


def _unknown(svm_id: str) -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_SVM_NOT_FOUND,
        f"the server has forgotten the SVM {svm_id}; connect again",
        metadata={"svm_id": svm_id},
    )
