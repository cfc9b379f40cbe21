"""One of our programs, as it is, with a journal of what its agents write; broken if asked for.

`python -m faults.watched_program sparekey-agent ...` runs `sparekey-agent ...`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from faults.journal import Journal, Noted
from sparekey.agent.instructions_received import SlotInstruction
from sparekey.agent.keyring_file import KeyringFile
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.keyring_record import InstructionResult, KeyringRecord
from sparekey.licensing.key_files import TrustedSigners

JOURNAL = "SPAREKEY_FAULTS_JOURNAL"
"""The environment's name for where the journal is to be."""

BROKEN = "SPAREKEY_FAULTS_BROKEN"
"""The environment's name for how the program is to be broken."""

PROGRAMS = {
    "sparekey-agent": "sparekey.agent.main",
    "sparekey-server": "sparekey.server.main",
    "sparekey-simulate": "sparekey.testing.simulator.main",
}


def command_for(
    program: str, *, journal: Path | None = None, broken: str = ""
) -> tuple[list[str], dict[str, str]]:
    """The command that runs a program under watch, and its environment."""
    environment = {"PYTHONPATH": str(Path(__file__).parent.parent), BROKEN: broken}
    if journal is not None:
        environment[JOURNAL] = str(journal)
    return [sys.executable, "-m", "faults.watched_program", program], environment


def _watch(journal: Journal) -> None:
    """Put a journal under everything that agents of this process write and load."""
    module: Any = import_module("sparekey.agent.keyring_file")
    files: Any = KeyringFile
    keepers: Any = KeyringKeeper
    replace, load, follow = module.replace_durably, files.load, keepers.follow_push

    def watched_replace(path: Path, content: bytes) -> None:
        try:
            replace(path, content)
        except OSError:
            journal.note(Noted.REFUSED, path.parent.name)
            raise
        journal.note(Noted.WRITTEN, path.parent.name, content)

    def watched_load(file: KeyringFile, trusted: TrustedSigners) -> KeyringRecord:
        record: KeyringRecord = load(file, trusted)
        if file.path.exists():
            journal.note(Noted.FOUND, file.path.parent.name, file.path.read_bytes())
        return record

    def watched_follow(
        keeper: KeyringKeeper, instructions: Sequence[SlotInstruction]
    ) -> list[InstructionResult]:
        for one in instructions:
            known = keeper.results.get(one.slot)
            if known is not None and one.version <= known.version:
                journal.note(Noted.REPEATED, "")
        results: list[InstructionResult] = follow(keeper, instructions)
        return results

    module.replace_durably, files.load, keepers.follow_push = (
        watched_replace,
        watched_load,
        watched_follow,
    )


def main() -> None:
    """Run the program that the command line names."""
    if path := os.environ.get(JOURNAL):
        _watch(Journal(Path(path)))
    if broken := os.environ.get(BROKEN):
        # Only then: it loads the server's parts, which an agent has no use for.
        breaks: Any = import_module("faults.broken")
        breaks.BREAKS[broken]()
    sys.argv = sys.argv[1:]
    program: Any = import_module(PROGRAMS[sys.argv[0]])
    sys.exit(program.main())


if __name__ == "__main__":
    main()
