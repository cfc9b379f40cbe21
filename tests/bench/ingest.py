"""Delta reports over 1,000 streams, each on disk before it is accepted, beside a bare sink."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio

from bench.bare_server import SINK
from bench.figures import Figure
from bench.world import World
from sparekey.v1 import agent_pb2, agent_pb2_grpc, keyring_pb2

STREAMS = 1000
REPORTS = 20
ROUNDS = 5
GOAL = 0.75
_Call = grpc.aio.StreamStreamCall[Any, Any]


async def measure(world: World) -> Figure:
    """Measure reports a second."""
    stub: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(world.channel)
    ours = [await _open(stub, number) for number in range(STREAMS)]
    sink: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    sink = world.bare_channel.stream_stream(SINK)
    bare = [sink() for _ in range(STREAMS)]
    rates: tuple[list[float], list[float]] = ([], [])
    size = _report(2).ByteSize()
    for number in range(ROUNDS + 1):
        start = time.perf_counter()
        await asyncio.gather(*(_fill(stream, size) for stream in bare))
        bare_rate = STREAMS * REPORTS / (time.perf_counter() - start)
        start = time.perf_counter()
        first = 2 + number * REPORTS
        await asyncio.gather(*(_report_all(stream, first) for stream in ours))
        rate = STREAMS * REPORTS / (time.perf_counter() - start)
        if number > 0:  # the first is a warm-up
            rates[0].append(rate)
            rates[1].append(bare_rate)
    for stream in (*ours, *bare):
        stream.cancel()
    return Figure("report_ingest", "reports/s", rates[0], rates[1], GOAL, "high")


async def _open(stub: agent_pb2_grpc.AgentServiceAsyncStub, number: int) -> _Call:
    stream: _Call = stub.Connect()
    hello = agent_pb2.Hello(svm_id=f"ingest-{number}", boot_id="bench")
    await stream.write(agent_pb2.ConnectRequest(hello=hello))
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
    await stream.write(agent_pb2.ConnectRequest(report=full))
    return stream


async def _report_all(stream: _Call, first: int) -> None:
    last = first + REPORTS - 1
    for sequence in range(first, last + 1):
        await stream.write(agent_pb2.ConnectRequest(report=_report(sequence)))
    while True:
        frame: Any = await stream.read()
        if frame.report_accepted.sequence == last:
            return


async def _fill(stream: grpc.aio.StreamStreamCall[bytes, bytes], size: int) -> None:
    frame = bytes([1]) * size
    for _ in range(REPORTS):
        await stream.write(frame)
    await stream.write(b"")
    await stream.read()


def _report(sequence: int) -> agent_pb2.Report:
    return agent_pb2.Report(
        sequence=sequence,
        guests=keyring_pb2.GuestMix(servers=1 + sequence % 9, desktops=3),
        digest=sequence.to_bytes(32, "big"),
    )
