"""The link outlasts its server: it retries whatever the end, spread over time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
import structlog

from sparekey.agent.agent import Agent
from sparekey.agent.channels import open_channel
from sparekey.agent.timing import Timing
from sparekey.licensing.keys import LicenseKey
from sparekey.runtime.startup import Address
from sparekey.v1 import agent_pb2, error_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import to_duration

if TYPE_CHECKING:
    from integration.agent.conftest import ScriptedServer

StartAgent = Callable[..., Agent]
MakeKey = Callable[..., LicenseKey]
Hold = Callable[..., agent_pb2.Instruction]
WaitUntil = Callable[[Callable[[], object]], Awaitable[None]]
FAST = Timing(
    first_try_within=0.0,
    backoff_base=0.02,
    backoff_cap=0.1,
    welcome_within=5.0,
    farewell_within=2.0,
)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
async def test_any_early_failure_is_retried(
    server: ScriptedServer, start_agent: StartAgent, code: grpc.StatusCode
) -> None:
    agent = start_agent()
    (await server.stream()).end(code)
    stream = await server.stream()
    stream.end()
    stream = await server.stream()
    await stream.welcome_whole()
    stream.end(code)
    await (await server.stream()).welcome()
    async with asyncio.timeout(5):
        await agent.connected.wait()


async def test_connected_tells_of_the_link(
    server: ScriptedServer, start_agent: StartAgent, wait_until: WaitUntil
) -> None:
    agent = start_agent()
    stream = await server.stream()
    assert not agent.connected.is_set()
    await stream.welcome_whole()
    await wait_until(agent.connected.is_set)
    stream.end()
    stream = await server.stream()
    assert not agent.connected.is_set()


async def test_a_server_that_does_not_answer_hello_is_given_up(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    start_agent(timing=replace(FAST, welcome_within=0.1))
    for _ in range(3):
        await server.stream()


async def test_a_first_frame_other_than_welcome_ends_the_stream(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    start_agent()
    stream = await server.stream()
    stream.push()
    assert await server.stream()


async def test_frames_of_unknown_kind_are_passed_over(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    start_agent()
    stream = await server.stream()
    await stream.welcome(heartbeat=0.05)
    unknown = agent_pb2.ConnectResponse.FromString(b"\xfa\x3e\x03\x0a\x01\x00")
    assert unknown.WhichOneof("frame") is None
    stream.answers.put_nowait(unknown)
    for _ in range(2):
        assert (await stream.next()).WhichOneof("frame") == "heartbeat"


async def test_a_draining_server_is_left_for_at_least_as_long_as_it_asks(
    server: ScriptedServer, start_agent: StartAgent, make_key: MakeKey, hold: Hold
) -> None:
    start_agent()
    stream = await server.stream()
    await stream.welcome_whole()
    asked = timedelta(seconds=0.4)
    stream.push(hold(make_key(), 1))
    stream.send(drain=agent_pb2.Drain(retry_after=to_duration(asked)))
    # What was in hand is still told.
    assert (await stream.next_report()).results
    async with asyncio.timeout(5):
        await stream.left.wait()
    loop = asyncio.get_running_loop()
    left_at = loop.time()
    await server.stream()
    assert loop.time() - left_at >= asked.total_seconds() - 0.05


async def test_a_server_that_never_ends_a_stream_is_left_all_the_same(
    server: ScriptedServer, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = start_agent(timing=replace(FAST, farewell_within=0.05))
    stream = await server.stream()
    await stream.welcome_whole()
    monkeypatch.setattr(stream, "end", lambda: None)
    stream.send(drain=agent_pb2.Drain())
    stream = await server.stream()
    await stream.welcome()
    monkeypatch.setattr(stream, "end", lambda: None)
    async with asyncio.timeout(5):
        await agent.connected.wait()
        await agent.stop()


async def test_retry_after_of_a_refusal_is_kept(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    start_agent()
    stream = await server.stream()
    loop = asyncio.get_running_loop()
    before = loop.time()
    stream.end(
        CallRefused(
            error_pb2.ERROR_REASON_SHUTTING_DOWN, "stopping", retry_after=timedelta(seconds=0.4)
        )
    )
    await server.stream()
    assert loop.time() - before >= 0.4


async def test_a_clone_says_so_and_waits_the_longest(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    with structlog.testing.capture_logs() as logs:
        start_agent(timing=replace(FAST, backoff_cap=0.4))
        stream = await server.stream()
        loop = asyncio.get_running_loop()
        before = loop.time()
        stream.end(CallRefused(error_pb2.ERROR_REASON_CLONED_AGENT, "another is connected"))
        await server.stream()
        assert loop.time() - before >= 0.4
    (event,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert "another agent with this SVM id" in event["event"]


async def test_a_new_channel_after_three_failures_in_a_row(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    made: list[Address] = []

    def make(address: Address) -> grpc.aio.Channel:
        made.append(address)
        return open_channel(address)

    start_agent(channel_factory=make)
    for _ in range(3):
        stream = await server.stream()
        assert len(made) == 1
        stream.end(grpc.StatusCode.UNAVAILABLE)
    stream = await server.stream()
    assert len(made) == 2
    await stream.welcome_whole()
    # A stream that worked begins the count anew, and its own end is the first failure.
    for _ in range(2):
        stream.end(grpc.StatusCode.UNAVAILABLE)
        stream = await server.stream()
        await stream.expect_hello()
    assert len(made) == 2


async def test_stopping_leaves_in_good_order_and_once(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    agent = start_agent()
    stream = await server.stream()
    await stream.welcome_whole()
    async with asyncio.timeout(5):
        await agent.stop()
        await agent.stop()
    assert stream.left.is_set()
    assert not agent.connected.is_set()


async def test_stopping_while_there_is_no_server(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    await server.stop()
    agent = start_agent(timing=replace(FAST, backoff_base=60, backoff_cap=60))
    async with asyncio.timeout(5):
        await agent.started.wait()
        await agent.stop()


async def test_stopping_waits_for_no_server_that_says_nothing(start_agent: StartAgent) -> None:
    held: list[asyncio.StreamWriter] = []
    reached = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        reached.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        # The connection stands, so that its call waits in vain to begin.
        agent = start_agent(
            timing=replace(FAST, welcome_within=60),
            channel_factory=lambda _: open_channel(Address("127.0.0.1", port)),
        )
        async with asyncio.timeout(5):
            await reached.wait()
            await agent.stop()
        held[0].close()


async def test_what_the_server_says_puts_off_no_heartbeat(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    start_agent()
    stream = await server.stream()
    await stream.welcome(heartbeat=0.2)

    async def talk() -> None:
        while True:
            stream.send(report_accepted=agent_pb2.ReportAccepted())
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(talk())
    try:
        assert (await stream.next()).WhichOneof("frame") == "heartbeat"
    finally:
        talking.cancel()


async def test_cancelling_the_run_ends_everything(
    server: ScriptedServer, start_agent: StartAgent
) -> None:
    before = asyncio.all_tasks()
    agent = start_agent()
    (running,) = asyncio.all_tasks() - before
    stream = await server.stream()
    await stream.welcome_whole()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not agent.connected.is_set()
    ours = {task for task in asyncio.all_tasks() if "sparekey.agent" in repr(task)}
    assert not ours


async def test_many_agents_in_one_process_are_cheap(
    server: ScriptedServer, start_agent: StartAgent, wait_until: WaitUntil
) -> None:
    agents = [start_agent(svm_id=f"svm-{number}") for number in range(100)]
    for _ in agents:
        await (await server.stream()).welcome_whole()
    async with asyncio.timeout(5):
        for agent in agents:
            await agent.connected.wait()

    def tasks() -> int:
        return sum("/agent/sparekey/agent/" in repr(task) for task in asyncio.all_tasks())

    # One that reads its stream and one that follows its inventory; nobody writes at rest.
    await wait_until(lambda: tasks() <= 2 * len(agents))
