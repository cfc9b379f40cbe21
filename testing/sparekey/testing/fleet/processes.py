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

START_SECONDS = 30.0
"""How long a program may take until it says that it is ready."""

_STOP_SECONDS = 15.0

SERVER = "sparekey-server"
AGENT = "sparekey-agent"
FAKE_ACTIVATION = "sparekey-fake-activation"


class ProgramFailed(Exception):
    """A program did not become ready; the message has its last words."""


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

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_program(
    name: str,
    options: Sequence[str],
    *,
    log: Path,
    environment: dict[str, str] | None = None,
) -> Program:
    """Start a program of this installation and wait until it says that it is ready.

    Args:
        name: One of the programs, for example `sparekey-server`.
        options: Its command line.
        log: Its standard error is appended to this file.
        environment: Variables to set besides this process's own.

    Raises:
        ProgramFailed: it ended or stayed silent.
    """
    command = [str(Path(sys.executable).parent / name), *options]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
            # Ctrl-C in a terminal is for whoever started the program and stops it in order.
            process_group=0,
        )
    try:
        line = _first_line(process)
    except BaseException:
        process.kill()
        process.wait()
        raise
    words = line.split()
    if words[:2] != [name, "ready"]:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        tail = log.read_text()[-2000:]
        raise ProgramFailed(f"{name} did not become ready; it said:\n{line}{tail}")
    facts = dict(word.partition("=")[::2] for word in words[2:])
    return Program(name, process, facts, log)


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([process.stdout], [], [], left)
        if readable:
            return process.stdout.readline()
    return ""


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
