"""The program `sparekey-fake-activation`."""

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from sparekey.activation.fake.knobs import FLAGS, faults_help
from sparekey.runtime.command_line import run_command
from sparekey.runtime.logs import configure_logs
from sparekey.runtime.startup import (
    StartupRefused,
    announce,
    parse_address,
    run_program,
    stop_requested,
)

PROGRAM = "sparekey-fake-activation"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_LOG_LEVEL = LogLevel(FLAGS["log_level"].default)


def _flag(name: str, **bounds: int) -> Any:
    knob = FLAGS[name]
    return typer.Option(
        knob.name,
        metavar=knob.value,
        help=f"{knob.meaning} [default: {knob.default}]",
        show_default=False,
        **bounds,  # type: ignore[arg-type]  # Typer's own signature has forty other parameters
    )


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog=faults_help())
def serve(
    listen: Annotated[str, _flag("listen")] = FLAGS["listen"].default,
    control: Annotated[str, _flag("control")] = FLAGS["control"].default,
    data: Annotated[Path | None, _flag("data")] = None,
    seed: Annotated[int | None, _flag("seed", min=0)] = None,
    chaos: Annotated[int, _flag("chaos", min=0, max=100)] = int(FLAGS["chaos"].default),
    log_level: Annotated[LogLevel, _flag("log_level")] = _LOG_LEVEL,
) -> int:
    """A fake activation server, for tests only: it grants whatever it was told to grant."""
    configure_logs(PROGRAM, level=log_level.value)
    # The core reads this at its import; else it adds a line of its own to "the port is taken".
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from sparekey.activation.fake.server import FakeActivation

    async def program() -> None:
        stop = stop_requested()
        fake = FakeActivation()
        with ExitStack() as stack:
            folder = _temporary_folder(stack) if data is None else data
            await fake.start(
                parse_address(listen),
                parse_address(control),
                data=folder,
                randomness=None if seed is None else Random(seed),  # noqa: S311 - to be repeated
                chaos_percent=chaos,
            )
            facts = {
                "listen": fake.address,
                "control": fake.control_address,
                "data": folder,
                "vendor_keys": fake.vendor_keys_path,
            }
            announce(PROGRAM, facts)
            try:
                await stop.wait()
            finally:
                await fake.stop()

    return run_program(PROGRAM, program)


def _temporary_folder(stack: ExitStack) -> Path:
    try:
        temporary = tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-")
    except OSError:
        raise StartupRefused("there is no folder for temporary files; use --data FOLDER") from None
    return Path(stack.enter_context(temporary))


def run(arguments: Sequence[str]) -> int:
    """Run the program with the arguments; return its exit code."""
    command = typer.main.get_command(app)
    return run_command(
        PROGRAM,
        partial(command.main, list(arguments), prog_name=PROGRAM, standalone_mode=False),
    )


def main() -> None:
    """Run the program and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
