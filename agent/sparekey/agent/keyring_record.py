"""What an SVM knows of its licensing, as one value that is stored whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from sparekey.licensing.changes import Change
from sparekey.licensing.key_files import TrustedSigners
from sparekey.licensing.keyring import EMPTY, Keyring, Slot
from sparekey.licensing.keys import LicenseKey
from sparekey.licensing.refusals import Refusal

MAX_CHANGES = 512
"""Changes kept for the server. Beyond that the oldest go, and the server resynchronises."""


class ResultState(Enum):
    """How the SVM followed an instruction."""

    APPLIED = "APPLIED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class InstructionResult:
    """How one version of a slot's instruction was followed; the same for ever (R89).

    `refusal` is None unless the state is REFUSED, and even then for an instruction of a kind that
    this release does not know.
    """

    slot: Slot
    version: int
    state: ResultState
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class NumberedChange:
    """A change with the keyring's revision after it."""

    revision: int
    change: Change


@dataclass(frozen=True, slots=True)
class KeyringRecord:
    """An SVM's keyring with all that must outlast a restart.

    Attributes:
        keyring: The keys by slot.
        key_files: The signed form of each key in the keyring, exactly as it came.
        revision: Raised by one with each change.
        changes: What the server has not accepted yet, in order, at most `MAX_CHANGES`.
        results: Of each slot that got instructions, the result of the newest.
        accepted_sequence: The last report that the server accepted; 0 for none.
    """

    keyring: Keyring = EMPTY
    key_files: Mapping[LicenseKey, bytes] = field(default_factory=dict)
    revision: int = 0
    changes: tuple[NumberedChange, ...] = ()
    results: Mapping[Slot, InstructionResult] = field(default_factory=dict)
    accepted_sequence: int = 0

    def with_changes(
        self,
        keyring: Keyring,
        changes: Sequence[Change],
        arrived: Mapping[LicenseKey, bytes] | None = None,
    ) -> KeyringRecord:
        """The record after changes that led to `keyring`; `arrived` are key files new to it."""
        numbered = (
            NumberedChange(self.revision + count, change)
            for count, change in enumerate(changes, start=1)
        )
        files = {**self.key_files, **(arrived or {})}
        return replace(
            self,
            keyring=keyring,
            key_files={held.key: files[held.key] for held in keyring.slots.values()},
            revision=self.revision + len(changes),
            changes=(*self.changes, *numbered)[-MAX_CHANGES:],
        )

    def with_result(self, result: InstructionResult) -> KeyringRecord:
        """The record after an instruction was answered."""
        return replace(self, results={**self.results, result.slot: result})


class KeyringStorage(Protocol):
    """Where an agent keeps its record."""

    def load(self, trusted: TrustedSigners) -> KeyringRecord:
        """The record as it was saved last, or an empty one.

        Raises:
            StartupRefused: what is stored must not be touched by this release.
        """
        ...

    def save(self, record: KeyringRecord) -> None:
        """Store the record; it outlasts a crash as soon as this returns.

        Raises:
            OSError: it was not stored, and what was stored before still is.
        """
        ...


class MemoryKeyringStorage:
    """Keeps the record in this object: for many simulated SVMs in one process.

    An agent that is made anew with the same object is one that restarted with its disk intact.
    """

    def __init__(self) -> None:
        self.record = KeyringRecord()

    def load(self, trusted: TrustedSigners) -> KeyringRecord:  # noqa: ARG002 - never left memory
        """The record as it was saved last."""
        return self.record

    def save(self, record: KeyringRecord) -> None:
        """Keep the record."""
        self.record = record
