"""The one owner of an SVM's keyring: follows instructions and time by the licensing rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from sparekey.agent.instructions_received import BlockKey, HoldKey, RemoveKey, SlotInstruction
from sparekey.agent.keyring_record import (
    InstructionResult,
    KeyringRecord,
    KeyringStorage,
    NumberedChange,
    ResultState,
)
from sparekey.agent.verified_keys import read_verified
from sparekey.licensing.changes import Transition
from sparekey.licensing.instructions import Instruction, follow
from sparekey.licensing.key_files import InvalidKeyFile, TrustedSigners
from sparekey.licensing.keyring import Keyring, Slot
from sparekey.licensing.keys import LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import next_due, settle
from sparekey.licensing.transitions import block
from sparekey.runtime.clock import Clock

_Arrived = Mapping[LicenseKey, bytes]
_log = structlog.get_logger()


class KeyringKeeper:
    """Owns the keyring of one SVM; synchronous, and knows nothing of the link.

    What an instruction does is on disk before its result is given away. What time does (R11, R87)
    needs no disk to be true: it follows from the stored keyring again after any restart, with
    the same instants and revisions. So an expiry is acted upon even where the disk is full.

    Args:
        storage: Where the record is kept.
        trusted: The pinned signers.
        clock: The SVM's time.
        svm_id: For the log only.

    Raises:
        StartupRefused: the storage holds what this release must not touch.
    """

    def __init__(
        self, storage: KeyringStorage, trusted: TrustedSigners, clock: Clock, svm_id: str = ""
    ) -> None:
        self._storage = storage
        self._trusted = trusted
        self._clock = clock
        self._record = storage.load(trusted)
        self._svm_id = svm_id
        self._listeners: list[Callable[[], None]] = []

    @property
    def keyring(self) -> Keyring:
        """The keys by slot, as of the last settling."""
        return self._record.keyring

    @property
    def revision(self) -> int:
        """Raised by one with each change."""
        return self._record.revision

    @property
    def results(self) -> Mapping[Slot, InstructionResult]:
        """Of each slot that got instructions, the result of the newest."""
        return self._record.results

    @property
    def accepted_sequence(self) -> int:
        """The last report that the server accepted; 0 for none."""
        return self._record.accepted_sequence

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after each change of the keyring."""
        self._listeners.append(listener)

    def changes_since(self, revision: int) -> tuple[NumberedChange, ...]:
        """The changes after a revision, in order, as far as they are still known."""
        return tuple(numbered for numbered in self._record.changes if numbered.revision > revision)

    def next_due(self) -> datetime | None:
        """When time alone will next change the keyring, if ever."""
        return next_due(self._record.keyring, self._clock.now())

    def settle_now(self) -> None:
        """Do all that is due (R11, R87); each change bears the instant that it belongs to."""
        settled = _settled(self._record, self._clock.now())
        if settled is not self._record:
            self._save(settled)
            self._take(settled)

    def follow_push(self, instructions: Sequence[SlotInstruction]) -> list[InstructionResult]:
        """Follow instructions in the order of their versions; a result for each, once it is safe.

        A version not above its slot's last is not followed: it is answered with the slot's stored
        result (R89). All of it is written at once. Where that fails nothing is followed and there
        are no results: the server will send the push again.
        """
        now = self._clock.now()
        settled = _settled(self._record, now)
        record = settled
        results: list[InstructionResult] = []
        for instruction in sorted(instructions, key=lambda instruction: instruction.version):
            result = record.results.get(instruction.slot)
            if result is None or instruction.version > result.version:
                record, result = self._follow(record, instruction, now)
            if result not in results:
                results.append(result)
        if record is not self._record and not self._save(record):
            self._take(settled)
            return []
        self._take(record)
        return results

    def accept(self, revision: int, sequence: int | None = None) -> None:
        """Note what the server has on disk.

        A revision beyond our own tells that this SVM's keyring was lost since. It accepts nothing
        of ours, and our own goes on from where it is: by the step back the server sees the loss
        and restores the keys.

        Args:
            revision: Changes up to it are forgotten.
            sequence: The report that was accepted, where one was.
        """
        record = self._record
        accepted = replace(
            record,
            changes=(
                self.changes_since(revision) if revision <= record.revision else record.changes
            ),
            accepted_sequence=record.accepted_sequence if sequence is None else sequence,
        )
        if accepted != record:
            # Without the write the server would only be told again what it has.
            self._save(accepted)
            self._record = accepted

    def _follow(
        self, record: KeyringRecord, instruction: SlotInstruction, now: datetime
    ) -> tuple[KeyringRecord, InstructionResult]:
        outcome, arrived = self._outcome(record.keyring, instruction, now)
        slot, version = instruction.slot, instruction.version
        if isinstance(outcome, Transition):
            changed = bool(outcome.own_changes)
            state = ResultState.APPLIED if changed else ResultState.UNCHANGED
            result = InstructionResult(slot, version, state)
            if outcome.changes:
                record = record.with_changes(outcome.keyring, outcome.changes, arrived)
        else:
            result = InstructionResult(slot, version, ResultState.REFUSED, outcome)
        _log.info(
            "followed an instruction",
            svm_id=self._svm_id,
            slot=f"{slot.type.value}/{slot.role.value}",
            version=version,
            result=result.state.value,
            reason=result.refusal.value if result.refusal else None,
        )
        return record.with_result(result), result

    def _outcome(
        self, keyring: Keyring, instruction: SlotInstruction, now: datetime
    ) -> tuple[Transition | Refusal | None, _Arrived]:
        slot = instruction.slot
        match instruction.action:
            case HoldKey(key_file):
                try:
                    key = read_verified(self._trusted, key_file)
                except InvalidKeyFile as invalid:
                    _log.error(
                        "a key file was refused",
                        svm_id=self._svm_id,
                        problem=invalid.problem.value,
                    )
                    return Refusal.INVALID_KEY_FILE, {}
                if key.type is not slot.type:
                    return Refusal.TYPE_MISMATCH, {}
                return follow(keyring, Instruction(slot, key), now), {key: key_file}
            case RemoveKey():
                return follow(keyring, Instruction(slot, None), now), {}
            case BlockKey(serial):
                return block(keyring, serial, now), {}
            case None:
                return None, {}

    def _save(self, record: KeyringRecord) -> bool:
        try:
            self._storage.save(record)
        except OSError as error:
            _log.error(
                "the keyring could not be written; free some room on the disk of the state folder"
                " or mend its rights",
                svm_id=self._svm_id,
                error=str(error),
            )
            return False
        return True

    def _take(self, record: KeyringRecord) -> None:
        changed = record.revision != self._record.revision
        self._record = record
        if changed:
            for listener in self._listeners:
                listener()


def _settled(record: KeyringRecord, now: datetime) -> KeyringRecord:
    transition = settle(record.keyring, now)
    if not transition.changes:
        return record
    return record.with_changes(transition.keyring, transition.changes)
