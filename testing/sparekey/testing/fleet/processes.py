"""Sparekey's programs as processes of their own: started, awaited, stopped or killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparekey.runtime.startup import Address, parse_address

START_SECONDS = 60.0
"""How long a program may take until it says that it is ready."""

_STOP_SECONDS = 15.0

SERVER = "sparekey-server"
AGENT = "sparekey-agent"
FAKE_ACTIVATION = "sparekey-fake-activation"


class ProgramFailed(Exception):
    """A program did not become ready or did not do as told; the message says what it said."""


@dataclass(slots=True)
class Program:
    """One running program.

    Attributes:
        name: The program's name.
        process: The process.
        facts: What it announced, for example its real `listen` address.
        log: The file to which its standard error goes.
    """

    name: str
    process: subprocess.Popen[str]
    facts: dict[str, str]
    log: Path

    @property
    def address(self) -> Address:
        """Where it listens."""
        return parse_address(self.facts["listen"])

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> int:
        """Ask it to end; return its exit code. One that does not end is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._close()
        return code

    def read_line(self, seconds: float) -> str:
        """The next line that it prints; empty where it has ended or says nothing for so long."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([self.process.stdout], [], [], left)
            if readable:
                return self.process.stdout.readline()
        return ""

    def _close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                # What could not be written to a program that has ended is of no use any more.
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def start_program(
    name: str,
    options: Sequence[str],
    *,
    log: Path,
    environment: dict[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> Program:
    """Start a program of this installation and wait until it says that it is ready.

    Args:
        name: One of the programs, for example `sparekey-server`.
        options: Its command line.
        log: Its standard error is appended to this file.
        environment: Variables to set besides this process's own.
        command: What to start in place of the installed program.

    Raises:
        ProgramFailed: it ended or stayed silent.
    """
    program = launch_program(name, options, log=log, environment=environment, command=command)
    await_ready(program)
    return program


def launch_program(
    name: str,
    options: Sequence[str],
    *,
    log: Path,
    environment: dict[str, str] | None = None,
    command: Sequence[str] | None = None,
    steered: bool = False,
) -> Program:
    """Start a program as `start_program` does, without waiting for it.

    Where it is `steered` its standard input stays open, for commands.
    """
    command = command or [str(Path(sys.executable).parent / name)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*command, *options],
            stdin=subprocess.PIPE if steered else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
            # Ctrl-C in a terminal is for whoever started the program and stops it in order.
            process_group=0,
        )
    return Program(name, process, {}, log)


def await_ready(program: Program) -> None:
    """Wait until a launched program says that it is ready, and note what it announced.

    Raises:
        ProgramFailed: it ended or stayed silent; it is killed then.
    """
    try:
        line = program.read_line(START_SECONDS)
    except BaseException:
        program.kill()
        raise
    words = line.split()
    if words[:2] != [program.name, "ready"]:
        program.kill()
        tail = program.log.read_text()[-2000:]
        raise ProgramFailed(f"{program.name} did not become ready; it said:\n{line}{tail}")
    program.facts.update(word.partition("=")[::2] for word in words[2:])


def start_fake_activation(folder: Path, *options: str) -> Program:
    """Start a fake activation server on free ports, with its state in a folder.

    It announces `listen`, `control` and `vendor_keys`.
    """
    return start_program(
        FAKE_ACTIVATION,
        ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--data", str(folder), *options],
        log=folder / "fake-activation.log",
    )


def start_server(
    folder: Path, vendor_keys: Path, *options: str, listen: str = "127.0.0.1:0"
) -> Program:
    """Start a license server with its database in a folder."""
    return start_program(
        SERVER,
        ["--listen", listen, "--data", str(folder), "--vendor-keys", str(vendor_keys), *options],
        log=folder / "server.log",
    )


@contextlib.contextmanager
def running(*programs: Program) -> Iterator[None]:
    """Stop the programs at the end, the last first."""
    try:
        yield
    finally:
        for program in reversed(programs):
            program.stop()
