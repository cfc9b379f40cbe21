"""Tasks and their outcomes as tables."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from sparekey.cli.cells import (
    BAD,
    CAUTION,
    FAINT,
    GOOD,
    WAITS,
    KeyLine,
    KeyLines,
    cell,
    instant_cell,
    new_table,
    plain,
    word,
)
from sparekey.cli.relative_time import iso
from sparekey.v1 import keyring_pb2, license_pb2
from sparekey.wire.timestamps import instant_or_none

_TASK_STYLES = {
    license_pb2.TASK_STATE_RUNNING: WAITS,
    license_pb2.TASK_STATE_SUCCEEDED: GOOD,
    license_pb2.TASK_STATE_PARTIAL: CAUTION,
    license_pb2.TASK_STATE_FAILED: BAD,
    license_pb2.TASK_STATE_CANCELLED: BAD,
}
_OUTCOME_STYLES = {
    license_pb2.OUTCOME_STATE_PENDING: WAITS,
    license_pb2.OUTCOME_STATE_APPLIED: GOOD,
    license_pb2.OUTCOME_STATE_UNCHANGED: GOOD,
    license_pb2.OUTCOME_STATE_REFUSED: BAD,
    license_pb2.OUTCOME_STATE_SUPERSEDED: CAUTION,
    license_pb2.OUTCOME_STATE_DEADLINE_EXCEEDED: BAD,
    license_pb2.OUTCOME_STATE_CANCELLED: CAUTION,
}
ADVICE_WORDS = {
    license_pb2.ADVICE_OS_MIX_MISMATCH: "it reports no guests that this key is for",
    license_pb2.ADVICE_RESERVE_COVERAGE_GAP: "a reserve for its other guests is missing",
    license_pb2.ADVICE_UNCOVERED_OS_CLASS: "no active key covers some of its guests",
    license_pb2.ADVICE_MIXED_EDITIONS: "editions differ; settle on one",
    license_pb2.ADVICE_MIXED_SCHEMES: "licensing schemes differ; settle on one",
    license_pb2.ADVICE_RESERVE_STARTS_LATE: "the reserve starts after the active key ends",
    license_pb2.ADVICE_KEYS_VOID: "its keys are void and stay so until it is set up anew",
}
"""What an advice says, in few words."""


def outcome_table(outcomes: Iterable[license_pb2.Outcome]) -> Table:
    """Outcomes, one SVM a row, in the order given, with why and what to do next."""
    table = new_table()
    table.add_column("SVM", overflow="fold")
    table.add_column("OUTCOME", max_width=10)
    table.add_column("REASON", max_width=16)
    table.add_column("MESSAGE", overflow="fold")
    for outcome in outcomes:
        state = word(license_pb2.OutcomeState, outcome.state)
        table.add_row(
            cell(outcome.svm_id),
            cell(state, _OUTCOME_STYLES.get(outcome.state, "")),
            cell(word(license_pb2.RefusalReason, outcome.reason)),
            _message(outcome),
        )
    return table


def task_table(tasks: Iterable[license_pb2.Task]) -> Table:
    """Tasks, one a row, in the order given."""
    table = new_table()
    table.add_column("TASK", overflow="fold")
    table.add_column("KEY")
    table.add_column("SCOPE", overflow="fold")
    table.add_column("STATE", no_wrap=True)
    table.add_column("STARTED", no_wrap=True)
    for task in tasks:
        role = word(keyring_pb2.KeyRole, task.role)
        table.add_row(
            cell(task.task_id),
            KeyLines([KeyLine(role, task.key_serial)]),
            cell(scope_words(task.scope)),
            _state(task).append(f"\n{_done(task.counts)} of {task.counts.total}", FAINT),
            instant_cell(instant_or_none(task, "created_at")),
        )
    return table


def task_summary(task: license_pb2.Task) -> Text:
    """A task in a few lines: what it puts where, how it stands, when it ends."""
    text = Text()
    text.append(plain(task.task_id) or "dry run", "bold")
    role = word(keyring_pb2.KeyRole, task.role)
    text.append(f": {plain(task.key_serial)} as the {role} key of {scope_words(task.scope)}: ")
    text.append_text(_state(task))
    text.append(f"\n{_counted(task.counts)}")
    if times := _times(task):
        text.append(f"\n{times}", FAINT)
    for advice in task.advice:
        text.append(f"\nadvice: {_advice(advice)}", CAUTION)
    return text


def scope_words(scope: license_pb2.Scope) -> str:
    """A scope in words: `all SVMs`, `cluster east`, `svm-1`, `3 SVMs`."""
    match scope.WhichOneof("selection"):
        case "all":
            return "all SVMs"
        case "cluster":
            return f"cluster {plain(scope.cluster)}"
        case "picked":
            ids = scope.picked.svm_ids
            return plain(ids[0]) if len(ids) == 1 else f"{len(ids)} SVMs"
        case _:
            return "-"


def needs_attention(outcome: license_pb2.Outcome) -> bool:
    """Whether the SVM does not hold the key as asked, or holds it with advice."""
    fine = (license_pb2.OUTCOME_STATE_APPLIED, license_pb2.OUTCOME_STATE_UNCHANGED)
    return outcome.state not in fine or bool(outcome.advice)


def _state(task: license_pb2.Task) -> Text:
    return cell(word(license_pb2.TaskState, task.state), _TASK_STYLES.get(task.state, ""))


def _done(counts: license_pb2.OutcomeCounts) -> int:
    return counts.applied + counts.unchanged


def _advice(number: int) -> str:
    known = ADVICE_WORDS.get(number)  # type: ignore[call-overload]
    return str(known) if known else word(license_pb2.Advice, number)


def _message(outcome: license_pb2.Outcome) -> Text:
    text = cell(outcome.message)
    for advice in outcome.advice:
        text.append(f"{chr(10) if text else ''}advice: {_advice(advice)}", CAUTION)
    return text


def _counted(counts: license_pb2.OutcomeCounts) -> str:
    parts = [
        f"{count} {field.name.replace('_', ' ')}"
        for field in counts.DESCRIPTOR.fields
        if field.name != "total" and (count := getattr(counts, field.name))
    ]
    total = "1 SVM" if counts.total == 1 else f"{counts.total} SVMs"
    return f"{total}: {', '.join(parts)}" if parts else total


def _times(task: license_pb2.Task) -> str:
    labels = {"created_at": "started", "finished_at": "finished", "deadline_at": "deadline"}
    if task.HasField("finished_at"):
        del labels["deadline_at"]
    known = [
        f"{label} {iso(instant)}"
        for field, label in labels.items()
        if (instant := instant_or_none(task, field))
    ]
    if task.created_by:
        known.append(f"by {plain(task.created_by)}")
    return ", ".join(known)
