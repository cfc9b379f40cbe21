"""Delta reports over 1,000 streams, each on disk before it is accepted, beside a bare sink."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc.aio

from bench.bare_server import SINK
from bench.figures import Figure
from bench.world import World
from sparekey.v1 import agent_pb2, keyring_pb2

STREAMS = 1000
REPORTS = 100
ROUNDS = 5
GOAL = 0.75
_CONNECT = "/sparekey.v1.AgentService/Connect"
_Call = grpc.aio.StreamStreamCall[bytes, bytes]


async def measure(world: World) -> Figure:
    """Measure reports a second."""
    connect: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    connect = world.channel.stream_stream(_CONNECT)
    ours = [await _open(connect(), number) for number in range(STREAMS)]
    sink: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    sink = world.bare_channel.stream_stream(SINK)
    bare = [sink() for _ in range(STREAMS)]
    bare_frames = [bytes([1]) * len(_report(2))] * REPORTS
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        start = time.perf_counter()
        await asyncio.gather(*(_fill(stream, bare_frames) for stream in bare))
        bare_rate = STREAMS * REPORTS / (time.perf_counter() - start)
        first = 2 + number * REPORTS
        # Encoded before the clock runs, as the bare frames are.
        frames = [_report(sequence) for sequence in range(first, first + REPORTS)]
        start = time.perf_counter()
        last = first + REPORTS - 1
        await asyncio.gather(*(_report_all(stream, frames, last) for stream in ours))
        rate = STREAMS * REPORTS / (time.perf_counter() - start)
        if number > 0:  # the first is a warm-up
            rates[0].append(rate)
            rates[1].append(bare_rate)
    for stream in (*ours, *bare):
        stream.cancel()
    return Figure("report_ingest", "reports/s", rates[0], rates[1], GOAL, "high")


async def _open(stream: _Call, number: int) -> _Call:
    hello = agent_pb2.Hello(svm_id=f"ingest-{number}", boot_id="bench")
    await stream.write(agent_pb2.ConnectRequest(hello=hello).SerializeToString())
    await stream.read()
    full = agent_pb2.Report(
        sequence=1,
        full=True,
        placement=agent_pb2.Placement(cluster="ingest"),
        guests=keyring_pb2.GuestMix(servers=5),
        host_cpu=keyring_pb2.HostCpu(processors=2, cores=32),
        keyring=keyring_pb2.Keyring(),
        digest=bytes(32),
    )
    await stream.write(agent_pb2.ConnectRequest(report=full).SerializeToString())
    return stream


async def _report_all(stream: _Call, frames: Sequence[bytes], last: int) -> None:
    for frame in frames:
        await stream.write(frame)
    while True:
        told = await stream.read()
        assert isinstance(told, bytes)
        if agent_pb2.ConnectResponse.FromString(told).report_accepted.sequence == last:
            return


async def _fill(stream: _Call, frames: Sequence[bytes]) -> None:
    for frame in frames:
        await stream.write(frame)
    await stream.write(b"")
    await stream.read()


def _report(sequence: int) -> bytes:
    report = agent_pb2.Report(
        sequence=sequence,
        guests=keyring_pb2.GuestMix(servers=1 + sequence % 9, desktops=3),
        digest=sequence.to_bytes(32, "big"),
    )
    return agent_pb2.ConnectRequest(report=report).SerializeToString()
