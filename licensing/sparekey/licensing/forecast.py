"""When which guests will be without a usable key, seen from now to a horizon.

A gap is a span in which `coverage.uncovered_classes` holds for a class of guests. It bears the
mode that is left to them: OFF, LIMITED, or still FULL in the grace of a blocked key (R95).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sparekey.licensing.coverage import covers
from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyKind, KeyOrigin
from sparekey.licensing.modes import Mode, mode_at
from sparekey.licensing.settling import settle
from sparekey.licensing.subscriptions import OVER, SubscriptionState, in_force
from sparekey.licensing.walking import NO_TERMS, AddGuests, EndKey, KeyTerms, Moment, WhatIf, walk


class GapReason(Enum):
    """Why guests are without a usable key."""

    NO_KEY = "NO_KEY"
    NO_KEY_FOR_CLASS = "NO_KEY_FOR_CLASS"
    KEY_EXPIRED = "KEY_EXPIRED"
    TRIAL_EXPIRED = "TRIAL_EXPIRED"
    SUBSCRIPTION_ENDED = "SUBSCRIPTION_ENDED"
    KEY_BLOCKED = "KEY_BLOCKED"
    KEY_NOT_STARTED = "KEY_NOT_STARTED"
    SUBSCRIPTION_PAUSED = "SUBSCRIPTION_PAUSED"
    KEY_VOID = "KEY_VOID"


_ENDED = {
    KeyKind.TRIAL: GapReason.TRIAL_EXPIRED,
    KeyKind.COMMERCIAL: GapReason.KEY_EXPIRED,
    KeyKind.SUBSCRIPTION: GapReason.SUBSCRIPTION_ENDED,
}


NO_HOST = HostCpu(0, 0)


@dataclass(frozen=True, slots=True)
class SvmSituation:
    """One SVM as a forecast sees it: its keys, its guests and its host.

    Situations that share one `keyring` object are forecast at the cost of one. `host_uuid` is
    empty where it was not reported. `void`: its keys have lost their effect since its clock was
    changed (R82); time alone never gives it back.
    """

    svm_id: str
    keyring: Keyring
    guests: GuestMix
    cluster: str = ""
    host_uuid: str = ""
    host_cpu: HostCpu = NO_HOST
    void: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which one class of guests has no usable key, from `starts_at` up to `ends_at`.

    `ends_at` is None where it lasts beyond the horizon. `serial` is the key whose end or blocking
    led to it. `may_renew_itself`: that key came by activation code, so that the server will ask
    for a successor at its end (R16); a forecast doesn't count on that.
    """

    os_class: OsClass
    starts_at: datetime
    ends_at: datetime | None
    mode: Mode
    reason: GapReason
    serial: str | None = None
    may_renew_itself: bool = False


@dataclass(frozen=True, slots=True)
class SvmGap:
    """A gap on one SVM; `guests` is the most guests of the class within it."""

    svm_id: str
    cluster: str
    guests: int
    gap: Gap


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """What a forecast says of one class: how many SVMs and guests have a gap, the first when."""

    os_class: OsClass
    svms: int
    guests: int
    first_gap_at: datetime | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """All gaps of a fleet in [now, until): by the order of the SVMs, then class, then start."""

    now: datetime
    until: datetime
    svms: int
    gaps: tuple[SvmGap, ...]

    def summary(self) -> tuple[ClassSummary, ...]:
        """The classes as declared, each with its SVMs and guests that have any gap."""
        return tuple(self._of_class(os_class) for os_class in OsClass)

    def svms_with_gaps(self) -> int:
        """How many SVMs have any gap."""
        return len({found.svm_id for found in self.gaps})

    def _of_class(self, os_class: OsClass) -> ClassSummary:
        guests: dict[str, int] = {}
        first: datetime | None = None
        for found in self.gaps:
            if found.gap.os_class is os_class:
                guests[found.svm_id] = max(guests.get(found.svm_id, 0), found.guests)
                if first is None or found.gap.starts_at < first:
                    first = found.gap.starts_at
        return ClassSummary(os_class, len(guests), sum(guests.values()), first)


class WalkedFleet:
    """Walks SVMs from now to a horizon, each distinct combination of keys and classes once.

    A fleet is repetitive: hundreds of SVMs hold the same keys. What tells them apart and does not
    change the course of things, such as when a key was installed, is left out of the comparison.

    Attributes:
        now: Where the walk starts.
        until: The first instant that is not looked at.
        ended_early: The keys that are supposed to end before their own end.
    """

    def __init__(
        self,
        now: datetime,
        until: datetime,
        what_if: Sequence[WhatIf] = (),
        terms: KeyTerms = NO_TERMS,
    ) -> None:
        self.now = now
        self.until = until
        self._terms = terms
        self._changes = [change for change in what_if if not isinstance(change, AddGuests)]
        self._guests: dict[str, list[AddGuests]] = {}
        for change in what_if:
            if isinstance(change, AddGuests):
                self._guests.setdefault(change.svm_id, []).append(change)
        self.ended_early = frozenset(
            change.serial for change in what_if if isinstance(change, EndKey)
        )
        self._kept: list[Keyring] = []  # so that no identity is used twice
        self._profile_of: dict[int, object] = {}
        self._courses: dict[object, tuple[Moment, ...]] = {}
        self._gaps: dict[int, tuple[Gap, ...]] = {}

    def course(self, svm: SvmSituation) -> tuple[Moment, ...]:
        """The moments of an SVM; of its guests only the classes are right.

        SVMs that cannot differ get the same object.
        """
        classes = svm.guests.classes()
        grown = self._guests.get(svm.svm_id)
        key = (self._profile(svm.keyring), classes, svm.svm_id if grown else None, svm.void)
        found = self._courses.get(key)
        if found is None:
            found = self._courses[key] = tuple(
                walk(
                    svm.keyring,
                    svm.guests,
                    self.now,
                    self.until,
                    [*self._changes, *(grown or ())],
                    self._terms,
                    void=svm.void,
                )
            )
        return found

    def gaps(self, svm: SvmSituation) -> tuple[Gap, ...]:
        """The gaps of an SVM by class, then start."""
        course = self.course(svm)
        found = self._gaps.get(id(course))
        if found is None:
            found = self._gaps[id(course)] = tuple(
                gap for os_class in OsClass for gap in _gaps_of_class(course, os_class)
            )
        return found

    def guests(self, svm: SvmSituation, os_class: OsClass, before: datetime | None = None) -> int:
        """The guests of a class that the SVM will have just before an instant, or in the end."""
        count = svm.guests.count(os_class)
        for change in self._guests.get(svm.svm_id, ()):
            if before is None or change.at < before:
                count += change.desktops if os_class is OsClass.DESKTOP else change.servers
        return count

    def _profile(self, keyring: Keyring) -> object:
        profile = self._profile_of.get(id(keyring))
        if profile is None:
            settled = settle(keyring, self.now).keyring
            profile = tuple(
                (
                    held.key.type,
                    slot.role is Role.ACTIVE,
                    held.key.serial,
                    held.key.not_before,
                    held.key.expires_at,
                    held.key.edition,
                    held.blocked_at,
                )
                for slot, held in settled.slots.items()
            )
            self._profile_of[id(keyring)] = profile
            self._kept.append(keyring)
        return profile


def forecast(
    svms: Iterable[SvmSituation],
    now: datetime,
    until: datetime,
    what_if: Sequence[WhatIf] = (),
    terms: KeyTerms = NO_TERMS,
) -> Forecast:
    """Every gap of the SVMs in [now, until), if nothing is done but what `what_if` says."""
    fleet = WalkedFleet(now, until, what_if, terms)
    found: list[SvmGap] = []
    count = 0
    for svm in svms:
        count += 1
        for gap in fleet.gaps(svm):
            guests = fleet.guests(svm, gap.os_class, gap.ends_at)
            found.append(SvmGap(svm.svm_id, svm.cluster, guests, gap))
    return Forecast(now, until, count, tuple(found))


def _gaps_of_class(course: Sequence[Moment], os_class: OsClass) -> Iterator[Gap]:
    present: Gap | None = None
    for moment in course:
        found = _gap_at(moment, os_class)
        if present and found and _same_state(present, found):
            continue
        if present:
            yield _ending(present, moment.at)
        present = found
    if present:
        yield present


def _gap_at(moment: Moment, os_class: OsClass) -> Gap | None:
    if os_class not in moment.guests.classes():
        return None
    at, actives = moment.at, moment.keyring.actives()
    covering = [held for held in actives if covers(held.key.type, os_class)]
    terms = moment.terms
    if not moment.void and any(in_force(held, at, terms.subscriptions) for held in covering):
        return None
    if not covering:
        reason = GapReason.NO_KEY_FOR_CLASS if actives else GapReason.NO_KEY
        return Gap(os_class, at, None, Mode.OFF, reason)
    held = covering[0]  # by R24 and R36 there is no other
    mode = mode_at(
        Keyring({Slot(held.key.type, Role.ACTIVE): held}),
        at,
        block_grace=terms.block_grace,
        subscriptions=terms.subscriptions,
        block_graces=terms.block_graces,
    )
    if moment.void and mode is Mode.FULL:
        # Void is the reason only where nothing else costs the guests as much.
        return Gap(os_class, at, None, Mode.LIMITED, GapReason.KEY_VOID, held.key.serial)
    reason = _why(held, at, terms)
    return Gap(
        os_class,
        at,
        None,
        mode,
        reason,
        held.key.serial,
        may_renew_itself=(
            reason is GapReason.KEY_EXPIRED and held.key.origin is KeyOrigin.ACTIVATION_CODE
        ),
    )


def _why(held: HeldKey, at: datetime, terms: KeyTerms) -> GapReason:
    subscription = terms.subscriptions.get(held.key.serial)
    if subscription is not None and held.blocked_at is None:
        state = subscription.state_at(at)
        if state in OVER:
            return GapReason.SUBSCRIPTION_ENDED
        if state is SubscriptionState.PAUSED:
            return GapReason.SUBSCRIPTION_PAUSED
        return GapReason.KEY_NOT_STARTED
    if held.blocked_at is not None and not held.key.has_expired_at(held.blocked_at):
        return GapReason.KEY_BLOCKED
    if held.key.has_expired_at(at):
        return _ENDED[held.key.kind]
    return GapReason.KEY_NOT_STARTED


def _same_state(one: Gap, other: Gap) -> bool:
    return (one.mode, one.reason, one.serial) == (other.mode, other.reason, other.serial)


def _ending(gap: Gap, at: datetime) -> Gap:
    return Gap(
        gap.os_class,
        gap.starts_at,
        at,
        gap.mode,
        gap.reason,
        gap.serial,
        gap.may_renew_itself,
    )
