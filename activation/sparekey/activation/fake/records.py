"""What the fake knows: codes, the keys that it issued, subscriptions and trials."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sparekey.activation.fake.subscriptions import Subscription
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProperties:
    """What a key to be signed is like.

    `not_before` None means the instant of signing. `term` counts from `not_before` and is None
    only for an unlimited subscription (R55). `grace` and `stops_protection` are for subscriptions
    (R58, R59). `unit_limit` is 0 to 10,000,000.
    """

    type: KeyType
    kind: KeyKind
    edition: Edition
    unit_limit: int = 0
    not_before: datetime | None = None
    term: timedelta | None = None
    grace: timedelta = timedelta(0)
    stops_protection: bool = False

    def key(self, serial: str, origin: KeyOrigin, now: datetime) -> LicenseKey:
        """The key signed at `now`.

        Raises `InvalidKey` where the properties contradict each other.
        """
        not_before = now if self.not_before is None else self.not_before
        return LicenseKey(
            serial=serial,
            type=self.type,
            kind=self.kind,
            edition=self.edition,
            origin=origin,
            unit_limit=self.unit_limit,
            not_before=not_before,
            expires_at=None if self.term is None else end_of_term(not_before, self.term),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDefinition:
    """What a code is worth.

    `ending` is the code's last five characters; more of it is not kept (R79). `activation_limit`
    installations may redeem it, and each one's key is renewed `renewals` times. From
    `redeem_before` on nobody can. A `verdict` is answered instead of OK.
    """

    ending: str
    properties: KeyProperties
    activation_limit: int = 1
    renewals: int = 0
    redeem_before: datetime | None = None
    verdict: Verdict | None = None


@dataclass(slots=True)
class Code:
    """A code's definition and the serial that each installation got for it."""

    definition: CodeDefinition
    serial_of: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class IssuedKey:
    """A key, its signed form, and where it came from.

    `code_digest` and `installation_id` are empty for a key that was issued as a file. `renewal`
    counts the terms added on request before this key. `subscription` is the serial under which
    the subscription is kept, that of its first key; empty for other kinds.
    """

    key: LicenseKey
    key_file: bytes
    code_digest: str = ""
    installation_id: str = ""
    renewal: int = 0
    subscription: str = ""
    successor: str = ""
    blocked_at: datetime | None = None
    block_grace: timedelta | None = None


@dataclass(slots=True)
class Records:
    """Everything that a restart keeps.

    `codes` are by digest, `keys` and `subscriptions` by serial, `trials` by installation with the
    serial of its one trial. `clock_stands_at` is set while the clock was told to stand still.
    """

    codes: dict[str, Code] = field(default_factory=dict)
    keys: dict[str, IssuedKey] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    trials: dict[str, str] = field(default_factory=dict)
    clock_stands_at: datetime | None = None


def end_of_term(start: datetime, term: timedelta) -> datetime:
    """The instant a term after the start; the end of the year 9999 where it would lie beyond."""
    return END_OF_TIME if term > END_OF_TIME - start else start + term
