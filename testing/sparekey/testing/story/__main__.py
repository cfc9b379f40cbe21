"""The program behind `make run`: plays the story, then serves until Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import grpc
import typer

from sparekey.testing.fleet.processes import ProgramFailed
from sparekey.testing.story.acts import play
from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.failures import StoryFailed
from sparekey.testing.story.folder import own_folder
from sparekey.testing.story.looking_around import invite
from sparekey.testing.story.operating import Operator
from sparekey.testing.story.stage import Stage, set_up
from sparekey.testing.story.telling import Teller
from sparekey.wire.errors import read_problem

PROGRAM = "sparekey-story"
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Output(StrEnum):
    """How the story is told."""

    TEXT = "text"
    JSON = "json"


class _Ended(BaseException):
    """Somebody wants the story to end; no failure."""


@app.command()
def tell(
    once: Annotated[bool, typer.Option("--once", help="End after the story.")] = False,
    output: Annotated[
        Output, typer.Option(help="The story for people, or its figures for programs.")
    ] = Output.TEXT,
    folder: Annotated[
        Path,
        typer.Option(help="For the programs' files; emptied at the start if a story made it."),
    ] = Path("build/run"),
) -> None:
    """Show the main job on a small fleet: no SVM with a reserve key runs out of its license.

    It starts an activation server, a license server and fourteen agents on this
    machine, moves their clock past the end of the licenses, and then goes on serving.
    """
    for number in _ENDING_SIGNALS:
        signal.signal(number, _end)
    try:
        with own_folder(folder) as own:
            _tell(own, once=once, output=output)
    except _Ended:
        raise _failure("ended before the story was over") from None
    except (StoryFailed, ProgramFailed) as failed:
        raise _failure(str(failed)) from None
    except Exception as error:  # noqa: BLE001 - a traceback is nothing for who sees this first
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise _failure(
            f"a fault of the story itself: {type(error).__name__} in {where.name}, line"
            f" {where.lineno}; please report it"
        ) from None


def _failure(sentence: str) -> typer.Exit:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return typer.Exit(1)


def _tell(folder: Path, *, once: bool, output: Output) -> None:
    began = time.monotonic()
    teller = Teller(for_programs=output is Output.JSON)
    teller.opening()
    with set_up(folder, teller.is_ready) as stage:
        try:
            _play(Book(stage, Operator(stage), teller), folder, began, once=once, output=output)
        except grpc.RpcError as error:
            stage.check()
            raise StoryFailed(f"a call failed: {read_problem(error).message}") from None
        finally:
            # What has begun to stop is stopped whole, however often it is asked for.
            for number in _ENDING_SIGNALS:
                signal.signal(number, signal.SIG_IGN)


def _play(book: Book, folder: Path, began: float, *, once: bool, output: Output) -> None:
    figures = play(book, began)
    if output is Output.JSON:
        print(json.dumps(figures.as_dict(), indent=2), flush=True)
    if not once:
        with suppress(_Ended):
            invite(book, folder)
            _watch_over(book.stage)


def _watch_over(stage: Stage) -> NoReturn:
    """See that the programs run, until a signal ends it."""
    while True:
        stage.check()
        time.sleep(1)


def _end(_number: int, _frame: FrameType | None) -> None:
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise _Ended


def main() -> None:
    """Run the program."""
    app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
