"""The one writer: groups, their order, and what becomes of a bad request or a bad disk."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, event, insert, select

from sparekey.runtime.clock import SettableClock
from sparekey.server.store import schema
from sparekey.server.store.commits import Commit, CommitFeed
from sparekey.server.store.groups import GroupWriter
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.writer import ThreadTarget, Writer
from sparekey.v1 import error_pb2, event_pb2
from sparekey.wire.errors import CallRefused

from .world import NOW


class Gate:
    """An operation that holds the writer's thread until it is let through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def hold(self, transaction: Transaction, requests: Sequence[None]) -> list[None]:
        self.reached.set()
        assert self.opened.wait(10)
        return [None] * len(requests)


class Note:
    """An operation that writes facts; what it was given together is kept."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []

    def write(self, transaction: Transaction, names: Sequence[str]) -> list[str | CallRefused]:
        self.groups.append(list(names))
        answers: list[str | CallRefused] = []
        for name in names:
            if name.startswith("refuse"):
                answers.append(CallRefused(error_pb2.ERROR_REASON_KEY_NOT_FOUND, name))
                continue
            if name.startswith("fail"):
                raise RuntimeError(name)
            transaction.connection.execute(insert(schema.facts).values(name=name, value=""))
            transaction.add_event(event_pb2.EVENT_KIND_KEY_ADDED, name, actor="test", serial=name)
            transaction.commit.svms.add(name)
            answers.append(name)
        return answers


@asynccontextmanager
async def running(
    engine: Engine, *, most_waiting: int = 1000
) -> AsyncIterator[tuple[Writer, list[Commit]]]:
    """A writer, and the commits that it tells of."""
    feed = CommitFeed()
    commits: list[Commit] = []
    feed.listen(commits.append)
    writer = Writer(ThreadTarget(engine), SettableClock(NOW), feed, most_waiting=most_waiting)
    await writer.start()
    try:
        yield writer, commits
    finally:
        if not writer._stopping:
            await writer.stop()


async def in_one_group(writer: Writer, operation: Any, *requests: Any) -> list[Any]:
    """Have the writer find all the requests waiting at once; the answers or exceptions."""
    gate = Gate()
    held = asyncio.create_task(writer.write(gate.hold, None))
    assert await asyncio.to_thread(gate.reached.wait, 10)
    calls = [asyncio.create_task(writer.write(operation, request)) for request in requests]
    await asyncio.sleep(0)
    gate.opened.set()
    await held
    return await asyncio.gather(*calls, return_exceptions=True)


def names_on_disk(path: Path) -> list[str]:
    """What another program sees."""
    with closing(sqlite3.connect(path / "sparekey.db")) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM facts ORDER BY rowid")]


def cursors(path: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(path / "sparekey.db")) as connection:
        return connection.execute("SELECT cursor, serial FROM events ORDER BY cursor").fetchall()


async def test_what_is_too_much_to_wait_is_refused_and_may_come_again(
    engine: Engine, tmp_path: Path
) -> None:
    note = Note()
    async with running(engine, most_waiting=3) as (writer, _):
        *written, refused, also = await in_one_group(writer, note.write, *"abcde")
        assert written == ["a", "b", "c"]
        for one in (refused, also):
            assert isinstance(one, CallRefused)
            assert one.reason_name == "LIMIT_EXCEEDED"
            assert one.status_code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert one.retry_after is not None
        assert await writer.write(note.write, "d") == "d"
    assert names_on_disk(tmp_path) == ["a", "b", "c", "d"]


async def test_what_waits_together_is_one_group_in_order_of_arrival(
    engine: Engine, tmp_path: Path
) -> None:
    note = Note()
    names = [f"name-{number:02}" for number in range(50)]
    async with running(engine) as (writer, commits):
        assert await in_one_group(writer, note.write, *names) == names
    assert note.groups == [names]
    assert names_on_disk(tmp_path) == names
    assert [serial for _, serial in cursors(tmp_path)] == names
    assert [len(commit.svms) for commit in commits if commit.svms] == [50]


async def test_operations_of_several_kinds_keep_their_order(engine: Engine, tmp_path: Path) -> None:
    first, second = Note(), Note()

    async with running(engine) as (writer, _):
        gate = Gate()
        held = asyncio.create_task(writer.write(gate.hold, None))
        assert await asyncio.to_thread(gate.reached.wait, 10)
        calls = [
            asyncio.create_task(writer.write(note.write, name))
            for note, name in ((first, "a"), (first, "b"), (second, "c"), (first, "d"))
        ]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(held, *calls)
    assert (first.groups, second.groups) == ([["a", "b"], ["d"]], [["c"]])
    assert names_on_disk(tmp_path) == ["a", "b", "c", "d"]


async def test_nobody_is_answered_before_the_commit(engine: Engine, tmp_path: Path) -> None:
    """A second connection sees nothing while the group is open, and all once one is answered."""
    seen: list[list[str]] = []

    def slow(transaction: Transaction, names: Sequence[str]) -> list[str]:
        for name in names:
            transaction.connection.execute(insert(schema.facts).values(name=name, value=""))
        seen.append(names_on_disk(tmp_path))
        return list(names)

    async with running(engine) as (writer, commits):

        async def call(name: str) -> None:
            await writer.write(slow, name)
            seen.append(names_on_disk(tmp_path))

        await asyncio.gather(call("a"), call("b"))
        told = len(commits)
    assert all("a" in names for names in seen[-2:])
    assert seen[0] == []
    assert told >= 1


async def test_a_refused_request_leaves_its_group_alone(engine: Engine, tmp_path: Path) -> None:
    note = Note()
    async with running(engine) as (writer, _):
        answers = await in_one_group(writer, note.write, "a", "refuse-b", "c")
    assert answers[0::2] == ["a", "c"]
    assert isinstance(answers[1], CallRefused)
    assert names_on_disk(tmp_path) == ["a", "c"]


@pytest.mark.parametrize("bad", ["fail", "a", None], ids=["fault", "conflict", "wrong type"])
async def test_a_bad_request_does_not_fail_its_group(
    engine: Engine, tmp_path: Path, bad: str | None
) -> None:
    """A fault of ours, a broken constraint, a value that the database cannot take."""
    note = Note()
    async with running(engine) as (writer, _):
        answers = await in_one_group(writer, note.write, "a", bad, "b", "c")
    assert [answers[0], *answers[2:]] == ["a", "b", "c"]
    assert isinstance(answers[1], Exception)
    assert names_on_disk(tmp_path) == ["a", "b", "c"]
    assert [serial for _, serial in cursors(tmp_path)] == ["a", "b", "c"]


async def test_events_are_in_the_transaction_of_what_they_tell(
    engine: Engine, tmp_path: Path
) -> None:
    """No event without its change, and no change without its event."""
    note = Note()
    async with running(engine) as (writer, commits):
        await asyncio.gather(
            writer.write(note.write, "a"), writer.write(note.write, "fail"), return_exceptions=True
        )
        assert any(commit.has_events for commit in commits)
    assert [serial for _, serial in cursors(tmp_path)] == names_on_disk(tmp_path) == ["a"]


async def test_a_full_disk_refuses_calls_and_loses_nothing(engine: Engine, tmp_path: Path) -> None:
    note = Note()
    full = False

    def limit(connection: Any) -> None:
        # As many pages as there are, or as many as SQLite can have.
        connection.exec_driver_sql(f"PRAGMA max_page_count = {1 if full else 2**30}")

    event.listen(engine, "begin", limit)
    groups: list[int] = []

    def fill(transaction: Transaction, sizes: Sequence[int]) -> list[None]:
        groups.append(len(sizes))
        for size in sizes:
            transaction.connection.execute(
                insert(schema.facts).values(name=f"big-{size}", value="x" * size)
            )
        return [None] * len(sizes)

    async with running(engine) as (writer, commits):
        await writer.write(note.write, "before")
        full = True
        told = len(commits)
        for answers in (
            await in_one_group(writer, fill, 100_000, 200_000),
            await asyncio.gather(writer.write(fill, 300_000), return_exceptions=True),
        ):
            for answer in answers:
                assert isinstance(answer, CallRefused)
                assert answer.reason_name == "STORAGE_UNAVAILABLE"
                assert "nothing was changed" in answer.message
        assert groups == [2, 1]
        assert names_on_disk(tmp_path) == ["before"]
        assert not any(commit.svms for commit in commits[told:])
        full = False
        await writer.write(fill, 100_000)
        await writer.write(note.write, "after")
    assert names_on_disk(tmp_path) == ["before", "big-100000", "after"]


def test_a_group_is_refused_at_once_while_another_program_holds_the_database(
    engine: Engine, tmp_path: Path
) -> None:
    """Each request alone would wait for the same lock as long again."""
    note, statements = Note(), list[str]()

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 50")
        connection.set_trace_callback(statements.append)

    event.listen(engine, "connect", prepare)
    engine.dispose()
    groups = GroupWriter(engine)
    with closing(sqlite3.connect(tmp_path / "sparekey.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        answers, commit = groups.write([(note.write, ["a", "b"]), (note.write, ["c"])], NOW)
        assert statements.count("BEGIN IMMEDIATE") == 1
        other.rollback()
    assert [answer.reason_name for answer in answers] == ["STORAGE_UNAVAILABLE"] * 3
    assert commit == Commit()
    assert groups.write([(note.write, ["d"])], NOW)[0] == ["d"]
    groups.close()
    assert names_on_disk(tmp_path) == ["d"]


async def test_a_storage_that_may_not_be_written(engine: Engine, tmp_path: Path) -> None:
    """As on a disk that was mounted anew for reading only; reads go on."""
    note = Note()
    read_only = False

    def restrict(connection: Any) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only = {int(read_only)}")

    def lift(connection: Any) -> None:
        # Else the next transaction could not even begin.
        connection.exec_driver_sql("PRAGMA query_only = 0")

    event.listen(engine, "begin", restrict)
    event.listen(engine, "rollback", lift)
    async with running(engine) as (writer, _):
        await writer.write(note.write, "before")
        read_only = True
        with pytest.raises(CallRefused) as refused:
            await writer.write(note.write, "meanwhile")
        assert refused.value.reason_name == "STORAGE_UNAVAILABLE"
        with engine.connect() as connection:
            assert connection.scalars(select(schema.facts.c.name)).all() == ["before"]
        read_only = False
        await writer.write(note.write, "after")
    assert names_on_disk(tmp_path) == ["before", "after"]


async def test_a_fault_is_the_callers_own_to_see(engine: Engine) -> None:
    async with running(engine) as (writer, _):
        with pytest.raises(RuntimeError, match="fail"):
            await writer.write(Note().write, "fail")


async def test_a_caller_that_went_away_disturbs_nobody(engine: Engine, tmp_path: Path) -> None:
    note = Note()
    async with running(engine) as (writer, _):
        gate = Gate()
        held = asyncio.create_task(writer.write(gate.hold, None))
        assert await asyncio.to_thread(gate.reached.wait, 10)
        gone = asyncio.create_task(writer.write(note.write, "gone"))
        stays = asyncio.create_task(writer.write(note.write, "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        await held
        assert await stays == "stays"
    # What was asked for is done all the same.
    assert names_on_disk(tmp_path) == ["gone", "stays"]


async def test_a_writer_that_stops_writes_what_waits_and_takes_no_more(
    engine: Engine, tmp_path: Path
) -> None:
    note = Note()
    async with running(engine) as (writer, _):
        gate = Gate()
        held = asyncio.create_task(writer.write(gate.hold, None))
        assert await asyncio.to_thread(gate.reached.wait, 10)
        last = asyncio.create_task(writer.write(note.write, "last"))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(writer.stop())
        await asyncio.sleep(0)
        with pytest.raises(CallRefused) as refused:
            await writer.write(note.write, "late")
        assert refused.value.reason_name == "SHUTTING_DOWN"
        gate.opened.set()
        await asyncio.gather(held, last, stopping)
    assert names_on_disk(tmp_path) == ["last"]


async def test_all_of_a_group_have_the_same_instant(engine: Engine) -> None:
    instants = []

    def look(transaction: Transaction, requests: Sequence[None]) -> list[None]:
        instants.append(transaction.now)
        return [None] * len(requests)

    async with running(engine) as (writer, _):
        await writer.write(look, None)
    assert instants == [NOW]


def test_commits_fold_into_what_a_slow_reader_needs_to_know() -> None:
    folded = Commit(svms={"a", "b"}, outcomes={"task": {"a"}})
    folded.merge(Commit(forgotten={"a"}, outcomes={"task": {"b"}}, has_events=True))
    assert folded == Commit(
        svms={"b"}, forgotten={"a"}, outcomes={"task": {"a", "b"}}, has_events=True
    )
    folded.merge(Commit(svms={"a"}, due_at=NOW, tasks={"task"}, instructed={"b"}))
    folded.merge(Commit(due_at=NOW + timedelta(days=1)))
    assert folded == Commit(
        instructed={"b"},
        svms={"a", "b"},
        outcomes={"task": {"a", "b"}},
        tasks={"task"},
        has_events=True,
        due_at=NOW,
    )
