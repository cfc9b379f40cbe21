"""One run of the command line: its connection, and where and how it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console, RenderableType

from sparekey.cli.connection import Connection


class Output(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"


def _standard_output() -> Console:
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def _standard_error() -> Console:
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@dataclass(frozen=True)
class Session:
    """What every command gets.

    Attributes:
        connection: The way to the server.
        output: Tables for people, or JSON for programs.
        console: Standard output; only answers go there.
        notes: Standard error; progress and hints go there.
    """

    connection: Connection
    output: Output = Output.TABLE
    console: Console = field(default_factory=_standard_output)
    notes: Console = field(default_factory=_standard_error)

    @property
    def as_json(self) -> bool:
        """Whether programs read the answers."""
        return self.output is Output.JSON

    def show(self, message: Message, render: Callable[[], RenderableType]) -> None:
        """Print one message: as an object, or as it is rendered."""
        if self.as_json:
            self.write(json.dumps(as_dict(message), indent=2))
        else:
            self.console.print(render())

    def show_all(
        self,
        messages: Iterable[Message],
        render: Callable[[list[Any]], RenderableType],
        *,
        empty: str,
    ) -> None:
        """Print messages: as an array, or as a table, or `empty` on standard error if none."""
        listed = list(messages)
        if self.as_json:
            self.write(json.dumps([as_dict(message) for message in listed], indent=2))
        elif listed:
            self.console.print(render(listed))
        else:
            self.note(empty)

    def show_next(self, message: Message, render: Callable[[], RenderableType]) -> None:
        """Print one of many messages at once: as an object on a line, or as it is rendered."""
        if self.as_json:
            self.write(json.dumps(as_dict(message)))
        else:
            # Long lines are for the terminal to wrap, or a pipe would get them broken.
            self.console.print(render(), soft_wrap=True)

    def write(self, text: str) -> None:
        """Write text to standard output as it is."""
        try:
            self.console.file.write(text + "\n")
            self.console.file.flush()
        except BrokenPipeError:
            self.console.on_broken_pipe()

    def note(self, text: str) -> None:
        """Say something that is not the answer."""
        self.notes.print(text, soft_wrap=True)


@dataclass
class Run:
    """One run of the program; its session is there once the global options have been read."""

    session: Session | None = None


def as_dict(message: Message) -> dict[str, Any]:
    """A message as JSON has it, with the contract's own field names and no field left out."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def session_of(context: typer.Context) -> Session:
    """The session that the global options made."""
    run = context.obj
    assert isinstance(run, Run)
    assert run.session is not None
    return run.session
