"""Comparing what the agents have, what the server has, and what the history tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from faults.figures import Verdict
from faults.replay import Rebuilt, rebuild
from faults.stored import Stored
from faults.watching import DiskWatch
from sparekey.licensing.keyring import Keyring
from sparekey.server.store.instructions import InstructionState
from sparekey.server.store.svms import SvmRecord
from sparekey.v1 import event_pb2
from sparekey.wire.licensing_messages import change_message

_REST = {InstructionState.DONE, InstructionState.WITHDRAWN}


def judge(
    verdict: Verdict,
    stored: Stored,
    disks: Mapping[str, DiskWatch],
    acknowledged: list[str],
) -> None:
    """Add to the verdict all that is lost, doubled or wrong."""
    records = stored.svms()
    events = stored.events()
    for svm_id, disk in disks.items():
        verdict.applied_twice.extend(f"{svm_id}: {one}" for one in disk.twice)
        verdict.wrong_state.extend(f"{svm_id}: {one}" for one in disk.wrong)
        verdict.figures.applied += len(disk.applied)
        record = records.get(svm_id)
        if record is None:
            verdict.lost.append(f"{svm_id}: the server has no such SVM")
            continue
        verdict.figures.pushes += record.instruction_version
        rebuilt = rebuild(events.get(svm_id, ()))
        verdict.figures.promotions += rebuilt.promotions
        _judge_keyring(verdict, record, disk)
        _judge_history(verdict, record, rebuilt)
        _judge_changes(verdict, svm_id, events.get(svm_id, ()), disk)
    _judge_tasks(verdict, stored, disks, acknowledged)


def _judge_keyring(verdict: Verdict, record: SvmRecord, disk: DiskWatch) -> None:
    if record.keyring_revision != disk.record.revision:
        verdict.wrong_state.append(
            f"{record.svm_id}: revision {disk.record.revision} on the SVM,"
            f" {record.keyring_revision} at the server"
        )
        return
    here, there = _held(disk.record.keyring), _held(record.keyring)
    if here != there:
        verdict.wrong_state.append(f"{record.svm_id}: {here} on the SVM, {there} at the server")


def _judge_history(verdict: Verdict, record: SvmRecord, rebuilt: Rebuilt) -> None:
    svm_id = record.svm_id
    verdict.applied_twice.extend(f"{svm_id}: {one}" for one in rebuilt.twice)
    verdict.wrong_state.extend(f"{svm_id}: {one}" for one in rebuilt.impossible)
    if rebuilt.resyncs:
        # No agent forgets here: only a server that forgot what it had confirmed asks for it.
        verdict.lost.append(f"{svm_id}: {rebuilt.resyncs} times its changes did not join on")
    told = {slot: held.key.serial for slot, held in record.keyring.slots.items()}
    ended = {slot for slot, held in record.keyring.slots.items() if held.ended_at is not None}
    kept = (told, ended, record.keyring_revision, record.guests)
    if kept != (rebuilt.slots, rebuilt.ended, rebuilt.revision, rebuilt.guests):
        verdict.wrong_state.append(f"{svm_id}: the store has {kept}, the history tells {rebuilt}")


def _judge_changes(
    verdict: Verdict, svm_id: str, events: Iterable[event_pb2.Event], disk: DiskWatch
) -> None:
    told = {event.change.revision: event.change for event in events if event.HasField("change")}
    for revision, numbered in disk.changes.items():
        change = told.get(revision)
        if change is None:
            verdict.lost.append(f"{svm_id}: change {revision} is not in the history")
        elif change != change_message(revision, numbered.change):
            verdict.wrong_state.append(f"{svm_id}: change {revision} is told otherwise")


def _judge_tasks(
    verdict: Verdict,
    stored: Stored,
    disks: Mapping[str, DiskWatch],
    acknowledged: list[str],
) -> None:
    known = stored.task_ids()
    verdict.lost.extend(f"{one} was acknowledged" for one in acknowledged if one not in known)
    for instruction in stored.instructions():
        if instruction.state not in _REST:
            verdict.wrong_state.append(f"{instruction} still waits")
    versions = {svm_id: {version for _, version in disk.applied} for svm_id, disk in disks.items()}
    verdict.lost.extend(
        f"{one.svm_id}: {one.task_id} says APPLIED, and version {one.version} is not on its disk"
        for one in stored.applied()
        if one.version not in versions.get(one.svm_id, ())
    )


def _held(keyring: Keyring) -> dict[str, tuple[str, bool, bool]]:
    return {
        f"{slot.type.name} {slot.role.name}": (
            held.key.serial,
            held.ended_at is not None,
            held.blocked_at is not None,
        )
        for slot, held in keyring.slots.items()
    }
