"""How much of the product an SVM's keys keep running."""

from datetime import datetime, timedelta
from enum import Enum

from sparekey.licensing.keyring import HeldKey, Keyring
from sparekey.licensing.keys import KeyKind
from sparekey.licensing.settling import settle

BLOCK_GRACE = timedelta(days=8)
"""How long a blocked key keeps everything running (R95)."""


class Mode(Enum):
    """All functions; protection without updates and reputation lookups; nothing (R95)."""

    FULL = "FULL"
    LIMITED = "LIMITED"
    OFF = "OFF"


_MILDEST_FIRST = {mode: position for position, mode in enumerate(Mode)}


def mode_at(keyring: Keyring, now: datetime, *, block_grace: timedelta = BLOCK_GRACE) -> Mode:
    """The mode at `now`; of two active keys the milder one counts (R90).

    No key, or an expired trial: OFF (R70). Any other expired key: LIMITED (R71). A blocked key:
    FULL for `block_grace` from its blocking, then LIMITED (R95).
    """
    modes = [_mode_of(held, now, block_grace) for held in settle(keyring, now).keyring.actives()]
    return min(modes, key=_MILDEST_FIRST.__getitem__, default=Mode.OFF)


def _mode_of(held: HeldKey, now: datetime, block_grace: timedelta) -> Mode:
    if held.key.has_expired_at(now):
        return Mode.OFF if held.key.kind is KeyKind.TRIAL else Mode.LIMITED
    if held.blocked_at is not None:
        return Mode.FULL if now < held.blocked_at + block_grace else Mode.LIMITED
    # An active key that has not started: the clock was set back (R82). Protection stays.
    return Mode.FULL if held.key.has_started_at(now) else Mode.LIMITED
