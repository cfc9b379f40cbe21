"""Events as tables and as lines."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from sparekey.cli.cells import (
    BAD,
    CAUTION,
    FAINT,
    GOOD,
    cell,
    instant_cell,
    new_table,
    plain,
    word,
)
from sparekey.cli.relative_time import iso
from sparekey.v1 import event_pb2, key_pb2, keyring_pb2, license_pb2
from sparekey.wire.timestamps import instant_or_none

_STYLES = {
    event_pb2.EVENT_KIND_KEY_BLOCKED: BAD,
    event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED: BAD,
    event_pb2.EVENT_KIND_CLONE_REFUSED: BAD,
    event_pb2.EVENT_KIND_INSTRUCTION_REFUSED: CAUTION,
    event_pb2.EVENT_KIND_PUSH_STALLED: CAUTION,
    event_pb2.EVENT_KIND_CLOCK_SKEW: CAUTION,
    event_pb2.EVENT_KIND_DEADLINE_EXCEEDED: CAUTION,
    event_pb2.EVENT_KIND_TASK_CANCELLED: CAUTION,
    event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE: GOOD,
}
_SEVERITY_STYLES = {
    event_pb2.SEVERITY_WARNING: CAUTION,
    event_pb2.SEVERITY_CRITICAL: BAD,
}
_CHANGE_STYLES = {
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_EXPIRED: BAD,
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_BLOCKED: BAD,
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_REMOVED: CAUTION,
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_REMOVED: CAUTION,
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED: GOOD,
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_ACTIVATED: GOOD,
}


def event_table(events: Iterable[event_pb2.Event]) -> Table:
    """Events, one a row, in the order given; times are those that the events belong to."""
    table = new_table()
    table.add_column("CURSOR", justify="right", no_wrap=True)
    table.add_column("TIME", no_wrap=True)
    table.add_column("EVENT", max_width=12)
    table.add_column("SVM", overflow="fold")
    table.add_column("WHAT", overflow="fold", min_width=16)
    for event in events:
        table.add_row(
            cell(event.cursor),
            instant_cell(instant_or_none(event, "occurred_at")),
            cell(event_words(event), _style(event)),
            cell(event.svm_id or "-"),
            cell(_what(event)),
        )
    return table


def event_line(event: event_pb2.Event) -> Text:
    """One event as one line, for following."""
    instant = instant_or_none(event, "occurred_at")
    text = Text(iso(instant) if instant else "-", FAINT)
    text.append("  ")
    text.append(event_words(event), _style(event))
    if event.svm_id:
        text.append(f"  {plain(event.svm_id)}", "bold")
    text.append(f"  {plain(_what(event))}")
    return text


def event_words(event: event_pb2.Event) -> str:
    """What happened in few words; of a keyring's change, which change."""
    if event.kind == event_pb2.EVENT_KIND_KEYRING_CHANGED and event.HasField("change"):
        return word(keyring_pb2.KeyringChangeKind, event.change.kind)
    return word(event_pb2.EventKind, event.kind)


def _style(event: event_pb2.Event) -> str:
    if event.HasField("change"):
        return _CHANGE_STYLES.get(event.change.kind, "")
    return _STYLES.get(event.kind) or _SEVERITY_STYLES.get(event.severity, "")


def _what(event: event_pb2.Event) -> str:
    if event.message:
        return event.message
    parts = [event.key_serial, event.task_id]
    if event.HasField("change"):
        slot = word(key_pb2.KeyType, event.change.slot.type)
        reason = word(keyring_pb2.KeyringChangeReason, event.change.reason)
        parts = [event.change.serial, f"({slot}, {reason})"]
    if event.refusal:
        parts.append(word(license_pb2.RefusalReason, event.refusal))
    return " ".join(part for part in parts if part) or "-"
