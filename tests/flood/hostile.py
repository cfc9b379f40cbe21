"""One hostile client: `python -m flood.hostile KIND ADDRESS ROOT TOKEN`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from sparekey.v1 import event_pb2

LIST = "/sparekey.v1.KeyService/ListKeys"
WATCH = "/sparekey.v1.EventService/WatchEvents"
CALLS_AT_ONCE = 16


class Hostile:
    """A viewer that means harm."""

    def __init__(self, address: str, root: bytes, token: str) -> None:
        self._authorization = ("authorization", f"Bearer {token}")
        credentials = grpc.ssl_channel_credentials(root)
        self._channel = grpc.aio.secure_channel(address, credentials)

    async def slow_reading(self) -> None:
        """Ask for the history again and again, and read none of it."""
        watch: Any = self._channel.unary_stream(WATCH)
        request = event_pb2.WatchEventsRequest().SerializeToString()
        streams = [watch(request, metadata=[self._authorization]) for _ in range(200)]
        await asyncio.gather(*(stream.read() for stream in streams), return_exceptions=True)
        await asyncio.Event().wait()

    async def stream_hoarding(self) -> None:
        """Open streams, for as long as one is let in, and again."""
        while True:
            await asyncio.gather(*(self._hoard() for _ in range(100)), return_exceptions=True)
            await asyncio.sleep(0.2)

    async def _hoard(self) -> None:
        watch: Any = self._channel.unary_stream(WATCH)
        request = event_pb2.WatchEventsRequest(from_now=True).SerializeToString()
        await watch(request, metadata=[self._authorization]).read()

    async def header_flooding(self) -> None:
        """Calls with as many headers as are let in, and more."""
        await self._flood(b"", [("x-large", "x" * 12_000)])

    async def giant_messages(self) -> None:
        """Calls with messages that are too large."""
        await self._flood(b"\x00" * (3 * 1024 * 1024), [])

    async def _flood(self, request: bytes, headers: list[tuple[str, str]]) -> None:
        call: Any = self._channel.unary_unary(LIST)

        async def flood() -> None:
            while True:
                try:
                    await call(request, metadata=[self._authorization, *headers], timeout=10)
                except grpc.aio.AioRpcError:
                    # Even a hostile client gains nothing by burning its own processor.
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(flood() for _ in range(CALLS_AT_ONCE)))


if __name__ == "__main__":
    kind, where, root_file, shown = sys.argv[1:]

    trusted = Path(root_file).read_bytes()

    async def main() -> None:
        """Do harm until killed."""
        await getattr(Hostile(where, trusted, shown), kind)()

    asyncio.run(main())
