"""The story's end of the fleet's process."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

from sparekey.runtime.startup import Address
from sparekey.testing.fleet.processes import Program
from sparekey.testing.story import fleet_process
from sparekey.testing.story.failures import StoryFailed

_PATIENCE = 30.0


class FleetProgram:
    """The process in which the fleet's agents run.

    It is launched without waiting, so that it loads while the servers start.

    Args:
        folder: Where its log goes.
    """

    def __init__(self, folder: Path) -> None:
        log = folder / "fleet.log"
        with log.open("a") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", fleet_process.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                process_group=0,
            )
        self.program = Program(fleet_process.PROGRAM, process, {}, log)
        self._is_ready = False

    def join(self, server: Address, vendor_keys: Path) -> None:
        """Start every agent; returns when the server has welcomed all."""
        self._command(f"join {server} {vendor_keys}")

    def cut(self, svm_id: str) -> None:
        """Take an SVM off the network."""
        self._command(f"cut {svm_id}")

    def bring_back(self, svm_id: str) -> None:
        """Connect an SVM again; returns when the server has welcomed it."""
        self._command(f"back {svm_id}")

    def stop(self) -> int:
        """Stop the agents in good order and end the process."""
        code = self.program.stop()
        if self.program.process.stdin is not None:
            self.program.process.stdin.close()
        return code

    def _command(self, line: str) -> None:
        if not self._is_ready:
            self._expect(f"{fleet_process.PROGRAM} ready")
            self._is_ready = True
        stdin = self.program.process.stdin
        assert stdin is not None
        try:
            stdin.write(f"{line}\n")
            stdin.flush()
        except BrokenPipeError:
            raise StoryFailed(f"the fleet's process has ended; see {self.program.log}") from None
        self._expect("done")

    def _expect(self, beginning: str) -> None:
        stdout = self.program.process.stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], _PATIENCE)
        line = stdout.readline().strip() if readable else "no answer"
        if not line.startswith(beginning):
            raise StoryFailed(
                f"the fleet's process did not do as it was told ({line or 'it has ended'});"
                f" see {self.program.log}"
            )
