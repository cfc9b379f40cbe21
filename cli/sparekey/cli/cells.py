"""The cells of tables: words for enum values, colours by meaning, nothing that moves a cursor.

A colour never says what the words beside it do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sparekey.cli.relative_time import iso, iso_date, relative

GOOD = "green"
WAITS = "cyan"
CAUTION = "yellow"
BAD = "bold red"
FAINT = "dim"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SHORT_SERIAL = 8
_WIDE = 110
_MIDDLING = 85


def plain(value: str) -> str:
    """The text without characters that would steer a terminal: some come from agents."""
    return _CONTROL.sub("\ufffd", value)


def cell(value: object, style: str = "") -> Text:
    """A cell that shows the value as it is, brackets and all."""
    return Text(plain(str(value)), style=style)


def word(enum_type: Any, number: int) -> str:
    """An enum value as a word: `SVM_STATE_NOT_SEEN` is `not seen`.

    A value from a newer server is shown by its number.
    """
    names = enum_type.DESCRIPTOR.values_by_number
    if number == 0:
        return "-"
    if number not in names:
        return f"unknown ({number})"
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    name: str = names[number].name
    return name.removeprefix(prefix).replace("_", " ").lower()


def instant_cell(instant: datetime | None) -> Text:
    """An instant to the second, or `-`."""
    return cell(iso(instant) if instant else "-")


def ends_cell(instant: datetime, now: datetime, style: str) -> Text:
    """How far the end is, and below it the date."""
    text = cell(relative(instant, now), style)
    text.append(f"\n{iso_date(instant)}", FAINT)
    return text


def short_serial(serial: str) -> str:
    """The last characters of a serial; enough to tell keys apart in a narrow table."""
    shown = plain(serial)
    return shown if len(shown) <= _SHORT_SERIAL else "…" + shown[-_SHORT_SERIAL:]


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One key in a cell: some words and its serial."""

    words: str
    serial: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class KeyLines:
    """Keys in a cell, with their whole serials where there is room and else with their ends."""

    keys: Sequence[KeyLine]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        for key in self.keys:
            yield self._fitting(key, options.max_width)

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        # Asked with the whole table's width, a cell that could be narrow must say
        # so, or the table takes the room from columns that cannot.
        short = [(len(key.words), len(short_serial(key.serial))) for key in self.keys]
        least = max((max(sizes) for sizes in short), default=0)
        if options.max_width >= _WIDE:
            most = max((len(f"{key.words} {key.serial}") for key in self.keys), default=0)
        elif options.max_width >= _MIDDLING:
            most = max((sum(sizes) + 1 for sizes in short), default=0)
        else:
            most = least
        return Measurement(least, max(least, most)).with_maximum(options.max_width)

    @staticmethod
    def _fitting(key: KeyLine, width: int) -> Text:
        serial = plain(key.serial)
        for shown in (f"{key.words} {serial}", f"{key.words} {short_serial(serial)}"):
            if len(shown) <= width:
                return Text(shown.strip(), key.style)
        return Text(f"{key.words}\n{short_serial(serial)}".strip(), key.style)


@dataclass(frozen=True, slots=True)
class NameCell:
    """A name that is folded early in a narrow table, so that one long name costs the others little.

    Attributes:
        text: The name, and what stands below it.
        narrow: How many characters it takes at most in a narrow table.
    """

    text: Text
    narrow: int

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        most = console.measure(self.text).maximum
        if options.max_width < _MIDDLING:
            most = min(most, self.narrow)
        return Measurement(min(most, self.narrow), most).with_maximum(options.max_width)


def new_table(*, caption: str | None = None) -> Table:
    """An empty table in the house's form: no lines, columns two blanks apart."""
    return Table(
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        header_style="bold",
        caption=Text(caption, FAINT) if caption else None,
        caption_justify="left",
    )


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Labels and values, one a line; for everything there is to say of one thing."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=FAINT, no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, cell(value) if isinstance(value, str | int) else value)  # type: ignore[arg-type]
    return grid
