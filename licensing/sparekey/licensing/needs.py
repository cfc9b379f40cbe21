"""What each SVM needs so that no class of its guests has a gap before the horizon."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sparekey.licensing.coverage import covers
from sparekey.licensing.forecast import Gap, GapReason, SvmSituation, WalkedFleet
from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import Keyring, Role
from sparekey.licensing.keys import Edition, KeyKind, KeyType, Scheme
from sparekey.licensing.walking import Moment

ACTIVATION_LEAD = timedelta(days=7)
"""How long before a gap a key is activated at the earliest: sooner would waste the old one."""

_OF_CLASS = {OsClass.SERVER: KeyType.SERVER, OsClass.DESKTOP: KeyType.DESKTOP}


@dataclass(frozen=True, slots=True)
class Habits:
    """What most SVMs of the fleet run under, for those that have no key yet (R40, R41)."""

    scheme_type: KeyType
    edition: Edition


@dataclass(frozen=True, slots=True)
class Need:
    """One key on one SVM that closes all gaps of its classes up to the horizon.

    It must be put there as `role` in [run_from, run_by]. As a reserve it may start as late as
    `run_by`, the start of the gap; as an active key it must have started when it is put there.
    """

    svm_id: str
    type: KeyType
    edition: Edition
    role: Role
    run_from: datetime
    run_by: datetime
    units: int
    host: str
    guests: int


def habits(svms: Iterable[SvmSituation]) -> Habits:
    """The most frequent scheme and edition; per VM and STANDARD where the fleet says nothing."""
    counted: Counter[int] = Counter()
    keyrings: dict[int, Keyring] = {}
    for svm in svms:
        counted[id(svm.keyring)] += 1
        keyrings[id(svm.keyring)] = svm.keyring
    types: Counter[KeyType] = Counter()
    editions: Counter[Edition] = Counter()
    for identity, keyring in keyrings.items():
        for held in keyring.actives():
            of_scheme = KeyType.SERVER if held.key.type.scheme is Scheme.PER_VM else held.key.type
            types[of_scheme] += counted[identity]
            editions[held.key.edition] += counted[identity]
    return Habits(
        max(KeyType, key=lambda one: types[one]), max(Edition, key=lambda one: editions[one])
    )


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What needs have in common that come from one course of keys."""

    type: KeyType
    edition: Edition
    role: Role
    run_from: datetime
    run_by: datetime


class NeedFinder:
    """Finds the needs of SVMs; SVMs that share a course of keys at the cost of one."""

    def __init__(self, fleet: WalkedFleet, usual: Habits) -> None:
        self._fleet = fleet
        self._usual = usual
        self._patterns: dict[int, tuple[_Pattern, ...]] = {}

    def needs(self, svm: SvmSituation) -> list[Need]:
        """The needs of one SVM; by type, none where it has no gap."""
        course = self._fleet.course(svm)
        patterns = self._patterns.get(id(course))
        if patterns is None:
            gaps = self._fleet.gaps(svm)
            found = _patterns(self._fleet, course, gaps, self._usual)
            patterns = self._patterns[id(course)] = tuple(found)
        return [_need(self._fleet, svm, pattern) for pattern in patterns]


def _patterns(
    fleet: WalkedFleet, course: Sequence[Moment], gaps: Iterable[Gap], usual: Habits
) -> Iterator[_Pattern]:
    first: dict[KeyType, Gap] = {}
    for gap in gaps:
        key_type = _type_for(course, gap, usual)
        if key_type not in first or gap.starts_at < first[key_type].starts_at:
            first[key_type] = gap
    for key_type, gap in first.items():
        role, run_from = Role.RESERVE, _reserve_from(fleet, course, key_type, gap)
        if run_from is None:
            role, run_from = Role.ACTIVE, max(fleet.now, gap.starts_at - ACTIVATION_LEAD)
        edition = _edition(course, key_type, usual)
        yield _Pattern(key_type, edition, role, run_from, gap.starts_at)


def _edition(course: Sequence[Moment], key_type: KeyType, usual: Habits) -> Edition:
    """That of the key it follows (R8), else of the SVM's other key, else the usual one (R40)."""
    actives = course[-1].keyring.actives()
    same_type = [held for held in actives if held.key.type is key_type]
    return next((held.key.edition for held in (*same_type, *actives)), usual.edition)


def _type_for(course: Sequence[Moment], gap: Gap, usual: Habits) -> KeyType:
    # The scheme that the SVM has in the end; a plan never changes it (R36).
    for held in course[-1].keyring.actives():
        if held.key.type.scheme is not Scheme.PER_VM:
            return held.key.type
        return _OF_CLASS[gap.os_class]
    if usual.scheme_type.scheme is Scheme.PER_VM:
        return _OF_CLASS[gap.os_class]
    return usual.scheme_type


def _need(fleet: WalkedFleet, svm: SvmSituation, pattern: _Pattern) -> Need:
    key_type = pattern.type
    guests = sum(fleet.guests(svm, os_class) for os_class in OsClass if covers(key_type, os_class))
    match key_type:
        case KeyType.CORES:
            units = svm.host_cpu.cores
        case KeyType.PROCESSORS:
            units = svm.host_cpu.processors
        case _:
            units = guests
    # One host's processors count once, however many SVMs run beside them (R91).
    shared = svm.host_uuid if key_type.scheme is not Scheme.PER_VM else ""
    return Need(
        svm.svm_id,
        key_type,
        pattern.edition,
        pattern.role,
        pattern.run_from,
        pattern.run_by,
        max(1, units),
        shared or svm.svm_id,
        guests,
    )


def _reserve_from(
    fleet: WalkedFleet, course: Sequence[Moment], key_type: KeyType, gap: Gap
) -> datetime | None:
    """From when on a reserve for the gap can be added, or None if it must be an active key.

    A reserve takes over where an active key expires; the key before that one must have given way
    by then, or the new reserve would replace the one that waits (R84). Beside a subscription there
    is no reserve at all (R4, R77).
    """
    if gap.reason not in (GapReason.KEY_EXPIRED, GapReason.TRIAL_EXPIRED):
        return None
    if gap.serial in fleet.ended_early:
        # Until then the key still says a later end, and a reserve must outlast that.
        return None
    since: datetime | None = None
    for moment in course:
        actives = moment.keyring.actives()
        if any(held.key.kind is KeyKind.SUBSCRIPTION for held in actives):
            return None
        active = moment.keyring.active(key_type)
        if moment.at >= gap.starts_at:
            break
        if active is not None and active.key.serial == gap.serial:
            since = moment.at if since is None else since
    return since
