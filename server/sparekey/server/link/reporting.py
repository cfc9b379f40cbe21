"""What agents say, written down in batches: hellos and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
from sparekey.wire.licensing_messages import read_guest_mix, read_host_cpu

_MAX_CLUSTER_LENGTH = 100
_MAX_UUID_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Arrival:
    """One report of one SVM."""

    svm_id: str
    report: agent_pb2.Report


@dataclass(frozen=True, slots=True)
class Taken:
    """What the agent is told about its report or its hello.

    Attributes:
        sequence: The report that is on disk; 0 after a hello.
        keyring_revision: The keyring revision that is on disk.
        full_report_wanted: Whether a full report must come next.
        has_waiting: Whether instructions wait for the SVM.
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
    """Write reports down in order; each is all taken or all refused."""
    connection = transaction.connection
    keys = load_keys(connection, _serials(arrivals))
    records = load_svms(connection, [arrival.svm_id for arrival in arrivals], keys)
    answering = [one.svm_id for one in arrivals if _concerns_keys(one.report)]
    book = InstructionBook.load(transaction, answering)
    book.keys.update(keys)
    answers: list[Taken | CallRefused] = []
    keyrings: dict[str, SvmRecord] = {}
    before = {svm_id: record.keyring for svm_id, record in records.items()}
    lists: dict[str, tuple[Guest, ...]] = {}
    for arrival in arrivals:
        record = records.get(arrival.svm_id)
        if record is None:
            answers.append(_unknown(arrival.svm_id))
            continue
        try:
            listed = read_guest_list(arrival.report.guest_list, transaction.now)
        except CallRefused as refused:
            answers.append(refused)
            continue
        answer = _take(transaction, book, record, arrival.report, keyrings)
        if isinstance(answer, Taken) and arrival.report.HasField("guest_list"):
            lists[record.svm_id] = listed
        answers.append(answer)
    save_svms(connection, list(records.values()))
    book.save(transaction)
    save_keyrings(connection, list(keyrings.values()))
    after = {svm_id: record.keyring for svm_id, record in records.items()}
    follow_guests(transaction, before, after, lists)
    return answers


def _take(
    transaction: Transaction,
    book: InstructionBook,
    record: SvmRecord,
    report: agent_pb2.Report,
    keyrings: dict[str, SvmRecord],
) -> Taken | CallRefused:
    record.last_seen_at = transaction.now
    if not report.full and report.sequence <= record.report_sequence:
        return Taken(report.sequence, record.keyring_revision, full_report_wanted=False)
    joins_on = report.full or report.sequence == record.report_sequence + 1
    try:
        reported = read_keyring(report.keyring, book.keys)
    except CallRefused as refused:
        return refused
    tasks = book.take_results(transaction, record, report.results)
    if report.HasField("keyring"):
        before = record.keyring
        remedy = take_keyring(transaction, record, report.keyring, reported, book.keys, tasks)
        if record.keyring != before:
            keyrings[record.svm_id] = record
            for held in record.keyring.actives():
                if held.key.origin is KeyOrigin.ACTIVATION_CODE and held.key.expires_at:
                    transaction.commit.add_due(held.key.expires_at)
        for instruction in remedy.instructions:
            book.put_in(transaction, record, instruction)
    _take_surroundings(transaction, record, report)
    if joins_on:
        record.report_sequence = report.sequence
        record.report_digest = report.digest
    return Taken(report.sequence, record.keyring_revision, full_report_wanted=not joins_on)


def _take_surroundings(
    transaction: Transaction, record: SvmRecord, report: agent_pb2.Report
) -> None:
    """Placement, guests and host; one event where any of them changed."""
    before = (record.cluster, record.guests, record.host_uuid, record.host_cpu)
    if report.HasField("placement"):
        record.cluster = report.placement.cluster[:_MAX_CLUSTER_LENGTH]
    if report.HasField("guests"):
        record.guests = read_guest_mix(report.guests)
    if report.HasField("host_cpu"):
        record.host_cpu = read_host_cpu(report.host_cpu)
        record.host_uuid = report.host_cpu.host_uuid[:_MAX_UUID_LENGTH]
    after = (record.cluster, record.guests, record.host_uuid, record.host_cpu)
    if before != after:
        transaction.commit.svms.add(record.svm_id)
        transaction.add_event(
            event_pb2.EVENT_KIND_SVM_CHANGED,
            _describe(record.cluster, record.guests, record.host_cpu),
            actor=ACTOR,
            svm_id=record.svm_id,
            guests=report.guests if report.HasField("guests") else None,
            host_cpu=report.host_cpu if report.HasField("host_cpu") else None,
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


def _serials(arrivals: Iterable[Arrival]) -> set[str]:
    return {
        held.serial
        for arrival in arrivals
        if arrival.report.HasField("keyring")
        for held in arrival.report.keyring.keys
    }


def _unknown(svm_id: str) -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_SVM_NOT_FOUND,
        f"the server has forgotten the SVM {svm_id}; connect again",
        metadata={"svm_id": svm_id},
    )
