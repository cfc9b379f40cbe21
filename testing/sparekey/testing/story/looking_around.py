"""What there is to try while the story's programs go on serving."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sparekey.runtime.startup import Address
from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.endings import How, find_endings


def invite(book: Book, folder: Path) -> None:
    """Say what to try, with commands to paste into another terminal."""
    teller = book.teller
    server = book.stage.server.address
    teller.heading("Look around")
    teller.say(
        f"The programs go on serving, the license server at {server}; their logs and the database"
        f" are in {_shown(folder)}. Try, in another terminal:"
    )
    now = book.stage.connection.now()
    keys = book.operator.stored_keys()
    endings = find_endings(book.operator.events(), keys, now)
    lapsed = [one.svm_id for one in endings if one.how is How.LAPSED]
    for what, words in _suggestions(server, book.serial("long server"), lapsed):
        if what:
            teller.say(what)
        teller.suggest(*words)
    teller.say("Ctrl-C ends it.")


def _suggestions(
    server: Address, serial: str, lapsed: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    sparekey = [_program("sparekey"), "--server", str(server)]
    yield "Look at the fleet, and at the history of one SVM:", [*sparekey, "svms", "list"]
    yield "", [*sparekey, "events", "list", "--svm", "north-2"]
    if lapsed:
        yield (
            f"Give {lapsed[0]}, which lapsed, a key again:",
            [*sparekey, "activate", serial, "--svm", lapsed[0]],
        )
    yield "Move the clock on by two months, and look again:", [*sparekey, "clock", "advance", "60d"]
    if (buf := Path(_program("buf"))).exists():
        curl = [str(buf), "curl", "--http2-prior-knowledge", "--protocol", "grpc"]
        yield (
            "Every call works from any gRPC client; the server tells its own contract:",
            [*curl, "--list-methods", f"http://{server}"],
        )
        yield "", [*curl, f"http://{server}/sparekey.v1.FleetService/ListSvms"]


def _program(name: str) -> str:
    return _shown(Path(sys.executable).parent / name)


def _shown(path: Path) -> str:
    """The path as it is shortest to type."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
