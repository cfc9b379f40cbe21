"""Running a program by its command line, or refusing a wrong one in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from sparekey.runtime.startup import EXIT_INTERRUPTED, EXIT_REFUSED


def run_command(name: str, command: Callable[[], Any], *, see: str = "--help") -> int:
    """Read a program's command line and run it; return its exit code.

    Args:
        name: The program's name.
        command: Reads the command line, runs, and raises the parser's own errors.
        see: Where a wrong command line is told to look.
    """
    try:
        result = command()
    except typer.Abort:
        return EXIT_INTERRUPTED
    except Exception as error:
        # The parser's own errors, whichever release it is of, carry their sentence.
        sentence = getattr(error, "format_message", None)
        if sentence is None:
            raise
        told = sentence().rstrip(".").replace("\n", " ")
        print(f"{name}: {told}; see {see}", file=sys.stderr)
        return EXIT_REFUSED
    return result if isinstance(result, int) else 0
