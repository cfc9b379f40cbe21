"""How the story is told: headings, short paragraphs, commands, tables and a bar for the time."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from sparekey.cli.cells import FAINT, GOOD
from sparekey.cli.relative_time import iso_date

_WIDEST = 100
_READABLE = 88


class Teller:
    """Tells the story on standard output; for programs only the headings, on standard error."""

    def __init__(self, *, for_programs: bool) -> None:
        options = {"highlight": False, "markup": False, "emoji": False}
        self._console = Console(file=sys.stdout, quiet=for_programs, **options)  # type: ignore[arg-type]
        self._notes = Console(file=sys.stderr, quiet=not for_programs, **options)  # type: ignore[arg-type]
        if self._console.width > _WIDEST:
            self._console.width = _WIDEST

    def opening(self) -> None:
        """Say what this is, before anything has started."""
        self._console.print()
        self._console.print(Text("Sparekey: no SVM runs out of its license.", "bold"))
        self.say(
            "This is the main job on a small fleet. The programs are the real ones, each in its own"
            " process; only time is a test clock, so that months pass in a second."
        )
        self._console.print()

    def is_ready(self, program: str, where: str) -> None:
        """Say that a program has started."""
        self._console.print(Text.assemble(("ready  ", GOOD), f"{program:<18}  {where}"))
        self._notes.print(f"{program} ready: {where}", soft_wrap=True)

    def heading(self, title: str) -> None:
        """Begin an act."""
        line = "─" * max(self._console.width - len(title) - 4, 3)
        self._console.print()
        self._console.print(
            Text.assemble(("── ", FAINT), (title, "bold"), (f" {line}", FAINT)), no_wrap=True
        )
        self._notes.print(title)

    def say(self, text: str | Text, style: str = "") -> None:
        """One paragraph."""
        self._console.print()
        shown = Text(text, style) if isinstance(text, str) else text
        self._console.print(shown, width=min(self._console.width, _READABLE))

    def line(self, text: str | Text) -> None:
        """One line that follows the one before."""
        self._console.print(text, soft_wrap=True)

    def command(self, *words: str, close: bool = False) -> None:
        """The command that does what is told now; `close` to the line before."""
        if not close:
            self._console.print()
        self._print_command(words, "$ ")

    def suggest(self, *words: str) -> None:
        """A command to paste into another terminal."""
        self._print_command(words, "  ")

    def _print_command(self, words: Sequence[str], prefix: str) -> None:
        for line in command_lines(words, min(self._console.width, _READABLE) - len(prefix)):
            self._console.print(Text(f"{prefix}{line}", "cyan"), soft_wrap=True)
            prefix = "    "

    def show(self, what: RenderableType, *, indent: int = 0) -> None:
        """A table or the like."""
        self._console.print()
        self._console.print(Padding(what, (0, 0, 0, indent), expand=False) if indent else what)

    @contextmanager
    def passing_time(self, first: datetime, last: datetime) -> Iterator[TimeBar]:
        """A bar that shows the date while lines are told above it."""
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=40),
            TextColumn(f"until {iso_date(last)}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            yield TimeBar(progress, first, last)


class TimeBar:
    """The bar for the time."""

    def __init__(self, progress: Progress, first: datetime, last: datetime) -> None:
        self._progress = progress
        self._first = first
        self._task = progress.add_task(iso_date(first), total=(last - first).total_seconds())

    def reached(self, instant: datetime) -> None:
        """Show the date."""
        self._progress.update(
            self._task,
            description=iso_date(instant),
            completed=(instant - self._first).total_seconds(),
        )


def command_lines(words: Sequence[str], width: int) -> list[str]:
    """A command as lines that can be pasted, broken where an option starts."""
    parts: list[str] = []
    for word in words:
        quoted = shlex.quote(word)
        after_option = bool(parts) and parts[-1].startswith("--") and " " not in parts[-1]
        if after_option and not word.startswith("-"):
            parts[-1] += f" {quoted}"
        else:
            parts.append(quoted)
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + len(" \\ ") > width:
            lines[-1] += " \\"
            lines.append(part)
        else:
            lines[-1] += f" {part}"
    return lines
