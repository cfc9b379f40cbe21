"""The story's own tables: one line for each thing, so that before and after can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from rich.table import Table
from rich.text import Text

from sparekey.cli.cells import (
    BAD,
    CAUTION,
    FAINT,
    GOOD,
    WAITS,
    cell,
    instant_cell,
    new_table,
    short_serial,
    word,
)
from sparekey.cli.relative_time import iso_date
from sparekey.testing.story.endings import Ending, How
from sparekey.testing.story.figures import reason_name
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, keyring_pb2, license_pb2
from sparekey.wire.timestamps import instant_or_none

_MODES = {
    fleet_pb2.PROTECTION_MODE_FULL: GOOD,
    fleet_pb2.PROTECTION_MODE_LIMITED: CAUTION,
    fleet_pb2.PROTECTION_MODE_OFF: BAD,
}
_OUTCOMES = {
    license_pb2.OUTCOME_STATE_APPLIED: GOOD,
    license_pb2.OUTCOME_STATE_UNCHANGED: GOOD,
    license_pb2.OUTCOME_STATE_PENDING: WAITS,
}
_CODE_CAPTION = Text("* came by an activation code", FAINT)
_HOW = {How.PROMOTED: GOOD, How.RENEWED_BY_CODE: GOOD, How.LAPSED: BAD}


def key_list(keys: Iterable[key_pb2.Key]) -> Table:
    """Keys, one a line, with their whole serials."""
    table = _table("SERIAL", "KEY", "VALID UNTIL", "CAME BY")
    for key in keys:
        table.add_row(
            cell(key.serial),
            cell(key_words(key.type, key.kind, key.edition)),
            _until(key),
            cell("code" if key.origin == key_pb2.KEY_ORIGIN_ACTIVATION_CODE else "file"),
        )
    return table


def fleet_before(svms: Iterable[fleet_pb2.Svm], keys: Mapping[str, key_pb2.Key]) -> Table:
    """The fleet: which keys each SVM runs under, and whether something stands by."""
    table = _table("SVM", "COVERS", "ACTIVE KEY", "UNTIL", "RESERVE UNTIL", "MODE")
    table.caption = _CODE_CAPTION
    for svm in by_cluster(svms):
        reserves = {key.slot.type: key for key in held(svm, keyring_pb2.KEY_ROLE_RESERVE)}
        name, mode = cell(svm.svm_id), _mode(svm)
        for key in held(svm, keyring_pb2.KEY_ROLE_ACTIVE):
            reserve = reserves.get(key.slot.type)
            table.add_row(
                name,
                cell(_covers(svm, key.slot.type)),
                _active(key, keys),
                _until(key),
                _until(reserve, GOOD) if reserve else cell("none", FAINT),
                mode,
            )
            name = mode = Text()
        if not held(svm, keyring_pb2.KEY_ROLE_ACTIVE):
            covers = cell(_covers(svm, key_pb2.KEY_TYPE_SERVER))
            table.add_row(name, covers, cell("none", BAD), cell("-"), cell("none", FAINT), mode)
    return table


def fleet_after(
    svms: Iterable[fleet_pb2.Svm], keys: Mapping[str, key_pb2.Key], endings: Sequence[Ending]
) -> Table:
    """The fleet, and what became of each key that ended."""
    by_slot = {(one.svm_id, one.type): one for one in endings}
    table = _table("SVM", "ACTIVE KEY", "UNTIL", "WHAT HAPPENED", "MODE")
    table.caption = _CODE_CAPTION
    for svm in by_cluster(svms):
        name, mode = cell(svm.svm_id), _mode(svm)
        for key in held(svm, keyring_pb2.KEY_ROLE_ACTIVE):
            ending = by_slot.get((svm.svm_id, key.slot.type))
            happened = cell("its key has not ended", FAINT)
            if ending is not None:
                words = f"{ending.how.value} {iso_date(ending.ended_at)}"
                happened = cell(words, _HOW[ending.how])
            table.add_row(name, _active(key, keys), _until(key), happened, mode)
            name = mode = Text()
        if not held(svm, keyring_pb2.KEY_ROLE_ACTIVE):
            never = cell("it never had a key", FAINT)
            table.add_row(name, cell("none", BAD), cell("-"), never, mode)
    return table


def promotions(endings: Iterable[Ending]) -> Table:
    """Every promotion with its instant."""
    table = _table("SVM", "KEY TYPE", "PROMOTED AT", "IN PLACE OF", "NEW KEY", "GAP")
    for one in endings:
        if one.how is How.PROMOTED:
            table.add_row(
                cell(one.svm_id),
                cell(word(key_pb2.KeyType, one.type)),
                instant_cell(one.next_at),
                cell(short_serial(one.serial)),
                cell(short_serial(one.next_serial)),
                cell("none", GOOD) if one.gap == timedelta(0) else cell(one.gap, BAD),
            )
    return table


def outcome_groups(task: license_pb2.Task, *, with_messages: bool = True) -> Table:
    """A task's outcomes, SVMs of the same fate in one line, with the next step."""
    groups: dict[tuple[int, int, str], list[str]] = {}
    for one in task.outcomes:
        text = one.message if with_messages else ""
        groups.setdefault((one.state, one.reason, text), []).append(one.svm_id)
    table = _table("OUTCOME")
    table.add_column("SVMS", max_width=22 if with_messages else None)
    if with_messages:
        table.add_column("WHY, AND WHAT TO DO")
    for (state, reason, text), svm_ids in sorted(groups.items()):
        label = reason_name(reason) if reason else word(license_pb2.OutcomeState, state)  # type: ignore[arg-type]
        style = _OUTCOMES.get(state, BAD)  # type: ignore[call-overload]
        row = [cell(label, style), cell(", ".join(svm_ids))]
        table.add_row(*row, *([cell(text)] if with_messages else []))
    return table


def task_line(task: license_pb2.Task) -> Text:
    """How a task stands, in one line."""
    counts = task.counts
    parts = [
        f"{number} {field.name}"
        for field in counts.DESCRIPTOR.fields
        if field.name != "total" and (number := getattr(counts, field.name))
    ]
    state = word(license_pb2.TaskState, task.state)
    return Text(f"{task.task_id} {state}, {counts.total} SVMs: {', '.join(parts)}")


def history(events: Iterable[event_pb2.Event]) -> Table:
    """What the history says, by date."""
    table = _table("DATE", "SVM")
    table.add_column("WHAT THE HISTORY SAYS")
    for event in events:
        occurred_at = instant_or_none(event, "occurred_at")
        date = iso_date(occurred_at) if occurred_at else "-"
        table.add_row(cell(date), cell(event.svm_id), cell(_message(event)))
    return table


def verdict(rows: Iterable[tuple[str, int, str, str]]) -> Table:
    """Figures with their labels and, where it helps, the SVMs: label, figure, style, who."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    table.add_column()
    for label, figure, style, who in rows:
        table.add_row(cell(label), cell(figure, style), cell(who))
    return table


def key_words(key_type: int, kind: int, edition: int) -> str:
    """A key in two words: what it counts, and its edition or that it is a subscription."""
    if kind == key_pb2.KEY_KIND_SUBSCRIPTION:
        return f"{word(key_pb2.KeyType, key_type)} subscription"
    return f"{word(key_pb2.KeyType, key_type)} {word(key_pb2.Edition, edition)}"


def held(svm: fleet_pb2.Svm, role: keyring_pb2.KeyRole.ValueType) -> list[keyring_pb2.HeldKey]:
    """The keys that an SVM holds in a role."""
    return [key for key in svm.keyring.keys if key.slot.role == role]


def by_cluster(svms: Iterable[fleet_pb2.Svm]) -> list[fleet_pb2.Svm]:
    """SVMs by cluster and id."""
    return sorted(svms, key=lambda svm: (svm.cluster, svm.svm_id))


def _table(*columns: str) -> Table:
    table = new_table()
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _active(key: keyring_pb2.HeldKey, keys: Mapping[str, key_pb2.Key]) -> Text:
    text = cell(key_words(key.slot.type, key.kind, key.edition))
    stored = keys.get(key.serial)
    if stored is not None and stored.origin == key_pb2.KEY_ORIGIN_ACTIVATION_CODE:
        text.append(" *")
    return text


def _until(key: keyring_pb2.HeldKey | key_pb2.Key, style: str = "") -> Text:
    ends = instant_or_none(key, "expires_at")
    return cell(iso_date(ends) if ends else "no end", style)


def _covers(svm: fleet_pb2.Svm, key_type: int) -> str:
    match key_type:
        case key_pb2.KEY_TYPE_DESKTOP:
            return f"{svm.guests.desktops} desktops"
        case key_pb2.KEY_TYPE_CORES:
            return f"{svm.host_cpu.cores} cores"
        case key_pb2.KEY_TYPE_PROCESSORS:
            return f"{svm.host_cpu.processors} processors"
        case _:
            return f"{svm.guests.servers} servers"


def _message(event: event_pb2.Event) -> str:
    """An event's sentence; of a change that nobody asked for also the reason."""
    asked_for = event.change.reason == keyring_pb2.KEYRING_CHANGE_REASON_REQUESTED
    if not event.HasField("change") or asked_for:
        return event.message
    return f"{event.message} Why: {word(keyring_pb2.KeyringChangeReason, event.change.reason)}."


def _mode(svm: fleet_pb2.Svm) -> Text:
    return cell(word(fleet_pb2.ProtectionMode, svm.mode), _MODES.get(svm.mode, ""))
