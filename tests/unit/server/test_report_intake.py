"""One stream's reports on their way to disk: what is urgent, what gathers, and what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from sqlalchemy import Engine, event, select

from sparekey.runtime.clock import SettableClock
from sparekey.server.link.report_intake import MOST_GATHERED, Gathering, ReportIntake
from sparekey.server.link.reporting import Taken, take_hellos
from sparekey.server.link.sessions import Session
from sparekey.server.store import schema
from sparekey.server.store.commits import CommitFeed
from sparekey.server.store.writer import ThreadTarget, Writer
from sparekey.v1 import agent_pb2, error_pb2, event_pb2, key_pb2, keyring_pb2
from sparekey.wire.edge import Stream
from sparekey.wire.errors import CallRefused

from .world import NOW

_HOUR = 3600.0


class OneStream:
    """An SVM's stream with its intake; `taken` is what it was told became of its reports."""

    def __init__(self, writer: Writer, gap: float, quiet: float) -> None:
        hello = agent_pb2.Hello(svm_id="svm-1", boot_id="boot")
        # Nothing is sent here, so there is no transport.
        now = asyncio.get_running_loop().time()
        self.session = Session(hello, cast("Stream", None), heard_at=now)
        self.taken: list[tuple[Taken, bool]] = []
        self.intake = ReportIntake(self.session, writer, Gathering(gap, quiet), self._note)
        self._told = asyncio.Event()
        self._sequence = 0

    def _note(self, session: Session, taken: Taken, answering: bool) -> None:
        assert session is self.session
        self.taken.append((taken, answering))
        self._told.set()

    async def tell(self, **sections: object) -> None:
        """Report sections, in the next sequence."""
        self._sequence += 1
        report = agent_pb2.Report(sequence=self._sequence, **sections)  # type: ignore[arg-type]
        self.intake.take(report)
        if self.intake.is_full:
            await self.intake.room()

    def pass_quietly(self, seconds: float) -> None:
        """Look at what gathers as if so much time had passed since the last frame."""
        self.intake.go_on(self.session.heard_at + seconds)

    async def until_told(self, sequence: int) -> None:
        async with asyncio.timeout(20):
            while not self.taken or self.taken[-1][0].sequence < sequence:
                self._told.clear()
                await self._told.wait()


@asynccontextmanager
async def one_stream(
    engine: Engine, gap: float = _HOUR, quiet: float = _HOUR
) -> AsyncIterator[OneStream]:
    """A known SVM that has just reported in full."""
    writer = Writer(ThreadTarget(engine), SettableClock(NOW), CommitFeed())
    await writer.start()
    try:
        await writer.write(take_hellos, agent_pb2.Hello(svm_id="svm-1", boot_id="boot"))
        stream = OneStream(writer, gap, quiet)
        await stream.tell(full=True, guests=guests(1))
        await stream.until_told(1)
        yield stream
    finally:
        await writer.stop()


def guests(servers: int) -> keyring_pb2.GuestMix:
    return keyring_pb2.GuestMix(servers=servers)


def changes_told(engine: Engine) -> list[int]:
    """How many servers stand in each event about the SVM's surroundings."""
    kind = event_pb2.EVENT_KIND_SVM_CHANGED
    query = select(schema.events.c.content).where(schema.events.c.kind == kind)
    with engine.connect() as connection:
        return [
            event_pb2.Event.FromString(one).guests.servers for (one,) in connection.execute(query)
        ]


async def test_guests_of_a_busy_stream_gather_and_are_one_event(engine: Engine) -> None:
    async with one_stream(engine) as stream:
        for servers in (2, 3, 4):
            await stream.tell(guests=guests(servers))
        assert changes_told(engine) == [1]
        await stream.intake.finish()
        assert stream.taken[-1][0].sequence == 4
        assert not stream.taken[-1][0].full_report_wanted
    assert changes_told(engine) == [1, 4]


async def test_a_quiet_stream_is_written_at_once(engine: Engine) -> None:
    async with one_stream(engine) as stream:
        stream.session.heard_at += _HOUR
        await stream.tell(guests=guests(2))
        await stream.until_told(2)
    assert changes_told(engine) == [1, 2]


async def test_what_gathers_is_written_when_the_gap_is_over(engine: Engine) -> None:
    async with one_stream(engine) as stream:
        await stream.tell(guests=guests(2))
        stream.pass_quietly(_HOUR - 1)
        await stream.tell(guests=guests(3))
        stream.pass_quietly(_HOUR)
        await stream.until_told(3)
    assert changes_told(engine) == [1, 3]


async def test_what_gathers_is_written_early_where_the_stream_is_quiet(engine: Engine) -> None:
    async with one_stream(engine, quiet=10) as stream:
        await stream.tell(guests=guests(2))
        stream.pass_quietly(9)
        await stream.tell(guests=guests(3))
        stream.pass_quietly(10)
        await stream.until_told(3)
    assert changes_told(engine) == [1, 3]


async def test_not_every_pause_leads_to_a_write(engine: Engine) -> None:
    async with one_stream(engine, quiet=10) as stream:
        await stream.tell(guests=guests(2))
        stream.pass_quietly(60)
        await stream.until_told(2)
        # Within the same gap there is no second.
        stream.session.heard_at += 60
        await stream.tell(guests=guests(3))
        stream.pass_quietly(60)
        await stream.tell(guests=guests(4))
        await stream.intake.finish()
    assert changes_told(engine) == [1, 2, 4]


async def test_a_timer_looks_after_what_gathers(engine: Engine) -> None:
    async with one_stream(engine, quiet=0.02) as stream:
        await stream.tell(guests=guests(2))
        await stream.until_told(2)


@pytest.mark.parametrize(
    ("sections", "answering"),
    [
        ({"results": [agent_pb2.SlotResult(version=7)]}, True),
        ({"keyring": keyring_pb2.Keyring()}, False),
        ({"full": True}, False),
    ],
)
async def test_what_concerns_keys_is_written_at_once_with_all_before_it(
    engine: Engine, sections: dict[str, object], answering: bool
) -> None:
    async with one_stream(engine) as stream:
        await stream.tell(guests=guests(2))
        await stream.tell(**sections)
        await stream.until_told(3)
        assert stream.taken[-1][1] is answering
    assert changes_told(engine) == [1, 2]


async def test_too_many_are_written_before_the_gap_is_over(engine: Engine) -> None:
    async with one_stream(engine) as stream:
        for servers in range(MOST_GATHERED):
            await stream.tell(guests=guests(servers + 2))
        await stream.until_told(1 + MOST_GATHERED)


async def test_a_gap_among_gathered_reports_asks_for_a_whole_one(engine: Engine) -> None:
    async with one_stream(engine) as stream:
        await stream.tell(guests=guests(2))
        stream._sequence += 1
        await stream.tell(guests=guests(3))
        await stream.intake.finish()
        assert stream.taken[-1][0].full_report_wanted


async def test_a_refused_report_ends_the_stream_with_its_reason(engine: Engine) -> None:
    async with one_stream(engine) as stream:
        broken = keyring_pb2.Keyring(keys=[keyring_pb2.HeldKey(serial="no serial")])
        broken.keys[0].slot.type = key_pb2.KEY_TYPE_SERVER
        broken.keys[0].slot.role = keyring_pb2.KEY_ROLE_ACTIVE
        await stream.tell(keyring=broken)
        # The stream's own task, which is this one, is interrupted to tell the agent.
        with pytest.raises(asyncio.CancelledError):
            await stream.intake.finish()
        this = asyncio.current_task()
        assert this is not None
        this.uncancel()
        ending = stream.session.ending
        assert isinstance(ending, CallRefused)
        assert ending.reason == error_pb2.ERROR_REASON_INVALID_FIELD
        # What comes behind it is not written any more.
        await stream.tell(guests=guests(9))
        await stream.intake.finish()
    assert changes_told(engine) == [1]


async def test_what_was_not_handed_over_is_let_go_with_the_stream(engine: Engine) -> None:
    async with one_stream(engine) as stream:
        await stream.tell(guests=guests(2))
        stream.intake.close()
        await stream.intake.finish()
    assert changes_told(engine) == [1]


async def test_further_reports_gather_while_one_is_written(engine: Engine) -> None:
    commits = 0

    def count_commit(_connection: object) -> None:
        nonlocal commits
        commits += 1

    async with one_stream(engine) as stream:
        event.listen(engine, "commit", count_commit)
        try:
            for servers in range(10):
                await stream.tell(guests=guests(servers + 2), keyring=keyring_pb2.Keyring())
            await stream.until_told(11)
        finally:
            event.remove(engine, "commit", count_commit)
    # The first alone, and the other nine, which came meanwhile, together.
    assert commits == 2
