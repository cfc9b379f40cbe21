"""Which functions an SVM's keys open: those of the enterprise edition, by class and as a whole."""

from collections.abc import Mapping
from datetime import datetime

from sparekey.licensing.coverage import covers
from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import Keyring
from sparekey.licensing.keys import Edition
from sparekey.licensing.settling import settle
from sparekey.licensing.subscriptions import NO_SUBSCRIPTIONS, Subscription, in_force


def edition_for(
    keyring: Keyring,
    os_class: OsClass,
    now: datetime,
    *,
    subscriptions: Mapping[str, Subscription] = NO_SUBSCRIPTIONS,
    void: bool = False,
) -> Edition | None:
    """The edition that a guest of a class has on this SVM: that of the key which covers it (R90).

    None where no key in force covers it, or the SVM's keys are `void` (R82). So a guest that moves
    to another SVM has what that one's keys allow (R44). Detection of suspicious network activity
    works for a guest under ENTERPRISE only (R43).
    """
    if void:
        return None
    for held in settle(keyring, now).keyring.actives():
        if covers(held.key.type, os_class) and in_force(held, now, subscriptions):
            return held.key.edition
    return None


def edition_of_svm(keyring: Keyring) -> Edition | None:
    """The edition of what concerns the SVM as a whole: ENTERPRISE if all active keys are (R90)."""
    editions = {held.key.edition for held in keyring.actives()}
    if not editions:
        return None
    return Edition.ENTERPRISE if editions == {Edition.ENTERPRISE} else Edition.STANDARD
