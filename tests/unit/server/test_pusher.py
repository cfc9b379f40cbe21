"""Pushing to many SVMs: in portions, as fast as they answer, and past those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest
from sqlalchemy import Engine

from sparekey.licensing.keyring import Role
from sparekey.runtime.clock import SettableClock
from sparekey.server.link.pusher import Pusher
from sparekey.server.link.sessions import LinkTiming, Session, Sessions
from sparekey.server.store.commits import CommitFeed
from sparekey.server.store.reader import Reader
from sparekey.server.store.writer import ThreadTarget, Writer
from sparekey.v1 import agent_pb2
from sparekey.wire.edge import Stream

from .world import NOW, World, make_key

SVMS = 10
NEVER = timedelta(hours=1)


class Told:
    """What the SVMs were sent; in place of the transport."""

    def __init__(self) -> None:
        self.pushed: list[Session] = []
        self.answered = 0
        self.most_unanswered = 0
        self._more = asyncio.Event()

    def stream_of(self, svm_id: str, sessions: Sessions) -> Session:
        told = self

        class OneStream:
            async def write(self, frame: agent_pb2.ConnectResponse) -> None:
                assert frame.HasField("push")
                told.pushed.append(session)
                unanswered = len(told.pushed) - told.answered
                told.most_unanswered = max(told.most_unanswered, unanswered)
                told._more.set()

        hello = agent_pb2.Hello(svm_id=svm_id, boot_id="boot")
        session = Session(hello, cast("Stream", OneStream()), heard_at=0)
        sessions.add(session)
        return session

    async def until(self, count: int, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while len(self.pushed) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def pushing(engine: Engine, patience: timedelta) -> AsyncIterator[tuple[Pusher, Told]]:
    """A pusher in portions of 2 with at most 4 unanswered, and 10 SVMs with an instruction."""
    world = World(engine)
    key = make_key(1)
    world.add_keys([key])
    names = [f"svm-{number}" for number in range(SVMS)]
    for name in names:
        world.add_svm(name)
    world.start(world.order(key, Role.ACTIVE))
    sessions, told = Sessions(), Told()
    for name in names:
        told.stream_of(name, sessions)
    reader = Reader(engine)
    writer = Writer(ThreadTarget(engine), SettableClock(NOW), CommitFeed())
    timing = LinkTiming(push_patience=patience)
    pusher = Pusher(sessions, reader, writer, timing, portion=2, most_unanswered=4)
    running = asyncio.create_task(pusher.run())
    try:
        pusher.wake(names)
        yield pusher, told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        reader.stop()


async def test_pushes_wait_while_many_are_unanswered(engine: Engine) -> None:
    async with pushing(engine, NEVER) as (pusher, told):
        with pytest.raises(TimeoutError):
            await told.until(5, seconds=0.5)
        for number in range(SVMS):
            # Room for a portion comes with every second answer.
            await told.until(min(number - number % 2 + 4, SVMS))
            assert pusher.is_busy
            told.answered += 1
            pusher.answered(told.pushed[number], more=False)
        assert len({session.svm_id for session in told.pushed}) == SVMS
        assert told.most_unanswered == 4
        assert not pusher.is_busy


async def test_svms_that_do_not_answer_hold_up_the_others_for_a_moment_only(engine: Engine) -> None:
    async with pushing(engine, timedelta(milliseconds=10)) as (_, told):
        await told.until(SVMS)
        assert len({session.svm_id for session in told.pushed}) == SVMS


async def test_ended_streams_are_not_waited_for(engine: Engine) -> None:
    async with pushing(engine, NEVER) as (pusher, told):
        await told.until(4)
        for session in told.pushed[:4]:
            pusher.forget(session)
        await told.until(8)
