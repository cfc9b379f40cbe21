"""What the server tells an SVM about one slot; both sides evaluate it by the same function."""

from dataclasses import dataclass
from datetime import datetime

from sparekey.licensing.changes import Transition
from sparekey.licensing.keyring import Keyring, Role, Slot
from sparekey.licensing.keys import LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.transitions import add_active, add_reserve, remove


@dataclass(frozen=True, slots=True)
class Instruction:
    """Put `key` into `slot`; or, with no key, remove what is in it.

    `blocked`: whether the key is known to be blocked. Raises `ValueError` if the key is not of the
    slot's type.
    """

    slot: Slot
    key: LicenseKey | None
    blocked: bool = False

    def __post_init__(self) -> None:
        if self.key is not None and self.key.type is not self.slot.type:
            raise ValueError(
                f"a {self.key.type.value} key cannot go into the {self.slot.type.value} slot"
            )


def follow(keyring: Keyring, instruction: Instruction, now: datetime) -> Transition | Refusal:
    """What the instruction does to this keyring at `now`, or why it does nothing."""
    slot, key = instruction.slot, instruction.key
    if key is None:
        return remove(keyring, slot, now)
    add = add_active if slot.role is Role.ACTIVE else add_reserve
    return add(keyring, key, now, blocked=instruction.blocked)
