"""Five thousand SVMs: what each costs the server at rest, and their return after a cut.

The yardstick are as many bare streams, each on a channel of its own, in the same processes.
Both begin with the closing of the first connection. Ours ends when every agent has been welcomed
over a new one and found to be in step; an operator keeps calling meanwhile, and no call may fail.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc.aio

from bench.fanout import bare_stream, until_bare_connected
from bench.figures import Figure
from bench.world import World
from sparekey.agent.channels import open_channel
from sparekey.agent.timing import Timing
from sparekey.runtime.startup import Address
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.v1 import fleet_pb2, fleet_pb2_grpc

ROUNDS = 3
RECONNECT_GOAL = 1.3
MEMORY_GOAL = 1.25
_TIMING = Timing(
    first_try_within=0.05,
    backoff_base=0.05,
    backoff_cap=1.0,
    # Each round stands for a cut after a long calm, and not for one of many in a minute.
    stable_after=0.0,
    failures_before_new_channel=1,
)
_PAGE_KIB = 4


async def measure(world: World, count: int) -> list[Figure]:
    """Measure memory and return with `count` SVMs and `count` bare streams."""
    channels: list[grpc.aio.Channel] = []
    all_anew = asyncio.Event()

    def remembered(address: Address) -> grpc.aio.Channel:
        channels.append(open_channel(address))
        if len(channels) == count:
            all_anew.set()
        return channels[-1]

    before = _resident_kib(world.bare_pid)
    bare = await _open_bare(world, count)
    bare_kib = (_resident_kib(world.bare_pid) - before) / count
    before = _resident_kib(world.server.process.pid)
    fleet = SimulatedFleet(
        world.server.address, world.trusted, timing=_TIMING, channel_factory=remembered
    )
    ours: list[float] = []
    yardstick: list[float] = []
    async with fleet:
        svms = [make_svm(f"storm-{number}", servers=5) for number in range(count)]
        await fleet.start(svms)
        await asyncio.sleep(1)  # until the first reports are written down
        kib = (_resident_kib(world.server.process.pid) - before) / count
        for _ in range(ROUNDS):
            with _timed(yardstick):
                await _close_bare(bare)
                bare = await _open_bare(world, count)
            calling = asyncio.create_task(_call_on(world))
            cut, channels[:] = list(channels), []
            all_anew.clear()
            with _timed(ours):
                # Neither needs a task of its own for each SVM: the bare streams have none either.
                for channel in cut:
                    await channel.close()
                await all_anew.wait()
                for svm in svms:
                    await svm.running_agent.connected.wait()
            calling.cancel()
            failed = (await asyncio.gather(calling, return_exceptions=True))[0]
            assert isinstance(failed, asyncio.CancelledError), failed
    await _close_bare(bare)
    return [
        Figure(f"reconnect_{count}", "s", ours, yardstick, RECONNECT_GOAL, "low"),
        Figure("memory_per_svm", "KiB", [kib], [bare_kib], MEMORY_GOAL, "low"),
    ]


@contextmanager
def _timed(spans: list[float]) -> Iterator[None]:
    """Add how long the block took, without the passes of this process's garbage collector.

    Each of them walks over the objects of ten thousand streams, ours and bare alike, and several
    fall into every span; an SVM has one stream in a process of its own.
    """
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        yield
        spans.append(time.perf_counter() - start)
    finally:
        gc.enable()


async def _call_on(world: World) -> None:
    """An operator's calls, one after another; the first that fails ends it."""
    fleet: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(world.channel)
    while True:
        await fleet.ListSvms(fleet_pb2.ListSvmsRequest(page_size=10), timeout=30)
        await asyncio.sleep(0.1)


async def _open_bare(world: World, count: int) -> list[asyncio.Task[None]]:
    world.bare_streams = 0
    streams = [asyncio.create_task(bare_stream(world)) for _ in range(count)]
    await until_bare_connected(world, count)
    return streams


async def _close_bare(streams: list[asyncio.Task[None]]) -> None:
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)


def _resident_kib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KIB
