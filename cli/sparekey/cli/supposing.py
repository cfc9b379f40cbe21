"""The option --what-if: changes to suppose, as words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import typer

from sparekey.cli.relative_time import parse_instant, parse_span
from sparekey.v1 import report_pb2
from sparekey.wire.timestamps import to_timestamp

WhatIfs = Annotated[
    list[str],
    typer.Option(
        "--what-if",
        metavar="CHANGE",
        help=(
            "A change to suppose, can be repeated: block:SERIAL, end:SERIAL, or"
            " add:SVM:40-desktops; with @2030-01-31 or @30d at its end for when."
        ),
        show_default=False,
    ),
]

_COUNT = re.compile(r"(\d{1,7})-(server|desktop)s?", re.ASCII)
_FORM = "write block:SERIAL, end:SERIAL or add:SVM:40-desktops, and @2030-01-31 or @30d for when"


def read_what_ifs(texts: Iterable[str], now: datetime) -> list[report_pb2.WhatIf]:
    """The changes to suppose, or wrong usage."""
    return [_read(text, now) for text in texts]


def _read(text: str, now: datetime) -> report_pb2.WhatIf:
    what, _, when = text.strip().partition("@")
    change, _, of = what.partition(":")
    found = report_pb2.WhatIf()
    if when:
        found.at.CopyFrom(to_timestamp(_instant(when, now)))  # type: ignore[arg-type]
    if change == "block" and of:
        found.block_key.key_serial = of.upper()
    elif change == "end" and of:
        found.end_key.key_serial = of.upper()
    elif change == "add":
        svm_id, _, count = of.partition(":")
        read = _COUNT.fullmatch(count)
        if read is None or not svm_id:
            raise _wrong(text)
        number = int(read[1])
        servers = read[2] == "server"
        found.add_guests.CopyFrom(
            report_pb2.SupposeGuests(
                svm_id=svm_id,
                servers=number if servers else 0,
                desktops=0 if servers else number,
            )
        )
    else:
        raise _wrong(text)
    return found


def _instant(text: str, now: datetime) -> datetime:
    try:
        return now + parse_span(text.removeprefix("+"))
    except ValueError:
        pass
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--what-if") from None


def _wrong(text: str) -> typer.BadParameter:
    return typer.BadParameter(f"{text!r} is no change to suppose; {_FORM}", param_hint="--what-if")
