"""A reserve key pushed to connected SVMs, beside a bare push-and-answer over as many streams.

Ours ends when the task's end is in the history: every SVM has answered, and its answer
and new keyring are on the server's disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc.aio

from bench.bare_server import CONNECT, PUSH
from bench.figures import Figure
from bench.stand_in import StandIn
from bench.world import World
from sparekey.agent.channels import open_channel
from sparekey.runtime.garbage import collect_rarely
from sparekey.v1 import event_pb2, event_pb2_grpc, license_pb2, license_pb2_grpc

ROUNDS = 7
GOAL = 2.0
_PUSH_BYTES = 480
_ANSWER_BYTES = 300


async def measure(world: World, count: int, rounds: int = ROUNDS, goal: float = GOAL) -> Figure:
    """Measure with `count` streams on channels of their own."""
    cluster = f"fanout-{count}"
    everyone = license_pb2.Scope(cluster=cluster)
    world.bare_streams = 0
    svms = [StandIn(world, f"fan-{count}-{number}", cluster) for number in range(count)]
    running = [asyncio.create_task(bare_stream(world)) for _ in range(count)]
    running.extend(asyncio.create_task(svm.run()) for svm in svms)
    ours: list[float] = []
    yardstick: list[float] = []
    await until_bare_connected(world, count)
    await _until_accepted(svms)
    licenses: license_pb2_grpc.LicenseServiceAsyncStub = license_pb2_grpc.LicenseServiceStub(
        world.channel
    )
    push_bare: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = world.bare_channel.unary_unary(PUSH)
    ends = _TaskEnds(world.channel)
    await ends.start()
    first = await licenses.Activate(
        license_pb2.ActivateRequest(key_serial=world.keys[0].serial, scope=everyone)
    )
    await ends.wait_for(first.task.task_id)
    # Thousands of clients in one process would spend much of its time on looking for garbage.
    collect_rarely()
    for number in range(1, rounds + 2):
        # What was told late of the last round must not slow the bare one.
        await _until_accepted(svms)
        start = time.perf_counter()
        await push_bare(bytes(_PUSH_BYTES))
        bare_seconds = time.perf_counter() - start
        start = time.perf_counter()
        renewal = await licenses.Renew(
            license_pb2.RenewRequest(key_serial=world.keys[number].serial, scope=everyone)
        )
        await ends.wait_for(renewal.task.task_id)
        seconds = time.perf_counter() - start
        if number > 1:  # the first is a warm-up
            yardstick.append(bare_seconds)
            ours.append(seconds)
    ends.stop()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return Figure(f"fanout_{count}", "s", ours, yardstick, goal, "low")


async def _until_accepted(svms: Sequence[StandIn]) -> None:
    for svm in svms:
        await svm.accepted.wait()


class _TaskEnds:
    """Waits for the ends of tasks in the history."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub: event_pb2_grpc.EventServiceAsyncStub = event_pb2_grpc.EventServiceStub(channel)
        self._call = stub.WatchEvents(
            event_pb2.WatchEventsRequest(kinds=[event_pb2.EVENT_KIND_TASK_FINISHED], from_now=True)
        )

    async def start(self) -> None:
        """Return when the watch stands."""
        await self._call.read()

    async def wait_for(self, task_id: str) -> None:
        """Return when the task has ended, with success."""
        while True:
            response = await self._call.read()
            assert isinstance(response, event_pb2.WatchEventsResponse)
            for event in response.events:
                if event.task_id == task_id:
                    assert "SUCCEEDED" in event.message, event.message
                    return

    def stop(self) -> None:
        """End the watch."""
        self._call.cancel()


async def bare_stream(world: World) -> None:
    channel = open_channel(world.bare_address)
    connect: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(CONNECT)
    stream = connect()
    try:
        await stream.write(b"hello")
        await stream.read()
        world.bare_streams += 1
        world.bare_connected.set()
        while (await stream.read()) is not grpc.aio.EOF:
            await stream.write(bytes(_ANSWER_BYTES))
    finally:
        await channel.close()


async def until_bare_connected(world: World, count: int) -> None:
    while world.bare_streams < count:
        world.bare_connected.clear()
        await world.bare_connected.wait()
