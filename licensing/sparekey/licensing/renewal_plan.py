"""The smallest set of keys that closes every gap before a horizon, and the tasks that put it there.

Smallest means, in this order: the fewest keys to buy, then the fewest units to buy, then the
fewest keys taken from the storage. One new key for each type and edition is enough for all SVMs,
since a key may start early and serve late; so there is one, or none where the storage can serve
all. Each SVM gets one key of a type, which lasts to the horizon. Filling the storage's spare units
is a packing problem; the largest needs come first, each into the fullest key that takes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sparekey.licensing.forecast import SvmSituation, WalkedFleet
from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.needs import Need, NeedFinder, habits
from sparekey.licensing.walking import NO_TERMS, BlockKey, EndKey, KeyTerms, WhatIf


@dataclass(frozen=True, slots=True)
class StorageKey:
    """A key in the storage that is not blocked, and the units of it that nobody needs."""

    key: LicenseKey
    spare_units: int


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task to run at any instant in [run_from, run_by], for these SVMs.

    `guests` is how many guests it keeps covered.
    """

    role: Role
    run_from: datetime
    run_by: datetime
    svm_ids: tuple[str, ...]
    guests: int


@dataclass(frozen=True, slots=True)
class PlannedKey:
    """A key to use: one of the storage where `serial` is set, else one to buy.

    A commercial key with at least `units`, whose validity starts no later than `starts_by` and
    ends no earlier than `until`.
    """

    type: KeyType
    edition: Edition
    units: int
    starts_by: datetime
    until: datetime
    tasks: tuple[PlannedTask, ...]
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class RenewalPlan:
    """The keys to use, those of the storage first, then by type and edition.

    `void_svm_ids` are the SVMs whose keys are void (R82), by id: no key helps them. They are
    planned for as if they had connected anew and been activated with what they hold.
    """

    now: datetime
    until: datetime
    keys: tuple[PlannedKey, ...]
    void_svm_ids: tuple[str, ...] = ()

    def to_buy(self) -> tuple[PlannedKey, ...]:
        """The keys that the storage doesn't have."""
        return tuple(key for key in self.keys if key.serial is None)


@dataclass(slots=True)
class _Bundle:
    """Needs that are counted once together: one SVM's, or all beside one host (R91)."""

    units: int = 0
    first_gap_at: datetime | None = None
    needs: list[Need] = field(default_factory=list)


def plan_renewal(
    svms: Sequence[SvmSituation],
    storage: Iterable[StorageKey],
    now: datetime,
    until: datetime,
    what_if: Sequence[WhatIf] = (),
    terms: KeyTerms = NO_TERMS,
) -> RenewalPlan:
    """The smallest plan that closes every gap that `forecast` finds for the same arguments.

    But for those of void keys (R82), which keys cannot close: see `RenewalPlan.void_svm_ids`.
    Keys that `what_if` blocks or ends are not counted on. Only commercial keys are used: a trial
    or a subscription would take the SVM's reserves away (R86).
    """
    fleet = WalkedFleet(now, until, what_if, terms)
    finder = NeedFinder(fleet, habits(svms))
    void = tuple(sorted(svm.svm_id for svm in svms if svm.void))
    wanted: dict[tuple[KeyType, Edition], dict[str, _Bundle]] = {}
    for svm in svms:
        for need in finder.needs(replace(svm, void=False) if svm.void else svm):
            bundle = wanted.setdefault((need.type, need.edition), {}).setdefault(
                need.host, _Bundle()
            )
            bundle.needs.append(need)
            bundle.units = max(bundle.units, need.units)
            if bundle.first_gap_at is None or need.run_by < bundle.first_gap_at:
                bundle.first_gap_at = need.run_by
    spoiled = {change.serial for change in what_if if isinstance(change, BlockKey | EndKey)}
    usable = [
        stored
        for stored in storage
        if stored.key.kind is KeyKind.COMMERCIAL
        and stored.key.serial not in spoiled
        and stored.key.expires_at is not None
        and stored.key.expires_at >= until
    ]
    from_storage: list[PlannedKey] = []
    to_buy: list[PlannedKey] = []
    for key_type in KeyType:
        for edition in Edition:
            bundles = wanted.get((key_type, edition))
            if not bundles:
                continue
            fitting = [
                stored
                for stored in usable
                if stored.key.type is key_type and stored.key.edition is edition
            ]
            taken, left = _fill(list(bundles.values()), fitting)
            for stored, some in taken:
                from_storage.append(_planned(some, until, now, stored.key))
            if left:
                to_buy.append(_planned(left, until, now, None))
    return RenewalPlan(now, until, (*from_storage, *to_buy), void)


def _fill(
    bundles: list[_Bundle], storage: Iterable[StorageKey]
) -> tuple[list[tuple[StorageKey, list[_Bundle]]], list[_Bundle]]:
    """Spread bundles over the keys of the storage; those that fit nowhere are left."""
    # The roomiest first, so that few keys are touched.
    keys = sorted(
        (stored for stored in storage if stored.spare_units > 0),
        key=lambda stored: (-stored.spare_units, stored.key.not_before, stored.key.serial),
    )
    if not keys:
        return [], bundles
    room = {stored.key.serial: stored.spare_units for stored in keys}
    taken: dict[str, list[_Bundle]] = {}
    left = []
    for bundle in sorted(bundles, key=lambda one: (-one.units, one.needs[0].svm_id)):
        assert bundle.first_gap_at is not None
        for stored in keys:
            serial = stored.key.serial
            if room[serial] >= bundle.units and stored.key.not_before <= bundle.first_gap_at:
                room[serial] -= bundle.units
                taken.setdefault(serial, []).append(bundle)
                break
        else:
            left.append(bundle)
    return [(stored, taken[stored.key.serial]) for stored in keys if stored.key.serial in taken], (
        left
    )


def _planned(
    bundles: Sequence[_Bundle], until: datetime, now: datetime, key: LicenseKey | None
) -> PlannedKey:
    some = [need for bundle in bundles for need in bundle.needs]
    tasks = _tasks(some, key.not_before if key else now)
    return PlannedKey(
        some[0].type,
        some[0].edition,
        sum(bundle.units for bundle in bundles),
        min(task.run_from if task.role is Role.ACTIVE else task.run_by for task in tasks),
        until,
        tasks,
        key.serial if key else None,
    )


def _tasks(some: Iterable[Need], starts_at: datetime) -> tuple[PlannedTask, ...]:
    """Few tasks: a need goes with the first one whose whole window is inside its own.

    So nobody has less time to run a task because others go with it.
    """
    waiting = sorted(
        some,
        key=lambda need: (need.role is Role.RESERVE, need.run_by, need.run_from, need.svm_id),
    )
    tasks = []
    while waiting:
        first = waiting[0]
        group: list[Need] = []
        later: list[Need] = []
        for need in waiting:
            joins = need.role is first.role and need.run_from <= first.run_from
            (group if joins else later).append(need)
        run_from = first.run_from
        if first.role is Role.ACTIVE:
            run_from = max(run_from, starts_at)
        tasks.append(
            PlannedTask(
                first.role,
                run_from,
                first.run_by,
                tuple(sorted(need.svm_id for need in group)),
                sum(need.guests for need in group),
            )
        )
        waiting = later
    return tuple(tasks)
