"""Instructions: what the server tells an SVM, evaluated by both."""

from collections.abc import Callable
from datetime import datetime

import pytest

from sparekey.licensing.instructions import Instruction, follow
from sparekey.licensing.keyring import EMPTY, Keyring, Role, Slot
from sparekey.licensing.keys import KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.transitions import add_active, add_reserve, remove

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
ACTIVE = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE = Slot(KeyType.SERVER, Role.RESERVE)


def test_R32_the_slot_says_whether_the_key_is_active_or_reserve(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before, key = keyring_of([make_key()]), make_key(ends=60)
    active, reserve = (
        follow(before, Instruction(ACTIVE, key), at(0)),
        add_active(before, key, at(0)),
    )
    assert active == reserve
    assert follow(before, Instruction(RESERVE, key), at(0)) == add_reserve(before, key, at(0))


def test_an_instruction_without_a_key_empties_the_slot(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key()], [make_key(ends=60)])
    for slot in (ACTIVE, RESERVE):
        assert follow(before, Instruction(slot, None), at(0)) == remove(before, slot, at(0))
    assert follow(EMPTY, Instruction(ACTIVE, None), at(0)) is Refusal.SLOT_EMPTY


@pytest.mark.parametrize("slot", [ACTIVE, RESERVE])
def test_R98_a_key_known_to_be_blocked_is_refused(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, slot: Slot
) -> None:
    instruction = Instruction(slot, make_key(ends=60), blocked=True)
    assert follow(keyring_of([make_key()]), instruction, at(0)) is Refusal.KEY_BLOCKED


def test_a_key_of_another_type_than_the_slot_makes_no_instruction(make_key: MakeKey) -> None:
    with pytest.raises(ValueError, match="DESKTOP key cannot go into the SERVER slot"):
        Instruction(ACTIVE, make_key(KeyType.DESKTOP))
