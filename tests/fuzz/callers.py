"""Making one call of each kind, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor

from fuzz.agents import hello_frame
from fuzz.worlds import PATIENCE


@dataclass(frozen=True)
class Given:
    """One input.

    Attributes:
        content: The encoded message.
        svm_id: For an agent's stream, the SVM that has said Hello before; empty where the message
            is the stream's first frame.
    """

    content: bytes
    svm_id: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of one input.

    Attributes:
        error: How it was refused; None where it was taken.
        content: The encoded answer, of an RPC that has exactly one.
    """

    error: grpc.aio.AioRpcError | None = None
    content: bytes = b""


class Caller(Protocol):
    """Calls one RPC."""

    async def open(self, given: Given) -> Any:
        """Do what comes before the input and is no part of it."""
        ...

    async def finish(self, given: Given, opened: Any) -> Answer:
        """Send the input; what came of it."""
        ...


def caller_of(method: MethodDescriptor, channel: grpc.aio.Channel) -> Caller:
    """The caller for an RPC."""
    assert method.containing_service is not None
    name = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        return StreamCaller(channel.stream_stream(name))
    if method.server_streaming:
        return WatchCaller(channel.unary_stream(name), endless=method.name.startswith("Watch"))
    return UnaryCaller(channel.unary_unary(name))


class UnaryCaller:
    """One request, one answer."""

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc

    async def open(self, given: Given) -> None:
        """Nothing comes before the request."""

    async def finish(self, given: Given, opened: Any) -> Answer:
        """Call."""
        try:
            return Answer(content=await self._rpc(given.content, timeout=PATIENCE))
        except grpc.aio.AioRpcError as error:
            return Answer(error)


class WatchCaller:
    """One request, many answers; of a watch, which has no end, the first one is read."""

    def __init__(self, rpc: Any, *, endless: bool) -> None:
        self._rpc = rpc
        self._endless = endless

    async def open(self, given: Given) -> None:
        """Nothing comes before the request."""

    async def finish(self, given: Given, opened: Any) -> Answer:
        """Call, and read."""
        stream = self._rpc(given.content, timeout=PATIENCE)
        try:
            while await stream.read() is not grpc.aio.EOF and not self._endless:
                pass
        except grpc.aio.AioRpcError as error:
            return Answer(error)
        stream.cancel()
        return Answer()


class StreamCaller:
    """An agent's stream: a good Hello, then the input, then the end.

    So it is known what the input alone did: the server has taken the Hello in before.
    """

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc

    async def open(self, given: Given) -> Any:
        """Say Hello and wait for Welcome, where the input is not itself the first frame."""
        stream = self._rpc(timeout=PATIENCE)
        if given.svm_id:
            await stream.write(hello_frame(given.svm_id))
            assert await stream.read() is not grpc.aio.EOF, "a good Hello was not taken"
        return stream

    async def finish(self, given: Given, opened: Any) -> Answer:
        """Send the frame and the end of the stream; the server has done all when it ends, too."""
        try:
            await opened.write(given.content)
            await opened.done_writing()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):
            pass  # the server has ended the stream already; reading says how
        try:
            while await opened.read() is not grpc.aio.EOF:
                pass
            code = await opened.code()
        except grpc.aio.AioRpcError as error:
            return Answer(error)
        assert code is grpc.StatusCode.OK, f"the stream ended with {code} and no error"
        return Answer()
