"""Random fleets for Hypothesis: sound keyrings that the rules themselves could have made."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from sparekey.licensing.changes import Transition
from sparekey.licensing.coverage import uncovered_classes
from sparekey.licensing.forecast import SvmSituation
from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.instructions import Instruction, follow
from sparekey.licensing.keyring import EMPTY, Keyring, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.renewal_plan import PlannedKey
from sparekey.licensing.settling import settle
from sparekey.licensing.subscriptions import (
    NO_SUBSCRIPTIONS,
    OVER,
    Subscription,
    SubscriptionState,
)
from sparekey.licensing.transitions import add_active, add_reserve, block
from sparekey.licensing.walking import AddGuests, BlockKey, EndKey, WhatIf

NOW = datetime(2030, 1, 1, tzinfo=UTC)
UNTIL = NOW + timedelta(days=60)


def day(number: float) -> datetime:
    return NOW + timedelta(days=number)


def key(
    number: int,
    type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
    *,
    kind: KeyKind = KeyKind.COMMERCIAL,
    edition: Edition = Edition.STANDARD,
    starts: float = -100,
    ends: float | None = 30,
    units: int = 100,
) -> LicenseKey:
    return LicenseKey(
        serial=f"{number:04X}-{number:06X}-{number:08X}",
        type=type,
        kind=kind,
        edition=edition,
        origin=KeyOrigin.KEY_FILE,
        unit_limit=units,
        not_before=day(starts),
        expires_at=None if ends is None else day(ends),
    )


@st.composite
def license_keys(draw: st.DrawFn, number: int) -> LicenseKey:
    kind = draw(st.sampled_from([KeyKind.COMMERCIAL] * 3 + [KeyKind.TRIAL, KeyKind.SUBSCRIPTION]))
    starts = draw(st.integers(-90, 40))
    ends = starts + draw(st.integers(1, 120))
    unlimited = kind is KeyKind.SUBSCRIPTION and draw(st.booleans())
    return key(
        number,
        draw(st.sampled_from(KeyType)),
        kind=kind,
        edition=draw(st.sampled_from(Edition)),
        starts=starts,
        ends=None if unlimited else ends,
        units=draw(st.integers(0, 20)),
    )


@st.composite
def keyrings(draw: st.DrawFn, pool: list[LicenseKey]) -> Keyring:
    """What a few requests on a few days before now have made of an empty keyring."""
    keyring, on = EMPTY, -80
    for _ in range(draw(st.integers(0, 6))):
        on = draw(st.integers(on, 0))
        one = draw(st.sampled_from(pool))
        act = draw(st.sampled_from(["activate", "activate", "reserve", "reserve", "block"]))
        result = (
            block(keyring, one.serial, day(on))
            if act == "block"
            else (add_active if act == "activate" else add_reserve)(keyring, one, day(on))
        )
        if isinstance(result, Transition):
            keyring = result.keyring
    return settle(keyring, NOW).keyring


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[LicenseKey], list[SvmSituation], list[WhatIf]]:
    """The keys of the storage, the SVMs, and changes to suppose."""
    pool = [draw(license_keys(number)) for number in range(1, draw(st.integers(2, 8)))]
    few = st.integers(0, 3)
    svms = [
        SvmSituation(
            f"svm-{number}",
            draw(keyrings(pool)),
            GuestMix(draw(few), draw(few), draw(few)),
            host_uuid=draw(st.sampled_from(["", "host-1", "host-2"])),
            host_cpu=HostCpu(2, draw(st.integers(1, 16))),
            void=draw(st.integers(0, 3)) == 3,
        )
        for number in range(draw(st.integers(1, 5)))
    ]
    serials = st.sampled_from([one.serial for one in pool])
    days = st.integers(0, 70).map(day)
    changes = st.one_of(
        st.builds(BlockKey, serials, days),
        st.builds(EndKey, serials, days),
        st.builds(AddGuests, st.sampled_from([svm.svm_id for svm in svms]), days, few, few),
    )
    return pool, svms, draw(st.lists(changes, max_size=3))


def cured(svm: SvmSituation) -> SvmSituation:
    """The SVM once it has connected anew and been activated, had its keys been void (R82)."""
    return replace(svm, void=False)


Act = tuple[datetime, Instruction]


@st.composite
def subscriptions_of(draw: st.DrawFn, pool: list[LicenseKey]) -> dict[str, Subscription]:
    """What providers say of some of the keys that are subscriptions."""
    found = {}
    for one in pool:
        if one.kind is KeyKind.SUBSCRIPTION and draw(st.booleans()):
            found[one.serial] = Subscription(
                state=draw(st.sampled_from(SubscriptionState)),
                said_at=day(draw(st.integers(-20, 0))),
                ends_at=draw(st.none() | st.integers(-10, 70).map(day)),
                grace=timedelta(days=draw(st.integers(0, 20))),
                stops_protection=draw(st.booleans()),
            )
    return found


def walk_slowly(
    svm: SvmSituation,
    what_if: list[WhatIf],
    acts: list[Act] | None = None,
    subscriptions: Mapping[str, Subscription] = NO_SUBSCRIPTIONS,
) -> Iterator[tuple[datetime, Keyring, GuestMix, Mapping[str, Subscription]]]:
    """The SVM at each half day, each step made from the step before: no cleverness.

    All that happens in random fleets happens on whole days.
    """
    keyring, guests = svm.keyring, svm.guests
    changes = sorted(what_if, key=lambda change: change.at)
    waiting = sorted(acts or [], key=lambda act: act[0])
    for half in range(120):
        now = day(half / 2)
        keyring = settle(keyring, now).keyring
        while changes and changes[0].at <= now:
            change = changes.pop(0)
            if isinstance(change, AddGuests):
                if change.svm_id == svm.svm_id:
                    guests = GuestMix(
                        guests.servers + change.servers,
                        guests.desktops + change.desktops,
                        guests.unknown,
                    )
            elif isinstance(change, BlockKey):
                keyring = block(keyring, change.serial, now).keyring
            elif change.serial in subscriptions:
                known = subscriptions[change.serial]
                if known.state_at(now) not in OVER:
                    ended = replace(known, state=SubscriptionState.CANCELLED_HARD)
                    subscriptions = {**subscriptions, change.serial: ended}
            else:
                keyring = _end(keyring, change.serial, now)
        while waiting and waiting[0][0] <= now:
            result = follow(keyring, waiting.pop(0)[1], now)
            assert isinstance(result, Transition), result
            keyring = result.keyring
        yield now, keyring, guests, subscriptions


def gaps_met(
    svm: SvmSituation,
    what_if: list[WhatIf],
    acts: list[Act] | None = None,
    subscriptions: Mapping[str, Subscription] = NO_SUBSCRIPTIONS,
) -> set[tuple[datetime, OsClass]]:
    """The half days at which a class of the SVM's guests is uncovered."""
    return {
        (now, os_class)
        for now, keyring, guests, known in walk_slowly(svm, what_if, acts, subscriptions)
        for os_class in uncovered_classes(keyring, guests, now, subscriptions=known, void=svm.void)
    }


def _end(keyring: Keyring, serial: str, now: datetime) -> Keyring:
    for slot, held in keyring.slots.items():
        one = held.key
        if one.serial == serial and (one.expires_at is None or one.expires_at > now):
            cut = key(1, one.type, kind=one.kind, edition=one.edition, ends=0)
            object.__setattr__(cut, "serial", serial)
            object.__setattr__(cut, "not_before", min(one.not_before, now - timedelta(hours=1)))
            object.__setattr__(cut, "expires_at", now)
            changed = type(held)(cut, held.installed_at, held.ended_at, held.blocked_at)
            keyring = keyring.with_(slot, changed)
    return settle(keyring, now).keyring


def acts(
    planned: Iterable[PlannedKey], pool: dict[str, LicenseKey], late: bool
) -> dict[str, list[Act]]:
    """What each SVM is told when all tasks run, as early or as late as they may."""
    found: dict[str, list[Act]] = {}
    for number, one in enumerate(planned, 0xF000):
        span = (one.until - NOW).days
        bought = key(number, one.type, edition=one.edition, starts=-1, ends=span, units=one.units)
        object.__setattr__(bought, "not_before", one.starts_by)
        used = pool[one.serial] if one.serial else bought
        for task in one.tasks:
            at: datetime = task.run_by if late else task.run_from
            assert task.run_from <= task.run_by
            for svm_id in task.svm_ids:
                instruction = Instruction(Slot(one.type, task.role), used)
                found.setdefault(svm_id, []).append((at, instruction))
    return found
