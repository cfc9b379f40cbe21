"""When an agent is told that its reports are on disk, by a whole link without a transport."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import Engine

from sparekey.runtime.clock import SettableClock
from sparekey.server.link.agent_link import AgentLink
from sparekey.server.link.sessions import LinkTiming
from sparekey.server.store.commits import CommitFeed
from sparekey.server.store.reader import Reader
from sparekey.server.store.writer import ThreadTarget, Writer
from sparekey.v1 import agent_pb2, keyring_pb2
from sparekey.wire.edge import Stream

from .world import NOW


class QueuedStream:
    """A stream whose frames are put into queues."""

    def __init__(self) -> None:
        self._up: asyncio.Queue[agent_pb2.ConnectRequest | None] = asyncio.Queue()
        self._down: asyncio.Queue[agent_pb2.ConnectResponse] = asyncio.Queue()

    def say(self, frame: agent_pb2.ConnectRequest | None) -> None:
        self._up.put_nowait(frame)

    def report(self, **sections: Any) -> None:
        self.say(agent_pb2.ConnectRequest(report=agent_pb2.Report(**sections)))

    async def hear(self) -> agent_pb2.ConnectResponse:
        async with asyncio.timeout(20):
            return await self._down.get()

    async def receive(self) -> Any:
        return await self._up.get()

    def decode(self, received: Any) -> Any:
        return received

    async def read(self) -> Any:
        return self.decode(await self.receive())

    async def write(self, frame: agent_pb2.ConnectResponse) -> None:
        self._down.put_nowait(frame)


@asynccontextmanager
async def connected(engine: Engine, timing: LinkTiming) -> AsyncIterator[QueuedStream]:
    """An SVM's stream that has been welcomed."""
    clock, feed, reader = SettableClock(NOW), CommitFeed(), Reader(engine)
    writer = Writer(ThreadTarget(engine), clock, feed)
    await writer.start()
    link = AgentLink(writer, reader, clock, feed, randomness=random.Random(1), timing=timing)
    await link.load()
    link.start()
    stream = QueuedStream()
    serving = asyncio.create_task(link.serve(cast("Stream", stream)))
    hello = agent_pb2.Hello(svm_id="svm-1", boot_id="boot")
    stream.say(agent_pb2.ConnectRequest(hello=hello))
    assert (await stream.hear()).HasField("welcome")
    try:
        yield stream
    finally:
        stream.say(None)
        await serving
        await link.stop()
        await writer.stop()
        reader.stop()


async def test_reports_are_told_of_once_they_are_written_and_answers_with_them(
    engine: Engine,
) -> None:
    gap = timedelta(milliseconds=100)
    timing = LinkTiming(accepted_within=timedelta(hours=1), report_gap=gap)
    async with connected(engine, timing) as stream:
        stream.report(sequence=1, full=True)
        told = [(await stream.hear()).report_accepted.sequence]
        # An answer is told of later, or with the report behind it.
        stream.report(sequence=2, results=[agent_pb2.SlotResult(version=7)])
        stream.report(sequence=3, guests=keyring_pb2.GuestMix(servers=2))
        while told[-1] < 3:
            told.append((await stream.hear()).report_accepted.sequence)
    assert told == [1, 3]


async def test_an_answer_is_told_of_a_moment_later(engine: Engine) -> None:
    async with connected(engine, LinkTiming(accepted_within=timedelta(milliseconds=10))) as stream:
        answer = agent_pb2.Report(sequence=1, full=True, results=[agent_pb2.SlotResult(version=7)])
        stream.say(agent_pb2.ConnectRequest(report=answer))
        assert (await stream.hear()).report_accepted.sequence == 1
