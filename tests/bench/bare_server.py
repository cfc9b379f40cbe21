"""The yardstick: a grpc.aio server that does nothing but move bytes.

It runs as the license server does (same options, event loop and garbage collection) and serves an
echo, and streams over which one frame is pushed and one answer awaited.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

from sparekey.runtime.garbage import collect_rarely
from sparekey.runtime.startup import Address, announce, run_program, stop_requested
from sparekey.wire.serving import listen, make_server

ECHO = "/bench.Bare/Echo"
CONNECT = "/bench.Bare/Connect"
PUSH = "/bench.Bare/Push"
SINK = "/bench.Bare/Sink"

Context = grpc.aio.ServicerContext[Any, Any]


class Bare:
    """Echoes; and pushes to every open stream on request."""

    def __init__(self, answer_bytes: int) -> None:
        self._answer = bytes(answer_bytes)
        self._streams: set[Context] = set()
        self._missing = 0
        self._answered = asyncio.Event()

    async def echo(self, request: bytes, context: Context) -> bytes:
        """Answer a message of the size of an Activate response."""
        return self._answer

    async def connect(self, frames: object, context: Context) -> None:
        """Read frames; each answers a push."""
        await context.read()
        await context.write(b"welcome")
        self._streams.add(context)
        try:
            while (await context.read()) is not grpc.aio.EOF:
                self._missing -= 1
                if self._missing == 0:
                    self._answered.set()
        finally:
            self._streams.discard(context)

    async def sink(self, frames: object, context: Context) -> None:
        """Read frames and keep nothing; an empty one is answered."""
        while (frame := await context.read()) is not grpc.aio.EOF:
            if not frame:
                await context.write(b"all")

    async def push(self, frame: bytes, context: Context) -> bytes:
        """Write a frame to every stream; answer when each has answered."""
        self._missing = len(self._streams)
        self._answered.clear()
        pushes = [asyncio.create_task(_write(stream, frame)) for stream in self._streams]
        await self._answered.wait()
        await asyncio.gather(*pushes)
        return b""


async def _write(stream: Context, frame: bytes) -> None:
    await stream.write(frame)


async def serve(answer_bytes: int) -> None:
    """Serve until SIGTERM."""
    bare = Bare(answer_bytes)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(bare.echo),
        "Connect": grpc.stream_stream_rpc_method_handler(bare.connect),
        "Sink": grpc.stream_stream_rpc_method_handler(bare.sink),
        "Push": grpc.unary_unary_rpc_method_handler(bare.push),
    }
    server = make_server([grpc.method_handlers_generic_handler("bench.Bare", handlers)])
    address = listen(server, Address("127.0.0.1", 0))
    stop = stop_requested()
    await server.start()
    collect_rarely()
    announce("bare", {"listen": address})
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    sys.exit(run_program("bare", lambda: serve(int(sys.argv[1]))))
