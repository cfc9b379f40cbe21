"""What waits for a slow reader is bounded: the newest of each kind and slot."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sparekey.server.link.sessions import Session
from sparekey.v1 import agent_pb2, keyring_pb2
from sparekey.wire.edge import Stream


class SlowStream:
    """Takes a frame only when it is let."""

    def __init__(self) -> None:
        self.taken: list[agent_pb2.ConnectResponse] = []
        self.let = asyncio.Semaphore(0)

    async def write(self, frame: Any) -> None:
        await self.let.acquire()
        self.taken.append(frame)


def push(version: int, role: int) -> agent_pb2.ConnectResponse:
    slot = keyring_pb2.Slot(type=1, role=role)  # type: ignore[arg-type]
    instruction = agent_pb2.Instruction(slot=slot, version=version)
    return agent_pb2.ConnectResponse(push=agent_pb2.Push(instructions=[instruction]))


def accepted(sequence: int) -> agent_pb2.ConnectResponse:
    return agent_pb2.ConnectResponse(report_accepted=agent_pb2.ReportAccepted(sequence=sequence))


async def test_a_slow_reader_gets_the_newest_of_each_slot_in_one_push() -> None:
    stream = SlowStream()
    session = Session(agent_pb2.Hello(svm_id="svm-1", boot_id="b"), cast("Stream", stream), 0.0)
    session.send_soon(push(1, 1))
    await asyncio.sleep(0)  # the first is under way and cannot be changed any more
    for version in range(2, 100):
        session.send_soon(push(version, 1 + version % 2))
        session.send_soon(accepted(version))
    assert len(asyncio.all_tasks()) <= 2, "one task for each session, however much waits"
    for _ in range(3):
        stream.let.release()
    async with asyncio.timeout(5):
        while len(stream.taken) < 3:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0)
    versions = [[one.version for one in frame.push.instructions] for frame in stream.taken]
    assert versions[:2] == [[1], [98, 99]]
    assert stream.taken[2].report_accepted.sequence == 99
