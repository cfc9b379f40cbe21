"""Builds that are broken on purpose, to see that the suite catches them: `--broken NAME`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from sparekey.agent.instructions_received import SlotInstruction
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.keyring_record import InstructionResult
from sparekey.licensing.changes import ChangeKind, Transition
from sparekey.licensing.keyring import Keyring
from sparekey.server.store.commits import Commit
from sparekey.server.store.groups import GroupWriter, Run
from sparekey.server.store.transaction import Transaction

_LATE_SECONDS = 1.0

# Whatever is replaced here is named as a value of any kind: no type allows it, and rightly so.
_FILES: Any = import_module("sparekey.agent.keyring_file")
_KEEPING: Any = import_module("sparekey.agent.keyring_keeper")
_KEEPER: Any = KeyringKeeper
_GROUPS: Any = GroupWriter


def acknowledge_before_write() -> None:
    """The agent answers at once and writes its keyring a second later."""
    write = _FILES.replace_durably
    newest: dict[Path, bytes] = {}

    def later(path: Path, content: bytes) -> None:
        newest[path] = content
        timer = threading.Timer(_LATE_SECONDS, lambda: write(path, newest[path]))
        timer.daemon = True
        timer.start()

    _FILES.replace_durably = later


def acknowledge_before_commit() -> None:
    """The server answers what is in a transaction that it commits a second later."""
    committed_at = [time.monotonic()]

    def transact(writer: Any, runs: Sequence[Run], now: datetime) -> tuple[list[Any], Commit]:
        if writer._connection is None:
            writer._connection = writer._engine.connect()
        answers: list[Any] = []
        try:
            transaction = Transaction(writer._connection, now)
            for operation, requests in runs:
                answers.extend(operation(transaction, requests))
            transaction.flush()
        except Exception:
            writer._connection.rollback()
            raise
        if time.monotonic() - committed_at[0] > _LATE_SECONDS:
            writer._connection.commit()
            committed_at[0] = time.monotonic()
        return answers, transaction.commit

    _GROUPS._transact = transact


def forget_to_dedupe() -> None:
    """The agent follows an instruction again that it has followed before."""
    follow = _KEEPER.follow_push

    def forgetful(keeper: Any, instructions: Sequence[SlotInstruction]) -> list[InstructionResult]:
        for one in instructions:
            known = keeper.results.get(one.slot)
            if known is not None and known.version == one.version:
                before = replace(known, version=one.version - 1)
                results = {**keeper.results, one.slot: before}
                keeper._record = replace(keeper._record, results=results)
        results_of_all: list[InstructionResult] = follow(keeper, instructions)
        return results_of_all

    _KEEPER.follow_push = forgetful


def promote_twice() -> None:
    """The agent tells each promotion as two changes."""
    settle = _KEEPING.settle

    def twice(keyring: Keyring, now: datetime) -> Transition:
        settled: Transition = settle(keyring, now)
        promoted = [one for one in settled.changes if one.kind is ChangeKind.RESERVE_PROMOTED]
        return replace(settled, changes=(*settled.changes, *promoted))

    _KEEPING.settle = twice


BREAKS: dict[str, Callable[[], None]] = {
    "acknowledge-before-write": acknowledge_before_write,
    "acknowledge-before-commit": acknowledge_before_commit,
    "forget-to-dedupe": forget_to_dedupe,
    "promote-twice": promote_twice,
}
OF_SERVER = {"acknowledge-before-commit"}
"""These break the server; the others the agents."""
