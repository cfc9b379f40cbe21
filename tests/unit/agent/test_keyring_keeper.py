"""The keeper: instructions and time, by the rules, once each, on disk before they are told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from sparekey.agent.instructions_received import HoldKey, SlotInstruction
from sparekey.agent.keyring_record import MAX_CHANGES, ResultState
from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal

if TYPE_CHECKING:
    from unit.agent.conftest import Svm

MakeKey = Callable[..., LicenseKey]
Hold = Callable[[LicenseKey, int], SlotInstruction]
Other = Callable[..., SlotInstruction]
NOW = datetime(2030, 1, 1, tzinfo=UTC)
APPLIED, UNCHANGED, REFUSED = ResultState.APPLIED, ResultState.UNCHANGED, ResultState.REFUSED


def days(number: float) -> datetime:
    return NOW + timedelta(days=number)


def follow(svm: Svm, *instructions: SlotInstruction) -> list[tuple[ResultState, Refusal | None]]:
    return [(result.state, result.refusal) for result in svm.keeper.follow_push(instructions)]


def test_R38_a_key_is_activated_and_on_disk_before_its_result(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    key = make_key()
    (result,) = svm.keeper.follow_push([active(key, 5)])
    assert (result.slot, result.version) == (Slot(KeyType.SERVER, Role.ACTIVE), 5)
    assert (result.state, result.refusal) == (APPLIED, None)
    assert svm.told() == [(1, "KEY_ACTIVATED", key.serial, NOW)]
    assert svm.disk.record.keyring.serials() == svm.keeper.keyring.serials()
    assert svm.disk.record.results[result.slot] == result


def test_R12_R77_a_reserve_without_an_active_key_is_refused(
    svm: Svm, make_key: MakeKey, reserve: Hold
) -> None:
    assert follow(svm, reserve(make_key(), 1)) == [(REFUSED, Refusal.NO_ACTIVE_KEY)]
    assert svm.keeper.revision == 0


def test_R13_a_reserve_under_a_subscription_is_refused(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    follow(svm, active(make_key(kind=KeyKind.SUBSCRIPTION), 1))
    refused = follow(svm, reserve(make_key(ends=90), 2))
    assert refused == [(REFUSED, Refusal.ACTIVE_IS_SUBSCRIPTION)]


def test_R14_a_reserve_of_another_type_is_refused(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    follow(svm, active(make_key(), 1))
    refused = follow(svm, reserve(make_key(KeyType.DESKTOP, ends=90), 2))
    assert refused == [(REFUSED, Refusal.TYPE_MISMATCH)]


def test_R75_a_reserve_of_another_edition_is_refused(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    follow(svm, active(make_key(), 1))
    refused = follow(svm, reserve(make_key(edition=Edition.ENTERPRISE, ends=90), 2))
    assert refused == [(REFUSED, Refusal.EDITION_MISMATCH)]


def test_R83_R18_a_reserve_that_ends_no_later_than_the_new_key_goes(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    old, waiting, new = make_key(), make_key(ends=90), make_key(ends=90)
    follow(svm, active(old, 1), reserve(waiting, 2))
    assert follow(svm, active(new, 3)) == [(APPLIED, None)]
    assert svm.held() == {"SERVER/ACTIVE": new.serial}
    assert [kind for _, kind, _, _ in svm.told()[2:]] == ["KEY_REPLACED", "RESERVE_REMOVED"]


def test_R84_a_reserve_must_end_later(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    follow(svm, active(make_key(), 1))
    assert follow(svm, reserve(make_key(ends=30), 2)) == [(REFUSED, Refusal.RESERVE_NOT_LATER)]


def test_R85_a_blocked_key_gives_way_to_its_reserve(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold, other: Other
) -> None:
    key, waiting = make_key(), make_key(ends=90)
    follow(svm, active(key, 1), reserve(waiting, 2))
    assert follow(svm, other(3, blocked=key.serial)) == [(APPLIED, None)]
    assert svm.held() == {"SERVER/ACTIVE": waiting.serial}
    assert [kind for _, kind, _, _ in svm.told()[2:]] == ["KEY_BLOCKED", "RESERVE_PROMOTED"]


def test_R72_a_blocked_serial_that_is_not_held_changes_nothing(svm: Svm, other: Other) -> None:
    assert follow(svm, other(3, blocked="0001-000001-00000001")) == [(UNCHANGED, None)]


def test_R85_a_removed_key_gives_way_to_its_reserve(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold, other: Other
) -> None:
    waiting = make_key(ends=90)
    follow(svm, active(make_key(), 1), reserve(waiting, 2))
    assert follow(svm, other(3)) == [(APPLIED, None)]
    assert svm.held() == {"SERVER/ACTIVE": waiting.serial}
    assert follow(svm, other(4, role=Role.RESERVE)) == [(REFUSED, Refusal.SLOT_EMPTY)]


def test_R86_a_subscription_drops_the_reserve(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    follow(svm, active(make_key(), 1), reserve(make_key(ends=90), 2))
    new = make_key(kind=KeyKind.SUBSCRIPTION)
    follow(svm, active(new, 3))
    assert svm.held() == {"SERVER/ACTIVE": new.serial}


def test_R11_R87_the_reserve_takes_over_at_the_exact_instant_offline(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    key, waiting = make_key(), make_key(ends=90)
    follow(svm, active(key, 1), reserve(waiting, 2))
    assert svm.keeper.next_due() == days(30)
    svm.clock.set(days(30) - timedelta(microseconds=1))
    svm.keeper.settle_now()
    assert svm.keeper.revision == 2
    svm.clock.set(days(30))
    svm.keeper.settle_now()
    assert svm.held() == {"SERVER/ACTIVE": waiting.serial}
    assert svm.told()[2:] == [(3, "RESERVE_PROMOTED", waiting.serial, days(30))]
    assert svm.disk.record.revision == 3
    svm.keeper.settle_now()
    assert svm.keeper.revision == 3


def test_R87_an_svm_that_was_off_catches_up_with_the_true_instants(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    waiting = make_key(ends=90)
    follow(svm, active(make_key(), 1), reserve(waiting, 2))
    svm.clock.set(days(200))
    svm.restart()
    svm.keeper.settle_now()
    assert svm.told()[2:] == [
        (3, "RESERVE_PROMOTED", waiting.serial, days(30)),
        (4, "KEY_EXPIRED", waiting.serial, days(90)),
    ]
    assert svm.keeper.next_due() is None


def test_R87_a_push_finds_what_time_did_before_it(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    waiting, next_one = make_key(ends=90), make_key(ends=180)
    follow(svm, active(make_key(), 1), reserve(waiting, 2))
    svm.clock.set(days(40))
    assert follow(svm, reserve(next_one, 3)) == [(APPLIED, None)]
    assert [change[1:] for change in svm.told()[2:]] == [
        ("RESERVE_PROMOTED", waiting.serial, days(30)),
        ("RESERVE_ADDED", next_one.serial, days(40)),
    ]


def test_R97_a_key_that_is_held_already_is_unchanged(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    key = make_key()
    follow(svm, active(key, 1))
    assert follow(svm, active(key, 2)) == [(UNCHANGED, None)]
    assert svm.keeper.revision == 1


def test_R89_a_version_that_was_followed_is_answered_again_and_not_followed(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    first, second = make_key(), make_key()
    (applied,) = svm.keeper.follow_push([active(first, 5)])
    (latest,) = svm.keeper.follow_push([active(second, 7)])
    writes = svm.disk.writes
    assert svm.keeper.follow_push([active(second, 7)]) == [latest]
    assert svm.keeper.follow_push([active(first, 5)]) == [latest]
    assert svm.keeper.follow_push([active(make_key(), 6), active(first, 5)]) == [latest]
    assert svm.held() == {"SERVER/ACTIVE": second.serial}
    assert svm.disk.writes == writes
    assert applied != latest


def test_R89_a_refusal_stays_the_answer_though_it_would_be_followed_now(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    instruction = reserve(make_key(ends=90), 1)
    refused = svm.keeper.follow_push([instruction])
    follow(svm, active(make_key(), 2))
    assert svm.keeper.follow_push([instruction]) == refused
    assert svm.keeper.keyring.reserves() == ()


def test_R89_results_outlast_a_restart(svm: Svm, make_key: MakeKey, active: Hold) -> None:
    instruction = active(make_key(), 5)
    results = svm.keeper.follow_push([instruction])
    svm.restart()
    assert svm.keeper.follow_push([instruction]) == results
    assert svm.keeper.revision == 1


def test_a_push_is_followed_in_the_order_of_its_versions(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    results = svm.keeper.follow_push([reserve(make_key(ends=90), 2), active(make_key(), 1)])
    assert [(result.version, result.state) for result in results] == [(1, APPLIED), (2, APPLIED)]


def test_one_write_for_a_whole_push(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    follow(svm, active(make_key(), 1), reserve(make_key(ends=90), 2), reserve(make_key(ends=99), 3))
    assert svm.disk.writes == 1


def test_a_full_disk_changes_nothing_and_gives_no_result(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    heard: list[int] = []
    svm.keeper.listen(lambda: heard.append(1))
    svm.disk.full = True
    with structlog.testing.capture_logs() as logs:
        assert svm.keeper.follow_push([active(make_key(), 1)]) == []
    assert [entry["log_level"] for entry in logs][-1] == "error"
    assert svm.held() == {}
    assert svm.keeper.revision == 0
    assert not svm.keeper.results
    assert heard == []
    svm.disk.full = False
    assert follow(svm, active(make_key(), 1)) == [(APPLIED, None)]
    assert heard == [1]


def test_R87_a_full_disk_does_not_hold_up_the_reserve(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    waiting = make_key(ends=90)
    follow(svm, active(make_key(), 1), reserve(waiting, 2))
    svm.disk.full = True
    svm.clock.set(days(40))
    svm.keeper.settle_now()
    assert svm.held() == {"SERVER/ACTIVE": waiting.serial}
    told = svm.told()
    # A restart comes to the same by itself: instant and revision are the same.
    svm.restart()
    svm.keeper.settle_now()
    assert svm.told() == told
    # A push that cannot be written leaves what time did.
    assert svm.keeper.follow_push([active(make_key(ends=99), 3)]) == []
    assert svm.held() == {"SERVER/ACTIVE": waiting.serial}
    svm.disk.full = False
    follow(svm, active(make_key(ends=99), 3))
    assert svm.disk.record.revision == svm.keeper.revision == 4


def test_R80_a_key_file_of_no_trusted_signer_is_refused(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    instruction = active(make_key(), 1)
    assert isinstance(instruction.action, HoldKey)
    forged = instruction.action.key_file.replace(b'"unit_limit":100', b'"unit_limit":101')
    for version, content in enumerate((forged, b"", b"{}", b"\xff"), start=1):
        refused = follow(svm, SlotInstruction(instruction.slot, version, HoldKey(content)))
        assert refused == [(REFUSED, Refusal.INVALID_KEY_FILE)]


def test_a_key_of_another_type_than_its_slot_is_refused(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    desktop = active(make_key(KeyType.DESKTOP), 1)
    misplaced = SlotInstruction(Slot(KeyType.SERVER, Role.ACTIVE), 1, desktop.action)
    assert follow(svm, misplaced) == [(REFUSED, Refusal.TYPE_MISMATCH)]


def test_an_action_of_a_newer_server_is_refused_without_a_reason_and_remembered(
    svm: Svm, other: Other
) -> None:
    assert follow(svm, other(4, unknown=True)) == [(REFUSED, None)]
    svm.restart()
    assert follow(svm, other(4)) == [(REFUSED, None)]


def test_accepted_changes_are_forgotten_and_the_others_kept(
    svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    follow(svm, active(make_key(), 1), reserve(make_key(ends=90), 2))
    svm.keeper.accept(1, sequence=7)
    assert [revision for revision, *_ in svm.told()] == [2]
    svm.restart()
    assert [revision for revision, *_ in svm.told()] == [2]
    assert svm.keeper.accepted_sequence == 7
    writes = svm.disk.writes
    svm.keeper.accept(1, sequence=7)
    svm.keeper.accept(0)
    assert svm.disk.writes == writes
    svm.keeper.accept(2)
    assert svm.told() == []
    assert svm.keeper.accepted_sequence == 7


def test_a_revision_beyond_our_own_accepts_nothing_of_ours(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    follow(svm, active(make_key(), 1))
    svm.keeper.accept(17)
    assert svm.keeper.revision == 1
    assert [revision for revision, *_ in svm.told()] == [1]


def test_changes_that_no_server_fetches_are_bounded_and_the_oldest_go(
    svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    two = make_key(), make_key()
    for version in range(1, MAX_CHANGES + 11):
        follow(svm, active(two[version % 2], version))
    revisions = [revision for revision, *_ in svm.told()]
    assert len(revisions) == MAX_CHANGES
    assert revisions[-1] == svm.keeper.revision == MAX_CHANGES + 10


def test_listeners_hear_of_changes_only(
    svm: Svm, make_key: MakeKey, active: Hold, other: Other
) -> None:
    heard: list[int] = []
    svm.keeper.listen(lambda: heard.append(svm.keeper.revision))
    follow(svm, other(1))
    assert heard == []
    follow(svm, active(make_key(), 2))
    svm.keeper.accept(1, sequence=1)
    svm.clock.set(days(31))
    svm.keeper.settle_now()
    assert heard == [1, 2]
