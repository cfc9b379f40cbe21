"""How much of the product an SVM's keys keep running."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType

from sparekey.licensing.keyring import HeldKey, Keyring
from sparekey.licensing.keys import KeyKind
from sparekey.licensing.settling import settle
from sparekey.licensing.subscriptions import NO_SUBSCRIPTIONS, OVER, Subscription

BLOCK_GRACE = timedelta(days=8)
"""How long a blocked key keeps everything running (R95)."""


class Mode(Enum):
    """All functions; protection without updates and reputation lookups; nothing (R95)."""

    FULL = "FULL"
    LIMITED = "LIMITED"
    OFF = "OFF"


_MILDEST_FIRST = {mode: position for position, mode in enumerate(Mode)}


def mode_at(
    keyring: Keyring,
    now: datetime,
    *,
    block_grace: timedelta = BLOCK_GRACE,
    subscriptions: Mapping[str, Subscription] = NO_SUBSCRIPTIONS,
    block_graces: Mapping[str, timedelta] = MappingProxyType({}),
    void: bool = False,
) -> Mode:
    """The mode at `now`; of two active keys the milder one counts (R90).

    No key, or an expired trial: OFF (R70). Any other expired key: LIMITED (R71). A blocked key:
    FULL for `block_grace` from its blocking, or for what `block_graces` says of its serial, then
    LIMITED (R95). A key with a known subscription goes by that, not by its own end (R58, R59,
    R96). `void`: nothing is FULL, since the SVM's clock was changed (R54, R82).
    """
    modes = [
        _mode_of(
            held,
            now,
            block_graces.get(held.key.serial, block_grace),
            subscriptions.get(held.key.serial),
        )
        for held in settle(keyring, now).keyring.actives()
    ]
    mildest = min(modes, key=_MILDEST_FIRST.__getitem__, default=Mode.OFF)
    return Mode.LIMITED if void and mildest is Mode.FULL else mildest


def _mode_of(
    held: HeldKey, now: datetime, block_grace: timedelta, subscription: Subscription | None
) -> Mode:
    if subscription is not None:
        mode = _mode_under(subscription, now)
        if mode is not Mode.FULL or held.blocked_at is None:
            return mode
    elif held.key.has_expired_at(now):
        return Mode.OFF if held.key.kind is KeyKind.TRIAL else Mode.LIMITED
    if held.blocked_at is not None:
        return Mode.FULL if now < held.blocked_at + block_grace else Mode.LIMITED
    # An active key that has not started: the clock was set back (R82). Protection stays.
    return Mode.FULL if held.key.has_started_at(now) else Mode.LIMITED


def _mode_under(subscription: Subscription, now: datetime) -> Mode:
    if subscription.works_at(now):
        return Mode.FULL
    over = subscription.state_at(now) in OVER
    return Mode.OFF if over and subscription.stops_protection else Mode.LIMITED
