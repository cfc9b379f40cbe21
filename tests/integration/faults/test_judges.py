"""The judges of the fault suite see what they are there to see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults.journal import Journal, Noted, read_journals
from faults.replay import rebuild
from faults.watching import WatchedStorage

from sparekey.agent.keyring_document import encode_record
from sparekey.agent.keyring_record import InstructionResult, KeyringRecord, ResultState
from sparekey.licensing.changes import Change, ChangeKind, ChangeReason
from sparekey.licensing.key_files import TrustedSigners
from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.keys import KeyType
from sparekey.v1 import event_pb2
from sparekey.wire.licensing_messages import change_message

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ACTIVE = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE = Slot(KeyType.SERVER, Role.RESERVE)


def told(
    revision: int, kind: ChangeKind, slot: Slot, serial: str, before: str | None = None
) -> event_pb2.Event:
    change = Change(
        kind, slot, serial, NOW + timedelta(days=revision), ChangeReason.REQUESTED, before
    )
    return event_pb2.Event(
        kind=event_pb2.EVENT_KIND_KEYRING_CHANGED, change=change_message(revision, change)
    )


ADDED = [
    told(1, ChangeKind.KEY_ACTIVATED, ACTIVE, "A"),
    told(2, ChangeKind.RESERVE_ADDED, RESERVE, "B"),
    told(3, ChangeKind.RESERVE_PROMOTED, ACTIVE, "B", "A"),
]


def test_a_history_that_holds_is_rebuilt() -> None:
    svm = rebuild(ADDED)
    assert (svm.slots, svm.revision, svm.twice, svm.impossible) == ({ACTIVE: "B"}, 3, [], [])


def test_a_change_that_is_told_twice_is_seen() -> None:
    assert rebuild([*ADDED, ADDED[-1]]).twice


def test_a_second_promotion_of_one_reserve_is_seen() -> None:
    again = told(4, ChangeKind.RESERVE_PROMOTED, ACTIVE, "B", "B")
    assert rebuild([*ADDED, again]).impossible


def test_a_gap_in_the_history_is_seen() -> None:
    assert rebuild([ADDED[0], ADDED[2]]).impossible


@pytest.mark.parametrize(
    ("later", "seen"),
    [
        (InstructionResult(ACTIVE, 2, ResultState.UNCHANGED), "twice"),
        (InstructionResult(ACTIVE, 1, ResultState.APPLIED), "wrong"),
    ],
)
def test_a_disk_sees_a_version_followed_again_and_an_older_one(
    later: InstructionResult, seen: str
) -> None:
    disk = WatchedStorage()
    first = KeyringRecord().with_result(InstructionResult(ACTIVE, 2, ResultState.APPLIED))
    disk.save(first)
    assert (disk.twice, disk.wrong) == ([], [])
    disk.save(first.with_result(later))
    assert getattr(disk, seen)


def test_a_journal_that_ends_in_the_midst_of_an_entry_tells_what_was_before(
    tmp_path: Path,
) -> None:
    first = KeyringRecord().with_result(InstructionResult(ACTIVE, 1, ResultState.APPLIED))
    second = first.with_result(InstructionResult(ACTIVE, 2, ResultState.APPLIED))
    journal = Journal(tmp_path / "host-0001")
    journal.note(Noted.WRITTEN, "svm-1", encode_record(first))
    journal.note(Noted.REFUSED, "svm-1")
    journal.note(Noted.WRITTEN, "svm-1", encode_record(second))
    cut_short = (tmp_path / "host-0001").read_bytes()[:-7]
    (tmp_path / "host-0001").write_bytes(cut_short)
    seen = read_journals(tmp_path, TrustedSigners({}))
    assert seen.disks["svm-1"].applied == {(ACTIVE, 1)}
    assert seen.counts == {Noted.WRITTEN: 1, Noted.REFUSED: 1}
    # The next start finds what the disk had got all the same.
    Journal(tmp_path / "host-0002").note(Noted.FOUND, "svm-1", encode_record(second))
    seen = read_journals(tmp_path, TrustedSigners({}))
    assert seen.disks["svm-1"].applied == {(ACTIVE, 1), (ACTIVE, 2)}
    assert seen.disks["svm-1"].twice == []
