"""Durable Activate and Renew at 64 in flight, beside an echo of messages of the same size.

Each call is a task for one SVM of its own that is offline, so what is measured
is the intake: decided by the rules, with its outcome, its instruction and its
events on disk before the answer goes out.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

import grpc.aio

from bench.bare_server import ECHO
from bench.figures import Figure
from bench.world import World
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyType
from sparekey.v1 import agent_pb2, agent_pb2_grpc, keyring_pb2, license_pb2
from sparekey.wire.licensing_messages import keyring_message

IN_FLIGHT = 64
CALLS = 1500
ROUNDS = 7
GOAL = 0.7

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


async def measure(world: World) -> list[Figure]:
    """Measure both RPCs."""
    active, reserve = world.keys[0], world.keys[1]
    held = Keyring({Slot(KeyType.SERVER, Role.ACTIVE): HeldKey(active, active.not_before)})
    figures = []
    for name, key, keyring in (
        ("activate_rpc", active, Keyring.EMPTY),
        ("renew_rpc", reserve, held),
    ):
        svm_ids = [f"{name[:5]}-{number}" for number in range((ROUNDS + 1) * CALLS)]
        await _register(world, svm_ids, keyring)
        make = license_pb2.ActivateRequest if name == "activate_rpc" else license_pb2.RenewRequest
        requests = iter(
            [
                make(
                    key_serial=key.serial,
                    scope=license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=[svm_id])),
                ).SerializeToString()
                for svm_id in svm_ids
            ]
        )
        method = "Activate" if name == "activate_rpc" else "Renew"
        figures.append(await _pair(world, name, f"/sparekey.v1.LicenseService/{method}", requests))
    return figures


async def _pair(world: World, name: str, method: str, requests: Iterator[bytes]) -> Figure:
    ours: Call = world.channel.unary_unary(method)
    echo: Call = world.bare_channel.unary_unary(ECHO)
    await _calls(ours, requests)  # a warm-up
    await _calls(echo, itertools.repeat(bytes(world.request_bytes)))
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        rates[1].append(await _calls(echo, itertools.repeat(bytes(world.request_bytes))))
        rates[0].append(await _calls(ours, requests))
    return Figure(name, "calls/s", rates[0], rates[1], GOAL, "high")


async def _calls(call: Call, requests: Iterator[bytes]) -> float:
    """Make CALLS calls, IN_FLIGHT at a time; return the rate."""
    left = itertools.islice(requests, CALLS)

    async def caller() -> None:
        for request in left:
            await call(request)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return CALLS / (time.perf_counter() - start)


async def _register(world: World, svm_ids: list[str], keyring: Keyring) -> None:
    """Let SVMs connect once, report, and leave."""
    stub: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(world.channel)
    left = iter(svm_ids)
    report = agent_pb2.Report(
        sequence=1,
        full=True,
        placement=agent_pb2.Placement(cluster="bench"),
        guests=keyring_pb2.GuestMix(servers=5),
        host_cpu=keyring_pb2.HostCpu(processors=2, cores=32),
        keyring=keyring_message(keyring.slots, revision=1),
        digest=bytes(32),
    )

    async def register() -> None:
        for svm_id in left:
            stream = stub.Connect()
            hello = agent_pb2.Hello(svm_id=svm_id, boot_id="bench")
            await stream.write(agent_pb2.ConnectRequest(hello=hello))
            await stream.read()
            await stream.write(agent_pb2.ConnectRequest(report=report))
            await stream.done_writing()
            # The stream ends once the report is on disk; its acceptance is told up to a second
            # later, for which thousands in turn would wait for minutes.
            while (await stream.read()) is not grpc.aio.EOF:
                pass

    await asyncio.gather(*(register() for _ in range(IN_FLIGHT)))
