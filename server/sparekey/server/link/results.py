"""Taking in how SVMs followed their instructions, and putting in what no task gave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.refusals import explain
from sparekey.licensing.tasks import OutcomeState
from sparekey.server.life.voiding import reinstate_keys
from sparekey.server.link.keyrings import ACTOR
from sparekey.server.store.instructions import (
    InstructionState,
    StoredInstruction,
    load_instructions,
    save_instructions,
)
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.svms import SvmRecord
from sparekey.server.store.tasks import OutcomeChanges, OutcomeRecord, load_outcomes
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.ending import apply_outcome_changes
from sparekey.server.tasks.waiting import queue_instruction
from sparekey.v1 import agent_pb2, event_pb2
from sparekey.wire.licensing_messages import REFUSALS_READ, read_slot

_FINAL = {
    agent_pb2.SLOT_RESULT_STATE_APPLIED: OutcomeState.APPLIED,
    agent_pb2.SLOT_RESULT_STATE_UNCHANGED: OutcomeState.UNCHANGED,
    agent_pb2.SLOT_RESULT_STATE_REFUSED: OutcomeState.REFUSED,
}


@dataclass(slots=True)
class InstructionBook:
    """The instructions of a transaction's SVMs: what was, what changes, what is written."""

    by_svm: dict[str, dict[Slot, StoredInstruction]]
    keys: dict[str, StoredKey]
    _changed: dict[tuple[str, Slot], StoredInstruction] = field(default_factory=dict)
    _outcomes: OutcomeChanges = field(default_factory=OutcomeChanges)
    _activated: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, transaction: Transaction, svm_ids: Iterable[str]) -> InstructionBook:
        """The instructions of these SVMs and the keys that those name."""
        by_svm = load_instructions(transaction.connection, svm_ids)
        serials = {one.serial for slots in by_svm.values() for one in slots.values() if one.serial}
        return cls(by_svm, load_keys(transaction.connection, serials))

    def waiting(self, svm_id: str) -> list[StoredInstruction]:
        """What waits for an SVM, by version."""
        pending = [
            one
            for one in self.by_svm.get(svm_id, {}).values()
            if one.state is InstructionState.PENDING
        ]
        return sorted(pending, key=lambda one: one.version)

    def take_results(
        self,
        transaction: Transaction,
        record: SvmRecord,
        results: Sequence[agent_pb2.SlotResult],
    ) -> dict[tuple[Slot, str], str]:
        """Close instructions that the SVM has answered.

        Results of older versions and results that were taken before change
        nothing. Returns the tasks behind what was answered, by slot and serial.
        """
        tasks: dict[tuple[Slot, str], str] = {}
        for result in results:
            # A server that was set back to an old backup must not give a version again.
            record.instruction_version = max(record.instruction_version, result.version)
            slot = read_slot(result.slot)
            state = _FINAL.get(result.state)
            stored = self.by_svm.get(record.svm_id, {}).get(slot) if slot is not None else None
            if stored is None or state is None or stored.version != result.version:
                continue
            if stored.task_id and stored.serial:
                tasks[stored.slot, stored.serial] = stored.task_id
            if stored.state is InstructionState.DONE:
                continue
            self._close(transaction, stored, state, result)
            record.push_stalled = False
            transaction.commit.svms.add(record.svm_id)
        return tasks

    def _close(
        self,
        transaction: Transaction,
        stored: StoredInstruction,
        state: OutcomeState,
        result: agent_pb2.SlotResult,
    ) -> None:
        self._set(stored._replace(state=InstructionState.DONE))
        reason = REFUSALS_READ.get(result.reason) if state is OutcomeState.REFUSED else None
        if state is OutcomeState.REFUSED:
            transaction.add_event(
                event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
                explain(reason) if reason else "The SVM refused the instruction.",
                actor=ACTOR,
                svm_id=stored.svm_id,
                serial=stored.serial or "",
                task_id=stored.task_id or "",
                refusal=result.reason,
            )
        if stored.task_id is None:
            return
        if stored.slot.role is Role.ACTIVE and state is not OutcomeState.REFUSED:
            self._activated.add(stored.svm_id)
        old = OutcomeState.PENDING
        if stored.state is InstructionState.WITHDRAWN:
            # It was on its way when its task gave up; what the SVM says is the truth.
            found = load_outcomes(transaction.connection, {stored.task_id: [stored.svm_id]})
            old = found[stored.task_id, stored.svm_id].state
        self._outcomes.move(
            old,
            OutcomeRecord(
                stored.task_id,
                stored.svm_id,
                state,
                reason,
                finished_at=transaction.now,
                instruction_version=stored.version,
            ),
        )

    def put_in(self, transaction: Transaction, record: SvmRecord, new: StoredInstruction) -> None:
        """Put in an instruction that no task gave, unless one waits for its slot already."""
        waiting = self.waiting(record.svm_id)
        if any(one.slot == new.slot for one in waiting):
            return
        queued = queue_instruction(
            record.keyring, waiting, new, record.instruction_version, self.keys, transaction.now
        )
        record.instruction_version = queued.version
        for stored in queued.changed:
            self._set(stored)
        transaction.commit.instructed.add(record.svm_id)

    def save(self, transaction: Transaction) -> None:
        """Write what changed; the SVMs' records are the caller's to save."""
        save_instructions(transaction.connection, list(self._changed.values()))
        apply_outcome_changes(transaction, self._outcomes)
        reinstate_keys(transaction, self._activated)

    def _set(self, stored: StoredInstruction) -> None:
        self.by_svm.setdefault(stored.svm_id, {})[stored.slot] = stored
        self._changed[stored.svm_id, stored.slot] = stored
