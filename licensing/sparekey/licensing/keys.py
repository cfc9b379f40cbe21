"""A license key: what it is, how much it allows and when it is valid."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum

MAX_UNIT_LIMIT = 10_000_000


class InvalidKey(ValueError):
    """The fields of a key contradict each other or a rule; the message says which and how."""


class Scheme(Enum):
    """What is counted against a key's limit. Keys of two schemes never share an SVM (R36)."""

    PER_VM = "PER_VM"
    PER_CORE = "PER_CORE"
    PER_PROCESSOR = "PER_PROCESSOR"


class KeyType(Enum):
    """The four key types (R20)."""

    # Members are single objects, so their identity will do; the default hashes a string by a
    # call, and slots are looked up all the time.
    __hash__ = object.__hash__

    SERVER = "SERVER"
    DESKTOP = "DESKTOP"
    CORES = "CORES"
    PROCESSORS = "PROCESSORS"

    @property
    def scheme(self) -> Scheme:
        """The counting basis: server and desktop keys share one, per protected VM."""
        return _SCHEME_OF[self]


_SCHEME_OF = {
    KeyType.SERVER: Scheme.PER_VM,
    KeyType.DESKTOP: Scheme.PER_VM,
    KeyType.CORES: Scheme.PER_CORE,
    KeyType.PROCESSORS: Scheme.PER_PROCESSOR,
}


class KeyKind(Enum):
    """How the license was obtained (R23). Only a commercial key can be a reserve (R26)."""

    TRIAL = "TRIAL"
    COMMERCIAL = "COMMERCIAL"
    SUBSCRIPTION = "SUBSCRIPTION"


class Edition(Enum):
    """The function set (R42)."""

    STANDARD = "STANDARD"
    ENTERPRISE = "ENTERPRISE"


class KeyOrigin(Enum):
    """How the key came in (R31). It decides whether an expiry leads to a call out (R88)."""

    KEY_FILE = "KEY_FILE"
    ACTIVATION_CODE = "ACTIVATION_CODE"


# R30. `\Z` rather than `$`, which would let a trailing newline through.
_SERIAL_PATTERN = {
    KeyOrigin.KEY_FILE: re.compile(r"[0-9A-F]{4}-[0-9A-F]{6}-[0-9A-F]{8}\Z"),
    KeyOrigin.ACTIVATION_CODE: re.compile(r"[0-9A-F]{32}\Z"),
}
_SERIAL_SHAPE = {
    KeyOrigin.KEY_FILE: "three hyphenated groups of 4, 6 and 8 upper-case hex digits",
    KeyOrigin.ACTIVATION_CODE: "exactly 32 upper-case hex digits",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseKey:
    """One license key, checked when it is made.

    `unit_limit` counts VMs, physical cores or processors, by the type's scheme: 0 to 10,000,000.
    `not_before` and `expires_at` are UTC instants of microsecond precision; the key is valid from
    the first up to, and not at, the second (R81). `expires_at` is None only for an unlimited
    subscription (R55). The serial's shape follows from the origin (R30).

    Raises `InvalidKey` if a field breaks one of these.
    """

    serial: str
    type: KeyType
    kind: KeyKind
    edition: Edition
    origin: KeyOrigin
    unit_limit: int
    not_before: datetime
    expires_at: datetime | None

    def __post_init__(self) -> None:
        if not _SERIAL_PATTERN[self.origin].match(self.serial):
            raise InvalidKey(
                f"serial {self.serial!r}: a serial of origin {self.origin.value} "
                f"has {_SERIAL_SHAPE[self.origin]}"
            )
        # A bool is an int to isinstance, but "true units" is a mistake of the caller.
        if type(self.unit_limit) is not int or not 0 <= self.unit_limit <= MAX_UNIT_LIMIT:
            raise InvalidKey(
                f"unit_limit {self.unit_limit!r}: must be a whole number from 0 to {MAX_UNIT_LIMIT}"
            )
        object.__setattr__(self, "not_before", _utc("not_before", self.not_before))
        if self.expires_at is None:
            if self.kind is not KeyKind.SUBSCRIPTION:
                raise InvalidKey(f"expires_at is required for a key of kind {self.kind.value}")
            return
        object.__setattr__(self, "expires_at", _utc("expires_at", self.expires_at))
        if not self.not_before < self.expires_at:
            raise InvalidKey(
                f"not_before {self.not_before} must be earlier than expires_at {self.expires_at}"
            )

    def has_started_at(self, now: datetime) -> bool:
        """Whether `not_before` has come; true at exactly that instant (R81)."""
        return self.not_before <= now

    def has_expired_at(self, now: datetime) -> bool:
        """Whether the key is over; true at exactly `expires_at`, never if unlimited (R81)."""
        return self.expires_at is not None and self.expires_at <= now

    def is_valid_at(self, now: datetime) -> bool:
        """Whether `not_before <= now < expires_at` (R81). Says nothing of blocking."""
        return self.has_started_at(now) and not self.has_expired_at(now)


def end_of_date(last_day: date) -> datetime:
    """The `expires_at` of a key whose end is given as a date only (R81).

    The whole day still counts, so it is 00:00:00 UTC of the following day.
    Raises `InvalidKey` for a datetime, whose time of day would be lost, and for 9999-12-31.
    """
    if isinstance(last_day, datetime):
        raise InvalidKey("end_of_date takes a date; a datetime already is an instant")
    if last_day == date.max:
        raise InvalidKey(f"{last_day} has no following day")
    following = last_day + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=UTC)


def _utc(name: str, value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise InvalidKey(f"{name} {value}: must be a UTC instant")
    # Zones that only happen to be at zero offset today would compare and print differently.
    return value.replace(tzinfo=UTC)
