"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from sparekey.cli.relative_time import parse_instant, parse_span

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")
]
RequestId = Annotated[
    str,
    typer.Option(
        "--request-id",
        metavar="ID",
        help="Makes a retry safe: the same id with the same content acts once.",
        show_default=False,
    ),
]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.", show_default=False)]
SvmId = Annotated[str, typer.Argument(metavar="SVM", help="The SVM's id.", show_default=False)]
Serial = Annotated[
    str, typer.Argument(metavar="SERIAL", help="The key's serial.", show_default=False)
]
ClusterFilter = Annotated[
    str,
    typer.Option("--cluster", metavar="NAME", help="Only SVMs of it.", show_default=False),
]


def read_span(text: str, option: str) -> timedelta:
    """An option's span of time, or wrong usage."""
    try:
        return parse_span(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def read_instant(text: str, option: str) -> datetime:
    """An option's instant, or wrong usage."""
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def read_enum(text: str, enum_type: Any, option: str) -> int:
    """An option's enum value by its name in any style, or wrong usage with all the names.

    `key-added`, `KEY_ADDED` and the full name are the same.
    """
    prefix: str = enum_type.Name(0).removesuffix("UNSPECIFIED")
    names: dict[str, int] = {
        name.removeprefix(prefix): number for name, number in enum_type.items() if number
    }
    wanted = text.upper().replace("-", "_").replace(" ", "_").removeprefix(prefix)
    if wanted not in names:
        known = ", ".join(name.lower().replace("_", "-") for name in names)
        raise typer.BadParameter(f"{text!r} is none of {known}", param_hint=option)
    return names[wanted]
