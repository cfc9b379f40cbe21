"""What the fake decides about codes and keys; nothing here knows gRPC, files or the clock."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sparekey.activation.fake.records import (
    Code,
    CodeDefinition,
    IssuedKey,
    KeyProperties,
    Records,
)
from sparekey.activation.fake.renewals import Extension, extension
from sparekey.activation.fake.serials import new_serial, preview_serial
from sparekey.activation.fake.subscriptions import Subscription
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.keys import KeyKind, KeyOrigin, LicenseKey


class UnknownKey(Exception):
    """The fake issued no key with this serial."""


class NoSubscription(Exception):
    """The key with this serial is not a subscription's."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A verdict, and the signed key where it is OK.

    `serial` is that of the key in the books; empty for a preview, which is in no books.
    """

    verdict: Verdict
    key_file: bytes = b""
    serial: str = ""


def code_digest(code: str) -> str:
    """Under what a code is kept, so that no file of the fake holds one (R79)."""
    return hashlib.sha256(code.encode()).hexdigest()


class Catalogue:
    """Codes, keys and subscriptions, and every verdict about them.

    Args:
        sign: Gives a key its signed form; the same key always the same.
        randomness: Where serials come from.
        records: What is known already.
    """

    def __init__(
        self,
        sign: Callable[[LicenseKey], bytes],
        randomness: random.Random,
        records: Records | None = None,
    ) -> None:
        self._sign = sign
        self._randomness = randomness
        self.records = Records() if records is None else records
        self.changes = 0
        """Counts up with every change to the records, so that only changes are written."""

    def define_code(self, code: str, definition: CodeDefinition) -> None:
        """Make a code known, or give it another worth; what it was redeemed for stays."""
        known = self.records.codes.setdefault(code_digest(code), Code(definition))
        known.definition = definition
        self.changes += 1

    def issue(self, properties: KeyProperties, now: datetime) -> Grant:
        """Sign a key as a file, without a code (R31).

        Raises `InvalidKey` where the properties contradict each other.
        """
        serial = self._new_serial(KeyOrigin.KEY_FILE)
        return self._enter(properties.key(serial, KeyOrigin.KEY_FILE, now), properties)

    def redeem(
        self, code: str, installation_id: str, now: datetime, *, preview: bool = False
    ) -> Grant:
        """Exchange a code for a key (R47, R53, R79, R97).

        An installation that redeems a code again gets the same key and is counted once, even when
        the code's time is over. Only a trial whose term is over is refused for good: EXPIRED for
        its own code, TRIAL_USED for every other. A preview answers the same and changes nothing.
        """
        digest = code_digest(code)
        known = self.records.codes.get(digest)
        if known is None:
            return Grant(Verdict.NOT_FOUND)
        definition = known.definition
        if definition.verdict is not None:
            return Grant(definition.verdict)
        if installation_id in known.serial_of:
            return self._again(self.records.keys[known.serial_of[installation_id]], now)
        refusal = self._why_not(known, installation_id, now)
        if refusal is not None:
            return Grant(refusal)
        if preview:
            serial = preview_serial(digest, installation_id)
            key = definition.properties.key(serial, KeyOrigin.ACTIVATION_CODE, now)
            return Grant(Verdict.OK, self._sign(key))
        serial = self._new_serial(KeyOrigin.ACTIVATION_CODE)
        key = definition.properties.key(serial, KeyOrigin.ACTIVATION_CODE, now)
        known.serial_of[installation_id] = serial
        if key.kind is KeyKind.TRIAL:
            self.records.trials[installation_id] = serial
        return self._enter(
            key, definition.properties, code_digest=digest, installation_id=installation_id
        )

    def renew(self, serial: str, installation_id: str, now: datetime) -> Grant:
        """The successor of a key that came by a code (R16); asked again, the same successor.

        NOT_FOUND for a key that came as a file or belongs to another installation; BLOCKED where
        it or its successor is; EXPIRED where it has no successor.

        The successor is valid at once and leaves no gap; `renewals` says when it ends.
        """
        old = self.records.keys.get(serial)
        if old is None or not old.code_digest or old.installation_id != installation_id:
            return Grant(Verdict.NOT_FOUND)
        definition = self.records.codes[old.code_digest].definition
        if old.blocked_at is not None:
            return Grant(Verdict.BLOCKED)
        if definition.verdict is not None:
            return Grant(definition.verdict)
        if old.successor:
            return self._as_issued(self.records.keys[old.successor])
        subscription = self.records.subscriptions.get(old.subscription)
        extended = extension(old, definition, subscription, now)
        if extended is None:
            return Grant(Verdict.EXPIRED)
        return self._succeed(old, extended, now)

    def check(self, serial: str) -> tuple[Verdict, datetime | None]:
        """OK, NOT_FOUND or BLOCKED, with the instant of the blocking (R72)."""
        issued = self.records.keys.get(serial)
        if issued is None:
            return Verdict.NOT_FOUND, None
        if issued.blocked_at is not None:
            return Verdict.BLOCKED, issued.blocked_at
        return Verdict.OK, None

    def subscription(self, serial: str) -> tuple[Verdict, Subscription | None]:
        """The subscription behind a key (R60), shared by all its successors.

        NOT_FOUND where the key is unknown or no subscription's, BLOCKED where it is blocked.
        """
        issued = self.records.keys.get(serial)
        if issued is None or not issued.subscription:
            return Verdict.NOT_FOUND, None
        if issued.blocked_at is not None:
            return Verdict.BLOCKED, None
        return Verdict.OK, self.records.subscriptions[issued.subscription]

    def block(self, serial: str, now: datetime, grace: timedelta | None = None) -> None:
        """Block a key (R72); one that is blocked keeps its instant.

        `grace` is for how long it still works (R95); None leaves that to the license servers.

        Raises `UnknownKey`.
        """
        issued = self._known(serial)
        issued.blocked_at = issued.blocked_at or now
        issued.block_grace = grace
        self.changes += 1

    def block_grace(self, serial: str) -> timedelta | None:
        """For how long a blocked key still works, where that was said (R95)."""
        issued = self.records.keys.get(serial)
        return issued.block_grace if issued is not None and issued.blocked_at else None

    def lift_block(self, serial: str) -> None:
        """Take a block back.

        Raises `UnknownKey`.
        """
        self._known(serial).blocked_at = None
        self.changes += 1

    def change_subscription(self, serial: str, subscription: Subscription) -> None:
        """Make a subscription be as its provider says (R56).

        Raises `UnknownKey`, or `NoSubscription` where the key is of another kind.
        """
        issued = self._known(serial)
        if not issued.subscription:
            raise NoSubscription(serial)
        self.records.subscriptions[issued.subscription] = subscription
        self.changes += 1

    def stand_clock_at(self, instant: datetime | None) -> None:
        """Note that the clock stands at an instant, or runs."""
        self.records.clock_stands_at = instant
        self.changes += 1

    def forget(self) -> None:
        """Forget all but whether the clock stands."""
        self.records = Records(clock_stands_at=self.records.clock_stands_at)
        self.changes += 1

    def _known(self, serial: str) -> IssuedKey:
        issued = self.records.keys.get(serial)
        if issued is None:
            raise UnknownKey(serial)
        return issued

    def _new_serial(self, origin: KeyOrigin) -> str:
        return new_serial(origin, self._randomness, self.records.keys)

    def _why_not(self, known: Code, installation_id: str, now: datetime) -> Verdict | None:
        definition = known.definition
        if definition.redeem_before is not None and definition.redeem_before <= now:
            return Verdict.EXPIRED
        is_trial = definition.properties.kind is KeyKind.TRIAL
        if is_trial and installation_id in self.records.trials:
            return Verdict.TRIAL_USED
        if len(known.serial_of) >= definition.activation_limit:
            return Verdict.ACTIVATION_LIMIT
        return None

    def _again(self, issued: IssuedKey, now: datetime) -> Grant:
        is_over = issued.key.kind is KeyKind.TRIAL and issued.key.has_expired_at(now)
        if is_over and issued.blocked_at is None:
            return Grant(Verdict.EXPIRED)
        return self._as_issued(issued)

    def _as_issued(self, issued: IssuedKey) -> Grant:
        if issued.blocked_at is not None:
            return Grant(Verdict.BLOCKED)
        return Grant(Verdict.OK, issued.key_file, issued.key.serial)

    def _succeed(self, old: IssuedKey, extended: Extension, now: datetime) -> Grant:
        # The old end, if it has come: the gap between it and now is not to be seen in the key.
        start = now if old.key.expires_at is None else min(now, old.key.expires_at)
        key = replace(
            old.key,
            serial=self._new_serial(KeyOrigin.ACTIVATION_CODE),
            not_before=start,
            expires_at=extended.ends_at,
        )
        successor = replace(old, key=key, key_file=self._sign(key), renewal=extended.renewal)
        if extended.subscription is not None:
            self.records.subscriptions[old.subscription] = extended.subscription
        self.records.keys[key.serial] = successor
        old.successor = key.serial
        self.changes += 1
        return self._as_issued(successor)

    def _enter(
        self,
        key: LicenseKey,
        properties: KeyProperties,
        *,
        code_digest: str = "",
        installation_id: str = "",
    ) -> Grant:
        issued = IssuedKey(
            key=key,
            key_file=self._sign(key),
            code_digest=code_digest,
            installation_id=installation_id,
        )
        if key.kind is KeyKind.SUBSCRIPTION:
            issued.subscription = key.serial
            self.records.subscriptions[key.serial] = Subscription(
                begins_at=key.not_before,
                ends_at=key.expires_at,
                grace=properties.grace,
                stops_protection=properties.stops_protection,
            )
        self.records.keys[key.serial] = issued
        self.changes += 1
        return self._as_issued(issued)
