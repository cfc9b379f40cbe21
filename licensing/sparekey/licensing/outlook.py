"""How an SVM stands, why, and what comes next if nothing is done: in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from sparekey.licensing.changes import ChangeKind
from sparekey.licensing.coverage import covers, uncovered_classes
from sparekey.licensing.forecast import Gap, GapReason, SvmSituation, WalkedFleet
from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.modes import Mode, mode_at
from sparekey.licensing.settling import settle
from sparekey.licensing.story import Sentence, key_name, upper_first
from sparekey.licensing.subscriptions import Subscription, in_force
from sparekey.licensing.walking import NO_TERMS, KeyTerms

_MODES = {
    Mode.FULL: "everything works",
    Mode.LIMITED: "protection goes on with the last databases, without updates",
    Mode.OFF: "nothing is protected",
}
_LEFT = {
    Mode.FULL: "keep everything for the time being",
    Mode.LIMITED: "go on with the last databases, without updates",
    Mode.OFF: "are unprotected",
}
_LEFT_ONE = {
    Mode.FULL: "keeps everything for the time being",
    Mode.LIMITED: "goes on with the last databases, without updates",
    Mode.OFF: "is unprotected",
}
_WILL_BE_LEFT = {
    Mode.FULL: "will keep everything for the time being",
    Mode.LIMITED: "will go on with the last databases, without updates",
    Mode.OFF: "will be unprotected",
}
_WHY = {
    GapReason.NO_KEY: ("the SVM has no key", ("R45", "R95")),
    GapReason.NO_KEY_FOR_CLASS: ("none of its keys is for them", ("R33", "R90")),
    GapReason.KEY_EXPIRED: ("{key} has ended and no reserve took over", ("R71",)),
    GapReason.TRIAL_EXPIRED: ("{key} was a trial and is over", ("R70",)),
    GapReason.SUBSCRIPTION_ENDED: ("the subscription {key} has ended", ("R59", "R60")),
    GapReason.SUBSCRIPTION_PAUSED: ("the subscription {key} is paused", ("R56", "R96")),
    GapReason.KEY_BLOCKED: ("{key} is blocked", ("R72", "R95")),
    GapReason.KEY_VOID: ("its keys are void", ("R54", "R82")),
    GapReason.KEY_NOT_STARTED: ("{key} has not started, as the clock was set back", ("R82",)),
}
_VOID = (
    "Its keys are void, since its clock was changed by more than a day: set the clock right, forget"
    " the SVM, let it connect again, and activate it."
)
_WHY_AHEAD = _WHY | {
    GapReason.KEY_EXPIRED: ("{key} ends then and no reserve waits behind it", ("R71",)),
    GapReason.TRIAL_EXPIRED: ("{key} is a trial, which is over then", ("R70",)),
    GapReason.SUBSCRIPTION_ENDED: ("the subscription {key} is over then", ("R59", "R60")),
}
_PROMOTED = ChangeKind.RESERVE_PROMOTED


def tell_present(svm: SvmSituation, now: datetime, terms: KeyTerms = NO_TERMS) -> list[Sentence]:
    """How the SVM stands at `now`, and under which keys; its guests by class."""
    keyring = settle(svm.keyring, now).keyring
    mode = mode_at(
        keyring,
        now,
        block_grace=terms.block_grace,
        subscriptions=terms.subscriptions,
        block_graces=terms.block_graces,
        void=svm.void,
    )
    told = [
        Sentence(
            f"{svm.svm_id} is in {mode.value} mode: {_MODES[mode]}.",
            ("R95",) if mode is not Mode.LIMITED else ("R71", "R95"),
        )
    ]
    if svm.void:
        told.append(Sentence(_VOID, ("R54", "R82")))
    verb = "holds" if svm.void else "runs under"
    told += [_of_key(held, keyring, now, terms, verb) for held in keyring.actives()]
    if not svm.guests.total:
        told.append(Sentence("It reports no guests, so there is nothing to protect yet."))
    fleet = WalkedFleet(now, now + timedelta(minutes=1), (), terms)
    uncovered = uncovered_classes(
        keyring, svm.guests, now, subscriptions=terms.subscriptions, void=svm.void
    )
    for os_class in OsClass:
        if os_class in uncovered:
            gap = next(one for one in fleet.gaps(svm) if one.os_class is os_class)
            left = _LEFT_ONE[gap.mode] if svm.guests.count(os_class) == 1 else _LEFT[gap.mode]
            text, rules = _gap_words(svm, gap, left)
            told.append(Sentence(f"{upper_first(text)}.", rules))
        elif count := svm.guests.count(os_class):
            verb = "is" if count == 1 else "are"
            told.append(Sentence(f"{upper_first(_guests(os_class, count))} {verb} protected."))
    return told


def tell_outlook(
    svm: SvmSituation, now: datetime, until: datetime, terms: KeyTerms = NO_TERMS
) -> list[Sentence]:
    """What time alone will do to the SVM in (now, until), oldest first."""
    found = sorted(
        [*_promotions(svm, now, until), *_gaps_ahead(svm, now, until, terms)],
        key=lambda sentence: sentence.at or now,
    )
    if not found:
        return [Sentence(f"Nothing changes until {until:%-d %B %Y}, if nobody does anything.")]
    return found


def _of_key(held: HeldKey, keyring: Keyring, now: datetime, terms: KeyTerms, verb: str) -> Sentence:
    key = held.key
    name = key_name(Slot(key.type, Role.ACTIVE), key.serial)
    what = f"{key.kind.value.lower()}, {key.edition.value.lower()}"
    subscription = terms.subscriptions.get(key.serial)
    if held.blocked_at is None and subscription is not None:
        return _of_subscription(f"It {verb} {name} ({what})", subscription, now)
    if not in_force(held, now):
        state = "is blocked" if held.blocked_at else f"ended on {_date(key.expires_at)}"
        if held.blocked_at is None and not key.has_expired_at(now):
            state = f"starts on {_date(key.not_before)} only"
        return Sentence(
            f"{upper_first(name)} ({what}) {state}, and nothing has taken its place.",
            ("R72",) if held.blocked_at else ("R71",),
        )
    end = f"until {_date(key.expires_at)}" if key.expires_at else "without an end"
    text, rules = f"It {verb} {name} ({what}) {end}", ["R38"]
    reserve = keyring.reserve(key.type)
    if reserve is not None:
        text += f"; {reserve.key.serial} waits behind it, until {_date(reserve.key.expires_at)}"
        rules += ["R1", "R11"]
    else:
        text += ", with no reserve behind it"
    return Sentence(f"{text}.", tuple(rules))


def _of_subscription(text: str, subscription: Subscription, now: datetime) -> Sentence:
    state = subscription.state_at(now).value.lower().replace("_", " ")
    text += f", a subscription that its provider calls {state}"
    ends, grace_ends = subscription.ends_at, subscription.grace_ends_at
    if ends is not None:
        text += f"; it {'ends' if ends > now else 'ended'} on {_date(ends)}"
    if grace_ends is not None and grace_ends > now and grace_ends != ends:
        text += f", and its grace lasts until {_date(grace_ends)}"
    return Sentence(f"{text}.", ("R55", "R58", "R96"))


def _promotions(svm: SvmSituation, now: datetime, until: datetime) -> Iterator[Sentence]:
    start = settle(svm.keyring, now).keyring
    for change in settle(start, until).changes:
        if change.kind is _PROMOTED and change.at < until:
            name = key_name(change.slot, change.serial)
            yield Sentence(
                f"{upper_first(name)} will take over from {change.previous_serial} by itself.",
                ("R11", "R87"),
                change.at,
            )


def _gaps_ahead(
    svm: SvmSituation, now: datetime, until: datetime, terms: KeyTerms
) -> Iterator[Sentence]:
    gaps: Sequence[Gap] = WalkedFleet(now, until, (), terms).gaps(svm)
    for gap in gaps:
        if gap.starts_at > now:
            text, rules = _gap_words(svm, gap, _WILL_BE_LEFT[gap.mode], _WHY_AHEAD)
            ending = f", until {_date(gap.ends_at)}" if gap.ends_at else ""
            hope = ""
            if gap.may_renew_itself:
                hope = "; the server will ask the activation server for a successor"
                rules = (*rules, "R16")
            yield Sentence(f"{upper_first(text)}{ending}{hope}.", rules, gap.starts_at)
        elif gap.ends_at is not None:
            which = _guests(gap.os_class, svm.guests.count(gap.os_class))
            goes_on = any(
                one.os_class is gap.os_class and one.starts_at == gap.ends_at for one in gaps
            )
            if not goes_on:
                yield Sentence(f"{upper_first(which)} will be protected again.", (), gap.ends_at)


def _gap_words(
    svm: SvmSituation,
    gap: Gap,
    left: str,
    reasons: Mapping[GapReason, tuple[str, tuple[str, ...]]] = _WHY,
) -> tuple[str, tuple[str, ...]]:
    count = svm.guests.count(gap.os_class)
    why, rules = reasons[gap.reason]
    key = "its key"
    if gap.serial is not None:
        held = [one.key for one in svm.keyring.slots.values() if one.key.serial == gap.serial]
        types = [one.type for one in held]
        covering = next((one for one in types if covers(one, gap.os_class)), None)
        key = key_name(Slot(covering, Role.ACTIVE), gap.serial) if covering else gap.serial
    return f"{_guests(gap.os_class, count)} {left}, since {why.format(key=key)}", rules


def _guests(os_class: OsClass, count: int) -> str:
    name = f"{os_class.value.lower()} guest"
    return f"its one {name}" if count == 1 else f"its {count} {name}s"


def _date(instant: datetime | None) -> str:
    return "-" if instant is None else f"{instant:%-d %B %Y, %H:%M} UTC"
