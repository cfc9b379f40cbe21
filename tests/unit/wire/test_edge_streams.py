"""What leaves the edge on streams, over a real socket: messages, refusals, no fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from sparekey.v1 import agent_pb2, agent_pb2_grpc, error_pb2, event_pb2, event_pb2_grpc, key_pb2
from sparekey.wire.edge import Call, Stream
from sparekey.wire.errors import CallProblem, CallRefused, read_problem

Serve = Callable[[ServiceDescriptor, object], Awaitable[grpc.aio.Channel]]
EVENT_SERVICE = event_pb2.DESCRIPTOR.services_by_name["EventService"]
AGENT_SERVICE = agent_pb2.DESCRIPTOR.services_by_name["AgentService"]
SECRET = "TEST0-ABCDE-12345-ZZ9ZZ"


class Events:
    """An event service whose stream gives what `make` gives."""

    def __init__(self, make: Callable[[Any, Call], AsyncIterator[Message]]) -> None:
        self.watch_events = make

    async def list_events(self, _request: Any, _call: Call) -> Message:
        return event_pb2.ListEventsResponse()


class Agents:
    """An agent service that runs one coroutine for each stream."""

    def __init__(self, run: Callable[[Stream, Call], Awaitable[None]]) -> None:
        self.connect = run


async def watch_error(channel: grpc.aio.Channel) -> tuple[list[int], CallProblem]:
    seen: list[int] = []

    async def watch() -> None:
        stub = event_pb2_grpc.EventServiceStub(channel)
        async for response in stub.WatchEvents(event_pb2.WatchEventsRequest()):
            seen.append(response.cursor)  # noqa: PERF401 - what came before the error is kept

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch()
    return seen, read_problem(caught.value)


async def test_a_stream_gives_its_messages_in_order_and_ends(served: Serve) -> None:
    async def watch(request: Any, _call: Call) -> AsyncIterator[Message]:
        for cursor in range(request.after_cursor, request.after_cursor + 3):
            yield event_pb2.WatchEventsResponse(cursor=cursor)

    channel = await served(EVENT_SERVICE, Events(watch))
    stub = event_pb2_grpc.EventServiceStub(channel)
    request = event_pb2.WatchEventsRequest(after_cursor=5)
    assert [response.cursor async for response in stub.WatchEvents(request)] == [5, 6, 7]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CallRefused(error_pb2.ERROR_REASON_SVM_NOT_FOUND, "no such SVM"), "SVM_NOT_FOUND"),
        (ValueError(SECRET), "INTERNAL"),
    ],
)
async def test_a_stream_can_end_in_an_error_after_messages(
    served: Serve, error: Exception, reason: str
) -> None:
    async def watch(_request: Any, _call: Call) -> AsyncIterator[Message]:
        yield event_pb2.WatchEventsResponse(cursor=1)
        raise error

    seen, problem = await watch_error(await served(EVENT_SERVICE, Events(watch)))
    assert seen == [1]
    assert problem.reason == reason
    assert SECRET not in problem.message


async def test_a_streams_message_of_the_wrong_kind_is_a_fault(served: Serve) -> None:
    async def watch(_request: Any, _call: Call) -> AsyncIterator[Message]:
        yield key_pb2.Key()

    _, problem = await watch_error(await served(EVENT_SERVICE, Events(watch)))
    assert problem.reason == "INTERNAL"


async def test_the_request_of_a_stream_is_checked(served: Serve) -> None:
    async def watch(_request: Any, _call: Call) -> AsyncIterator[Message]:
        raise AssertionError("must not be called")
        yield  # makes this a generator

    channel = await served(EVENT_SERVICE, Events(watch))
    stub = event_pb2_grpc.EventServiceStub(channel)
    request = event_pb2.WatchEventsRequest(svm_id="NOT AN ID")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.WatchEvents(request).read()
    assert read_problem(caught.value).reason == "INVALID_FIELD"


async def test_a_client_that_leaves_ends_the_servicers_stream(served: Serve) -> None:
    ended = asyncio.Event()

    async def watch(_request: Any, _call: Call) -> AsyncIterator[Message]:
        try:
            yield event_pb2.WatchEventsResponse(cursor=1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    channel = await served(EVENT_SERVICE, Events(watch))
    call = event_pb2_grpc.EventServiceStub(channel).WatchEvents(event_pb2.WatchEventsRequest())
    await call.read()
    call.cancel()
    await asyncio.wait_for(ended.wait(), 5)


def heartbeat(seconds: int) -> agent_pb2.ConnectRequest:
    frame = agent_pb2.ConnectRequest(heartbeat=agent_pb2.Heartbeat())
    frame.heartbeat.local_time.seconds = seconds
    return frame


async def test_a_two_way_stream_reads_and_writes_frame_by_frame(served: Serve) -> None:
    async def connect(stream: Stream, call: Call) -> None:
        assert call.method == "/sparekey.v1.AgentService/Connect"
        while (frame := await stream.read()) is not None:
            assert isinstance(frame, agent_pb2.ConnectRequest)
            accepted = agent_pb2.ReportAccepted(sequence=frame.heartbeat.local_time.seconds)
            await stream.write(agent_pb2.ConnectResponse(report_accepted=accepted))

    channel = await served(AGENT_SERVICE, Agents(connect))
    call = agent_pb2_grpc.AgentServiceStub(channel).Connect()
    for number in (3, 1, 2):
        await call.write(heartbeat(number))
        response = await call.read()
        assert isinstance(response, agent_pb2.ConnectResponse)
        assert response.report_accepted.sequence == number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_an_undecodable_frame_ends_a_two_way_stream_with_its_reason(served: Serve) -> None:
    async def connect(stream: Stream, _call: Call) -> None:
        await stream.read()

    channel = await served(AGENT_SERVICE, Agents(connect))
    call: Any = channel.stream_stream("/sparekey.v1.AgentService/Connect")()
    await call.write(b"\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert read_problem(caught.value).reason == "UNDECODABLE_MESSAGE"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CallRefused(error_pb2.ERROR_REASON_CLONED_AGENT, "a clone"), "CLONED_AGENT"),
        (OSError(28, SECRET), "INTERNAL"),
    ],
)
async def test_a_two_way_stream_ends_in_a_refusal_or_a_hidden_fault(
    served: Serve, error: Exception, reason: str
) -> None:
    async def connect(stream: Stream, _call: Call) -> None:
        await stream.read()
        raise error

    channel = await served(AGENT_SERVICE, Agents(connect))
    call = agent_pb2_grpc.AgentServiceStub(channel).Connect()
    await call.write(heartbeat(1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    problem = read_problem(caught.value)
    assert problem.reason == reason
    assert SECRET not in problem.message
