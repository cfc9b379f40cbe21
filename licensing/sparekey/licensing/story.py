"""What happened to an SVM's keys, told in sentences with the rules behind them.

The instant is beside a sentence, not in it, so that a list of them reads like a diary.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason
from sparekey.licensing.keyring import Role, Slot

_HEARD_LATE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence; `at` is when it happened or will, None where it holds now.

    `rules` are names such as R11; `cursor` is the event that it tells, 0 for none.
    """

    text: str
    rules: tuple[str, ...] = ()
    at: datetime | None = None
    cursor: int = 0


@dataclass(frozen=True, slots=True)
class ToldChange:
    """A change with who asked for it.

    `recorded_at` is when the server heard of it; `asked_by` and `task_id` are empty where nobody
    asked.
    """

    change: Change
    recorded_at: datetime
    cursor: int = 0
    asked_by: str = ""
    task_id: str = ""


_BY_ITSELF = {
    ChangeReason.SCHEME_CHANGED: (
        "since a key of another scheme came, and two schemes never share an SVM",
        ("R36", "R37"),
    ),
    ChangeReason.RESERVE_ENDS_TOO_EARLY: (
        "since it would not have lasted longer than the new active key",
        ("R18", "R83"),
    ),
    ChangeReason.EDITION_CHANGED: (
        "since the new active key is of another edition",
        ("R86",),
    ),
    ChangeReason.ACTIVE_NOT_COMMERCIAL: (
        "since the new active key is a trial or a subscription, beside which no reserve can wait",
        ("R4", "R86"),
    ),
    ChangeReason.ACTIVE_REMOVED: (
        "since the active key that it was to follow was removed before it had started",
        ("R85",),
    ),
    ChangeReason.EXPIRED: ("since it had expired itself before it was needed", ("R87",)),
    ChangeReason.BLOCKED: ("since it was blocked", ("R72", "R87")),
}


def tell_change(told: ToldChange) -> Sentence:
    """One change as a sentence, as a person would tell it."""
    text, rules = _words(told.change)
    if told.task_id:
        text += f" ({told.task_id} by {told.asked_by})" if told.asked_by else f" ({told.task_id})"
    late = told.recorded_at - told.change.at
    if late > _HEARD_LATE:
        text += f"; the server heard of it {in_words(late)} later"
        rules = (*rules, "R87") if "R87" not in rules else rules
    return Sentence(f"{text}.", rules, told.change.at, told.cursor)


def key_name(slot: Slot, serial: str) -> str:
    """A key as sentences name it, for example `the server key 0001-000001-00000001`."""
    reserve = "reserve " if slot.role is Role.RESERVE else ""
    return f"the {slot.type.value.lower()} {reserve}key {serial}"


def upper_first(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def _words(change: Change) -> tuple[str, tuple[str, ...]]:
    key = upper_first(key_name(change.slot, change.serial))
    old = change.previous_serial or "another"
    by_request = change.reason is ChangeReason.REQUESTED
    match change.kind:
        case ChangeKind.KEY_ACTIVATED:
            name = change.slot.type.value.lower()
            return f"{key} was activated; before, there was no {name} key", ("R38", "R45")
        case ChangeKind.KEY_REPLACED if change.previous_serial == change.serial:
            return f"{key} was activated anew, with other content than before", ("R35",)
        case ChangeKind.KEY_REPLACED:
            return f"{key} took the place of {old}", ("R35", "R38")
        case ChangeKind.KEY_EXPIRED:
            return f"{key} ended, and no valid reserve was there to take over", ("R71", "R87")
        case ChangeKind.KEY_BLOCKED:
            text = (
                f"{key} turned out to be blocked; for a while everything goes on, "
                "so that another key can be added"
            )
            return text, ("R72", "R95")
        case ChangeKind.RESERVE_ADDED:
            return f"{key} was added, to take over when the active one ends", ("R1", "R5")
        case ChangeKind.RESERVE_REPLACED:
            return f"{key} took the place of the reserve {old}", ("R84",)
        case ChangeKind.RESERVE_PROMOTED:
            return _promotion(change, key, old)
        case ChangeKind.KEY_REMOVED | ChangeKind.RESERVE_REMOVED if by_request:
            return f"{key} was removed on request", ("R29",)
        case ChangeKind.KEY_REMOVED | ChangeKind.RESERVE_REMOVED:
            why, rules = _BY_ITSELF.get(change.reason, ("", ()))
            return f"{key} was removed {why}".rstrip(), rules
    raise AssertionError(change.kind)


def _promotion(change: Change, key: str, old: str) -> tuple[str, tuple[str, ...]]:
    waited = f"{key}, which had waited as the reserve, took over"
    match change.reason:
        case ChangeReason.ACTIVE_BLOCKED:
            return f"{waited} at once, since {old} is blocked", ("R85",)
        case ChangeReason.ACTIVE_REMOVED:
            return f"{waited} at once, since {old} was removed", ("R85",)
        case _:
            return f"{waited} by itself, since {old} had ended", ("R11", "R87")


def in_words(span: timedelta) -> str:
    """A span as a person would say it, in whole units of its largest: `2 days`."""
    for unit, name in (
        (timedelta(days=1), "day"),
        (timedelta(hours=1), "hour"),
        (timedelta(minutes=1), "minute"),
    ):
        if span >= unit:
            count = span // unit
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return "a moment"
