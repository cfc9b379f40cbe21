"""Many streams of one agent at once: one stays, each other is told at once why it does not."""

from __future__ import annotations

import asyncio

import grpc.aio

from sparekey.v1 import fleet_pb2
from sparekey.wire.errors import read_problem

from .raw_agent import RawAgent
from .site import Site
from .words import PATIENCE

STREAMS = 30
ROUNDS = 10


async def how_it_ends(agent: RawAgent) -> str:
    """Open a stream and keep it open; the reason for which the server ends it."""
    try:
        await agent.open()
        await agent.ended()
    except grpc.aio.AioRpcError as error:
        return read_problem(error).reason or error.code().name
    return "ended without a word"


def is_connected(svm: fleet_pb2.Svm) -> bool:
    return svm.link_state == fleet_pb2.LINK_STATE_CONNECTED


async def test_of_many_streams_at_once_one_stays_and_the_others_are_told(site: Site) -> None:
    for _ in range(ROUNDS):
        streams = {asyncio.create_task(how_it_ends(RawAgent(site))) for _ in range(STREAMS)}
        ended: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while len(streams) > 1:
                done, streams = await asyncio.wait(streams, return_when=asyncio.FIRST_COMPLETED)
                ended += [task.result() for task in done]
        assert ended == ["STREAM_REPLACED"] * (STREAMS - 1)
        await site.until_svm("svm-1", is_connected)
        for left in streams:
            left.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
