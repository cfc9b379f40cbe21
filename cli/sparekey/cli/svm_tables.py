"""SVMs as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sparekey.cli.cells import (
    BAD,
    CAUTION,
    FAINT,
    GOOD,
    KeyLine,
    KeyLines,
    NameCell,
    cell,
    ends_cell,
    facts,
    instant_cell,
    new_table,
    word,
)
from sparekey.cli.relative_time import iso_date
from sparekey.v1 import fleet_pb2, key_pb2, keyring_pb2
from sparekey.wire.timestamps import instant_or_none

_SOON = timedelta(days=14)
_PREDICTED = "predicted: what the rules say; the SVM has not confirmed it yet"
_MODE_STYLES = {
    fleet_pb2.PROTECTION_MODE_FULL: GOOD,
    fleet_pb2.PROTECTION_MODE_LIMITED: CAUTION,
    fleet_pb2.PROTECTION_MODE_OFF: BAD,
}


_STATUS_STYLES = {
    fleet_pb2.SVM_STATUS_OK: GOOD,
    fleet_pb2.SVM_STATUS_WARNING: CAUTION,
    fleet_pb2.SVM_STATUS_CRITICAL: BAD,
}
_REASONS = {
    fleet_pb2.SVM_STATUS_REASON_NO_ACTIVE_KEY: "no active key: activate it",
    fleet_pb2.SVM_STATUS_REASON_KEY_EXPIRED: "its key has expired: activate it with another",
    fleet_pb2.SVM_STATUS_REASON_KEY_BLOCKED: "its key is blocked: activate it with another",
    fleet_pb2.SVM_STATUS_REASON_KEY_VOID: (
        "its clock was changed: set it right, forget the SVM, and activate it anew"
    ),
    fleet_pb2.SVM_STATUS_REASON_SUBSCRIPTION_OVER: (
        "its subscription is over: have it renewed, then run its task again"
    ),
    fleet_pb2.SVM_STATUS_REASON_SUBSCRIPTION_PAUSED: "its subscription is paused or not begun",
    fleet_pb2.SVM_STATUS_REASON_SUBSCRIPTION_IN_GRACE: "its subscription is in its grace period",
    fleet_pb2.SVM_STATUS_REASON_EXPIRES_SOON: "its key ends soon and has no reserve: add one",
    fleet_pb2.SVM_STATUS_REASON_UNCOVERED_OS_CLASS: "it has guests that no key covers",
    fleet_pb2.SVM_STATUS_REASON_SILENT: "nothing was heard of it for two hours",
}


def svm_table(svms: Iterable[fleet_pb2.Svm], now: datetime) -> Table:
    """SVMs, one a row, in the order given, by the keys that they hold now.

    Where the server predicts a keyring, that one is shown, and said to be.
    """
    listed = list(svms)
    predicted = any(svm.HasField("predicted_keyring") for svm in listed)
    table = new_table(caption=_PREDICTED if predicted else None)
    table.add_column("SVM", overflow="fold")
    table.add_column("CLUSTER", overflow="fold")
    table.add_column("LINK", no_wrap=True)
    table.add_column("MODE", no_wrap=True)
    table.add_column("ACTIVE")
    table.add_column("RESERVE")
    table.add_column("ENDS", min_width=10)
    for svm in listed:
        reserves = _held(svm, keyring_pb2.KEY_ROLE_RESERVE)
        actives = _held(svm, keyring_pb2.KEY_ROLE_ACTIVE)
        table.add_row(
            _name(svm),
            NameCell(cell(svm.cluster or "-"), narrow=8),
            _link(svm),
            _mode(svm, with_status=True),
            _keys(actives) if actives else cell("none", BAD),
            _keys(reserves) if reserves else cell("none", FAINT),
            _ends(actives, bool(reserves), now),
        )
    return table


def svm_details(svm: fleet_pb2.Svm, now: datetime) -> Group:
    """Everything about one SVM, and a table of its keys."""
    guests, host = svm.guests, svm.host_cpu
    rows: list[tuple[str, object]] = [
        ("svm", svm.svm_id),
        ("cluster", svm.cluster or "-"),
        ("link", _link(svm)),
        ("mode", _mode(svm)),
        ("status", _status(svm)),
        (
            "guests",
            f"{guests.servers} servers, {guests.desktops} desktops, {guests.unknown} unknown",
        ),
        ("host", f"{host.host_uuid or '-'}: {host.processors} processors, {host.cores} cores"),
        ("in wide tasks", "no, excluded" if svm.excluded else "yes"),
        ("pending", f"{svm.pending_instruction_count} instructions"),
        ("registered", instant_cell(instant_or_none(svm, "registered_at"))),
        ("last seen", instant_cell(instant_or_none(svm, "last_seen_at"))),
        ("agent", svm.agent_version or "-"),
        ("keyring", f"revision {svm.keyring.revision}"),
    ]
    parts: list[Table | Text] = [facts(rows), Text()]
    if svm.HasField("predicted_keyring"):
        parts.append(held_key_table(svm.predicted_keyring.keys, now, caption=_PREDICTED))
    else:
        parts.append(held_key_table(svm.keyring.keys, now))
    return Group(*parts)


def held_key_table(
    keys: Iterable[keyring_pb2.HeldKey], now: datetime, *, caption: str | None = None
) -> Table:
    """The keys that one SVM holds, one a row."""
    table = new_table(caption=caption)
    table.add_column("SLOT")
    table.add_column("SERIAL", no_wrap=True)
    table.add_column("KEY")
    table.add_column("ENDS", min_width=10)
    for key in keys:
        slot = f"{_type(key)} {word(keyring_pb2.KeyRole, key.slot.role)}"
        kind, edition = word(key_pb2.KeyKind, key.kind), word(key_pb2.Edition, key.edition)
        table.add_row(
            cell(slot), cell(key.serial), cell(f"{kind} {edition}"), _ends([key], True, now)
        )
    return table


def _held(svm: fleet_pb2.Svm, role: int) -> list[keyring_pb2.HeldKey]:
    keyring = svm.predicted_keyring if svm.HasField("predicted_keyring") else svm.keyring
    return [key for key in keyring.keys if key.slot.role == role]


def _type(key: keyring_pb2.HeldKey) -> str:
    return word(key_pb2.KeyType, key.slot.type)


def _name(svm: fleet_pb2.Svm) -> NameCell:
    text = cell(svm.svm_id)
    if svm.excluded:
        text.append("\nexcluded", FAINT)
    if svm.HasField("predicted_keyring"):
        text.append("\npredicted", FAINT)
    return NameCell(text, narrow=13)


def _link(svm: fleet_pb2.Svm) -> Text:
    connected = svm.link_state == fleet_pb2.LINK_STATE_CONNECTED
    text = cell(word(fleet_pb2.LinkState, svm.link_state), GOOD if connected else CAUTION)
    if svm.push_stalled:
        text.append("\nstalled", BAD)
    elif svm.pending_instruction_count:
        text.append(f"\n{svm.pending_instruction_count} to do", CAUTION)
    return text


def _status(svm: fleet_pb2.Svm) -> Text:
    """How it is, and in words why."""
    text = cell(word(fleet_pb2.SvmStatus, svm.status), _STATUS_STYLES.get(svm.status, ""))
    for reason in svm.status_reasons:
        text.append(f"\n{_REASONS.get(reason, word(fleet_pb2.SvmStatusReason, reason))}")
    return text


def _mode(svm: fleet_pb2.Svm, *, with_status: bool = False) -> Text:
    """The mode; in lists with the status below it, where that is not OK."""
    text = cell(word(fleet_pb2.ProtectionMode, svm.mode), _MODE_STYLES.get(svm.mode, ""))
    if with_status and svm.status in _STATUS_STYLES and svm.status != fleet_pb2.SVM_STATUS_OK:
        status = word(fleet_pb2.SvmStatus, svm.status)
        text.append(f"\n{status}", _STATUS_STYLES[svm.status])
    return text


def _keys(keys: Sequence[keyring_pb2.HeldKey]) -> KeyLines:
    return KeyLines([KeyLine(_type(key), key.serial) for key in keys])


def _end(key: keyring_pb2.HeldKey) -> datetime | None:
    ends = [instant_or_none(key, "expires_at"), instant_or_none(key, "blocked_at")]
    return min((end for end in ends if end is not None), default=None)


def _ends(keys: Sequence[keyring_pb2.HeldKey], has_reserve: bool, now: datetime) -> Text:
    """When the last of the keys ends: the longer of two (R39)."""
    ends = [end for key in keys if (end := _end(key)) is not None]
    if not keys:
        return cell("-", FAINT)
    if len(ends) < len(keys):
        return cell("no end", GOOD)
    last = max(ends)
    if last <= now and all(key.HasField("blocked_at") for key in keys):
        text = cell("blocked", BAD)
        text.append(f"\n{iso_date(last)}", FAINT)
        return text
    style = BAD if last <= now else CAUTION if last - now <= _SOON and not has_reserve else GOOD
    return ends_cell(last, now, style)
