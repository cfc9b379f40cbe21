"""Sentences about an SVM's life: what happened, how it stands, what comes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason
from sparekey.licensing.forecast import SvmSituation
from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyKind, KeyType, LicenseKey
from sparekey.licensing.outlook import tell_outlook, tell_present
from sparekey.licensing.story import ToldChange, tell_change
from sparekey.licensing.transitions import block

from .random_fleets import NOW, UNTIL, day, key

ACTIVE = Slot(KeyType.SERVER, Role.ACTIVE)


def svm(
    *actives: LicenseKey, reserve: LicenseKey | None = None, servers: int = 3, desktops: int = 0
) -> SvmSituation:
    held = {Slot(one.type, Role.ACTIVE): HeldKey(one, NOW) for one in actives}
    if reserve:
        held[Slot(reserve.type, Role.RESERVE)] = HeldKey(reserve, NOW)
    return SvmSituation("svm-1", Keyring(held) if held else EMPTY, GuestMix(servers, desktops))


@pytest.mark.parametrize("kind", ChangeKind)
@pytest.mark.parametrize("reason", ChangeReason)
def test_every_change_is_told_in_one_sentence(kind: ChangeKind, reason: ChangeReason) -> None:
    change = Change(kind, ACTIVE, "B", NOW, reason, previous_serial="A")
    told = tell_change(ToldChange(change, NOW, cursor=7))
    assert told.text.startswith("The server key B")
    assert told.text.endswith(".")
    assert "  " not in told.text
    assert (told.at, told.cursor) == (NOW, 7)


def test_R11_R87_a_promotion_is_told_with_how_late_the_server_heard_of_it() -> None:
    change = Change(ChangeKind.RESERVE_PROMOTED, ACTIVE, "B", NOW, ChangeReason.ACTIVE_EXPIRED, "A")
    told = tell_change(ToldChange(change, NOW + timedelta(days=2, hours=3)))
    assert told.text == (
        "The server key B, which had waited as the reserve, took over by itself, since A had"
        " ended; the server heard of it 2 days later."
    )
    assert told.rules == ("R11", "R87")


def test_R18_R83_a_dropped_reserve_is_told_with_its_reason_and_who_asked() -> None:
    slot = Slot(KeyType.DESKTOP, Role.RESERVE)
    reason = ChangeReason.RESERVE_ENDS_TOO_EARLY
    change = Change(ChangeKind.RESERVE_REMOVED, slot, "B", NOW, reason)
    told = tell_change(ToldChange(change, NOW, asked_by="ann", task_id="task-1"))
    assert told.text == (
        "The desktop reserve key B was removed since it would not have lasted longer than the new"
        " active key (task-1 by ann)."
    )
    assert told.rules == ("R18", "R83")


def test_an_svm_without_a_key_is_told_so() -> None:
    mode, guests = tell_present(svm(servers=1), NOW)
    assert mode.text == "svm-1 is in OFF mode: nothing is protected."
    assert guests.text == "Its one server guest is unprotected, since the SVM has no key."


def test_R71_an_ended_key_is_told_with_what_is_left() -> None:
    mode, of_key, guests = tell_present(svm(key(1, ends=-1)), NOW)
    assert "without updates" in mode.text
    assert of_key.text.endswith(
        "ended on 31 December 2029, 00:00 UTC, and nothing has taken its place."
    )
    assert guests.text.startswith("Its 3 server guests go on with the last databases")


def test_R72_R95_a_blocked_key_is_told_in_its_grace_and_after() -> None:
    blocked = block(svm(key(1, ends=90)).keyring, key(1).serial, NOW).keyring
    one = SvmSituation("svm-1", blocked, GuestMix(3))
    mode, of_key, guests = tell_present(one, NOW)
    assert mode.text == "svm-1 is in FULL mode: everything works."
    assert "is blocked" in of_key.text
    assert guests.text.startswith("Its 3 server guests keep everything for the time being")
    (ahead,) = tell_outlook(one, NOW, UNTIL)
    assert ahead.at == day(8)
    assert "will go on with the last databases" in ahead.text


def test_R54_R82_void_keys_are_told_with_what_gives_them_their_effect_back() -> None:
    one = replace(svm(key(1, ends=90)), void=True)
    mode, void, of_key, guests = tell_present(one, NOW)
    assert mode.text.startswith("svm-1 is in LIMITED mode")
    assert void.text == (
        "Its keys are void, since its clock was changed by more than a day: set the clock right,"
        " forget the SVM, let it connect again, and activate it."
    )
    assert of_key.text.startswith(f"It holds the server key {key(1).serial}")
    assert guests.text.endswith("without updates, since its keys are void.")


def test_the_outlook_tells_what_takes_over_and_what_then_ends() -> None:
    first, then = tell_outlook(svm(key(1, ends=10), reserve=key(2, ends=40)), NOW, UNTIL)
    assert first.text == (
        f"The server key {key(2).serial} will take over from {key(1).serial} by itself."
    )
    assert (first.at, then.at) == (day(10), day(40))
    assert then.text.endswith(
        f"since the server key {key(2).serial} ends then and no reserve waits behind it."
    )


def test_a_gap_before_a_late_reserve_ends_when_that_starts() -> None:
    late = svm(key(1, ends=-1), reserve=key(2, starts=5, ends=90))
    promoted, protected = tell_outlook(late, NOW, UNTIL)
    assert promoted.at == protected.at == day(5)
    assert protected.text == "Its 3 server guests will be protected again."


def test_a_quiet_time_ahead_is_told_too() -> None:
    endless = svm(key(1, kind=KeyKind.SUBSCRIPTION, ends=None))
    (only,) = tell_outlook(endless, NOW, UNTIL)
    assert only.text == "Nothing changes until 2 March 2030, if nobody does anything."
