"""What the server has on disk, read beside it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, func, select

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.tasks import OutcomeState, TaskState
from sparekey.server.store import schema
from sparekey.server.store.database import sqlite_url
from sparekey.server.store.instructions import (
    InstructionState,
    StoredInstruction,
    load_instructions,
)
from sparekey.server.store.svms import SvmRecord, load_svms
from sparekey.v1 import event_pb2


@dataclass(frozen=True, slots=True)
class AppliedOutcome:
    """A task's success on one SVM, as the server has it."""

    task_id: str
    svm_id: str
    version: int


class Stored:
    """Reads the database of a server that may be running."""

    def __init__(self, database: Path) -> None:
        self._engine: Engine = create_engine(sqlite_url(database.parent))

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def views(self) -> dict[str, tuple[int, GuestMix]]:
        """Each SVM's keyring revision and guests."""
        svms = schema.svms.c
        query = select(svms.id, svms.keyring_revision, svms.servers, svms.desktops, svms.unknown)
        with self._engine.connect() as connection:
            return {
                svm_id: (revision, GuestMix(*guests))
                for svm_id, revision, *guests in connection.execute(query)
            }

    def unfinished(self) -> int:
        """How many instructions and tasks are under way."""
        waiting = (
            select(func.count())
            .select_from(schema.instructions)
            .where(schema.instructions.c.state == InstructionState.PENDING.name)
        )
        running = (
            select(func.count())
            .select_from(schema.tasks)
            .where(schema.tasks.c.state == TaskState.RUNNING.name)
        )
        with self._engine.connect() as connection:
            return (connection.scalar(waiting) or 0) + (connection.scalar(running) or 0)

    def svms(self) -> dict[str, SvmRecord]:
        """Every SVM."""
        with self._engine.connect() as connection:
            return load_svms(connection, list(connection.scalars(select(schema.svms.c.id))))

    def instructions(self) -> list[StoredInstruction]:
        """The newest instruction of each slot."""
        with self._engine.connect() as connection:
            by_svm = load_instructions(connection, connection.scalars(select(schema.svms.c.id)))
        return [one for slots in by_svm.values() for one in slots.values()]

    def task_ids(self) -> set[str]:
        """Every task."""
        with self._engine.connect() as connection:
            return set(connection.scalars(select(schema.tasks.c.id)))

    def applied(self) -> list[AppliedOutcome]:
        """Every outcome that says APPLIED and belongs to an instruction."""
        outcomes = schema.outcomes.c
        query = select(outcomes.task_id, outcomes.svm_id, outcomes.instruction_version).where(
            outcomes.state == OutcomeState.APPLIED.name, outcomes.instruction_version > 0
        )
        with self._engine.connect() as connection:
            return [AppliedOutcome(*row) for row in connection.execute(query)]

    def events(self) -> dict[str, list[event_pb2.Event]]:
        """The whole history by SVM, oldest first; events about no SVM are under the empty id."""
        events: dict[str, list[event_pb2.Event]] = defaultdict(list)
        query = select(schema.events.c.content).order_by(schema.events.c.cursor)
        with self._engine.connect() as connection:
            for content in connection.scalars(query):
                event = event_pb2.Event.FromString(content)
                events[event.svm_id].append(event)
        return events
