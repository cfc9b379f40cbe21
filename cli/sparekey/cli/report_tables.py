"""Reports as tables: usage, forecasts with a timeline, plans with their commands, stories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sparekey.cli.cells import (
    BAD,
    CAUTION,
    FAINT,
    GOOD,
    cell,
    ends_cell,
    new_table,
    short_serial,
    word,
)
from sparekey.cli.relative_time import iso, iso_date
from sparekey.v1 import fleet_pb2, key_pb2, keyring_pb2, report_pb2
from sparekey.wire.timestamps import from_timestamp, instant_or_none

_TIMELINE = 24
_COVERED = "─"
_MARKS = {
    fleet_pb2.PROTECTION_MODE_FULL: "░",
    fleet_pb2.PROTECTION_MODE_LIMITED: "▒",
    fleet_pb2.PROTECTION_MODE_OFF: "█",
}
_LEGEND = "─ covered  ░ blocked, still in its grace  ▒ limited  █ unprotected"
_NAMED = 2
"""So many SVMs are named in a row; of more the number says enough."""

_SOON = timedelta(days=30)


def usage_table(rows: Iterable[report_pb2.KeyUsage], now: datetime) -> Table:
    """How much of each key is used, one a row."""
    table = new_table()
    table.add_column("SERIAL", no_wrap=True)
    table.add_column("KEY")
    for heading in ("USED", "LIMIT", "OVER", "SPARE"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ENDS", min_width=10)
    for row in rows:
        key = row.key
        ends = instant_or_none(key, "expires_at")
        what = f"{word(key_pb2.KeyType, key.type)} {word(key_pb2.Edition, key.edition)}"
        on = f"on {_number(key.active_svm_count, 'SVM')}"
        if key.reserve_svm_count:
            on += f", {key.reserve_svm_count} as reserve"
        described = cell(what).append(f"\n{on}", FAINT)
        if key.HasField("blocked_at"):
            described.append("\nblocked", BAD)
        style = BAD if ends and ends <= now else CAUTION if ends and ends - now <= _SOON else GOOD
        table.add_row(
            cell(key.serial if len(key.serial) <= 20 else short_serial(key.serial)),
            described,
            cell(row.units_used),
            cell(key.unit_limit),
            cell(row.units_over or "-", BAD if row.units_over else ""),
            cell(row.units_spare),
            ends_cell(ends, now, style) if ends else cell("no end"),
        )
    return table


def holder_table(holders: Iterable[report_pb2.KeyHolder]) -> Table:
    """The SVMs that hold a key, one a row."""
    table = new_table()
    for heading in ("SVM", "CLUSTER", "AS", "GUESTS", "INSTALLED", "ENDS"):
        table.add_column(heading, overflow="fold")
    for one in holders:
        held, guests = one.held_key, one.guests
        installed, ends = instant_or_none(held, "installed_at"), instant_or_none(held, "expires_at")
        table.add_row(
            cell(one.svm_id),
            cell(one.cluster or "-"),
            cell(word(keyring_pb2.KeyRole, held.slot.role)),
            cell(f"{guests.servers + guests.unknown} servers, {guests.desktops} desktops"),
            cell(iso_date(installed) if installed else "-"),
            cell(iso_date(ends) if ends else "no end"),
        )
    return table


def forecast_view(
    summary: report_pb2.ForecastSummary, gaps: Sequence[report_pb2.CoverageGap]
) -> RenderableType:
    """What a forecast says: some sentences, and gaps that are alike in one row with a timeline."""
    lines = list(_forecast_sentences(summary))
    if not gaps:
        return Group(*lines)
    table = new_table(caption=_LEGEND)
    table.add_column("FROM", no_wrap=True)
    table.add_column("GUESTS")
    table.add_column("WHY")
    start, end = from_timestamp(summary.starts_at), from_timestamp(summary.ends_at)
    table.add_column(f"{iso_date(start)}{iso_date(end):>{_TIMELINE - 10}}", no_wrap=True)
    for some in _alike(gaps):
        table.add_row(*_gap_row(some, start, end))
    return Group(*lines, Text(), table)


def _forecast_sentences(summary: report_pb2.ForecastSummary) -> Iterator[Text]:
    end = iso_date(from_timestamp(summary.ends_at))
    if not summary.gap_count:
        yield cell(
            f"No gap until {end}: every guest of {_number(summary.svm_count, 'SVM')} is covered.",
            GOOD,
        )
        return
    yield cell(
        f"{summary.svm_with_gap_count} of {_number(summary.svm_count, 'SVM')} will have guests"
        f" without a usable key before {end}:",
        BAD,
    )
    for one in summary.classes:
        first = instant_or_none(one, "first_gap_at")
        if first is not None:
            name = word(report_pb2.GuestClass, one.guest_class)
            yield cell(
                f"  {_number(one.guest_count, f'{name} guest')} on"
                f" {_number(one.svm_count, 'SVM')}, the first on {iso(first)}"
            )


def _alike(gaps: Iterable[report_pb2.CoverageGap]) -> list[list[report_pb2.CoverageGap]]:
    groups: dict[tuple[object, ...], list[report_pb2.CoverageGap]] = {}
    for gap in gaps:
        start, end = from_timestamp(gap.starts_at), instant_or_none(gap, "ends_at")
        last = (end is None, end or start)
        key = (start, last, gap.guest_class, gap.mode, gap.reason, gap.key_serial)
        groups.setdefault(key, []).append(gap)
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0], key[1], key[2:]))]


def _gap_row(
    some: Sequence[report_pb2.CoverageGap], start: datetime, end: datetime
) -> tuple[Text, ...]:
    gap = some[0]
    begins, ends = from_timestamp(gap.starts_at), instant_or_none(gap, "ends_at")
    span = cell("now" if begins <= start else iso_date(begins))
    span.append(f"\nto {iso_date(ends)}" if ends else "\nand on", FAINT)
    count = sum(one.guest_count for one in some)
    guests = cell(_number(count, word(report_pb2.GuestClass, gap.guest_class)))
    named = ", ".join(one.svm_id for one in some[:_NAMED])
    more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
    guests.append(f"\n{named}{more}", FAINT)
    why = cell(word(report_pb2.GapReason, gap.reason))
    if gap.key_serial:
        why.append(f"\n{short_serial(gap.key_serial)}", FAINT)
    if gap.may_renew_itself:
        why.append("\nmay renew itself", FAINT)
    return span, guests, why, cell(timeline(gap, start, end))


def timeline(gap: report_pb2.CoverageGap, start: datetime, end: datetime) -> str:
    """A gap as a line of characters from the start of the forecast to its end."""
    step = (end - start) / _TIMELINE
    ends = instant_or_none(gap, "ends_at") or end
    first = int((from_timestamp(gap.starts_at) - start) / step)
    last = max(first + 1, -int((start - ends) // step))  # a short gap is seen too
    mark = _MARKS.get(gap.mode, "?")
    return "".join(mark if first <= place < last else _COVERED for place in range(_TIMELINE))


def plan_view(summary: report_pb2.PlanSummary) -> RenderableType:
    """The keys of a plan in a table, and what no key helps."""
    void = [_void_sentence(summary)] if summary.void_svm_count else []
    if not summary.keys:
        end = iso_date(from_timestamp(summary.ends_at))
        other = " other" if void else ""
        return Group(cell(f"Nothing to do: there is no{other} gap until {end}.", GOOD), *void)
    table = new_table()
    table.add_column("#", justify="right")
    table.add_column("KEY", no_wrap=True)
    table.add_column("TYPE")
    table.add_column("UNITS", justify="right")
    table.add_column("VALID", no_wrap=True)
    table.add_column("FOR")
    for key in summary.keys:
        starts, ends = iso_date(from_timestamp(key.starts_by)), iso_date(from_timestamp(key.until))
        table.add_row(
            cell(key.number),
            cell(key.key_serial) if key.key_serial else cell("to buy", CAUTION),
            cell(f"{word(key_pb2.KeyType, key.type)} {word(key_pb2.Edition, key.edition)}"),
            cell(key.units),
            cell(f"{starts}\nto {ends}"),
            cell(f"{_number(key.guest_count, 'guest')}\non {_number(key.svm_count, 'SVM')}"),
        )
    return Group(table, *void)


def _void_sentence(summary: report_pb2.PlanSummary) -> Text:
    named = ", ".join(summary.void_svm_ids[:_NAMED])
    more = summary.void_svm_count - _NAMED
    more_text = f" and {more} more" if more > 0 else ""
    return cell(
        f"Besides, the keys of {named}{more_text} are void (R82), which no key helps: set the"
        " clock right, forget the SVM, let it connect again, and activate it.",
        BAD,
    )


def plan_commands(
    summary: report_pb2.PlanSummary, tasks: Iterable[report_pb2.PlannedTask]
) -> Iterator[str]:
    """The lines that carry a plan out, as a shell takes them; the earliest task first."""
    for key in summary.keys:
        if not key.key_serial:
            what = f"{word(key_pb2.KeyType, key.type)} {word(key_pb2.Edition, key.edition)}"
            yield f"# buy key {key.number}, commercial, {what}, for {key.units} units, then"
            yield f"sparekey keys add KEY-{key.number}.key"
    for task in sorted(tasks, key=lambda one: from_timestamp(one.run_by)):
        first, last = from_timestamp(task.run_from), from_timestamp(task.run_by)
        now = from_timestamp(summary.starts_at)
        when = "now" if last <= now else f"by {iso(last)}"
        if first > now:
            when += f", not before {iso(first)}"
        yield f"# {when}"
        verb = "activate" if task.role == keyring_pb2.KEY_ROLE_ACTIVE else "renew"
        serial = task.key_serial or f"SERIAL-OF-KEY-{task.key_number}"
        svms = " ".join(f"--svm {svm_id}" for svm_id in task.scope.picked.svm_ids)
        yield f"sparekey {verb} {serial} {svms}"


def _number(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def story_view(told: report_pb2.ExplainSvmResponse) -> RenderableType:
    """An SVM explained: how it stands, how it came to that, what comes."""
    parts: list[RenderableType] = [_sentences(told.present)]
    if told.story:
        title = "How it came to that"
        parts += [Text(), Text(title + (" (the last part)" if told.shortened else ""), "bold")]
        parts.append(_sentences(told.story))
    parts += [Text(), Text("What comes, if nobody does anything", "bold")]
    parts.append(_sentences(told.outlook))
    return Group(*parts)


def _sentences(sentences: Iterable[report_pb2.Sentence]) -> Table:
    listed = list(sentences)
    grid = Table.grid(padding=(0, 2, 0, 0))
    dated = any(one.HasField("at") for one in listed)
    if dated:
        grid.add_column(style=FAINT, no_wrap=True)
    grid.add_column(overflow="fold")
    for one in listed:
        at = instant_or_none(one, "at")
        text = cell(one.text)
        if one.rules:
            text.append(f" [{', '.join(one.rules)}]", FAINT)
        grid.add_row(*([cell(iso(at) if at else "")] if dated else []), text)
    return grid
