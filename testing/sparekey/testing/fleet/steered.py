"""A simulated fleet in a process of its own, steered by lines: the end that gives the commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sparekey.runtime.startup import Address
from sparekey.testing.fleet.processes import Program, ProgramFailed, await_ready, launch_program

SIMULATOR = "sparekey-simulate"
_PATIENCE = 30.0


class SvmState(NamedTuple):
    """How a simulated SVM stands.

    Attributes:
        connected: Whether the server has welcomed its agent.
        revision: Its keyring's revision.
        guests: Its guests: servers, desktops, unknown.
    """

    connected: bool
    revision: int
    guests: tuple[int, int, int]


class SteeredFleet:
    """Starts `sparekey-simulate --steered` and steers it; blocking, for one thread at a time.

    It is launched without waiting, so that it loads while other programs start.

    Args:
        options: Further options of its command line.
        log: Its standard error is appended to this file.
        environment: Variables to set besides this process's own.
        command: What to start in place of the installed program.
    """

    def __init__(
        self,
        options: Sequence[str],
        *,
        log: Path,
        environment: dict[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.program: Program = launch_program(
            SIMULATOR,
            ["--steered", *options],
            log=log,
            environment=environment,
            command=command,
            steered=True,
        )
        self._is_ready = False

    def await_ready(self) -> None:
        """Wait until it has loaded.

        Raises:
            ProgramFailed: it ended or stayed silent.
        """
        if not self._is_ready:
            await_ready(self.program)
            self._is_ready = True

    def join(self, server: Address, vendor_keys: Path) -> None:
        """Start every agent; returns when the server has welcomed all."""
        self._command(f"join {server} {vendor_keys}")

    def cut(self, svm_id: str) -> None:
        """End an SVM's agent without a word to the server."""
        self._command(f"cut {svm_id}")

    def bring_back(self, svm_id: str) -> None:
        """Start an SVM's agent again; returns when the server has welcomed it."""
        self._command(f"back {svm_id}")

    def calm(self) -> None:
        """Let the SVMs change no more."""
        self._command("calm")

    def states(self) -> dict[str, SvmState]:
        """How every SVM stands."""
        said = json.loads(self._command("status"))
        return {
            svm_id: SvmState(connected, revision, tuple(guests))
            for svm_id, (connected, revision, guests) in said.items()
        }

    def stop(self) -> int:
        """Stop the agents in good order and end the process; return its exit code."""
        return self.program.stop()

    def _command(self, line: str) -> str:
        self.await_ready()
        stdin = self.program.process.stdin
        assert stdin is not None
        try:
            stdin.write(f"{line}\n")
            stdin.flush()
        except BrokenPipeError:
            raise ProgramFailed(f"the fleet's process has ended; see {self.program.log}") from None
        done, _, answer = self.program.read_line(_PATIENCE).strip().partition(" ")
        if done != "done":
            raise ProgramFailed(
                f"the fleet's process did not do as it was told"
                f" ({f'{done} {answer}'.strip() or 'it has ended'}); see {self.program.log}"
            )
        return answer
