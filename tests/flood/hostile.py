"""One hostile client: `python -m flood.hostile KIND LEVEL ADDRESS ROOT TOKEN`.

It harms until it is terminated, then prints how its calls ended. It calls again at once after each
refusal, from `CALLS_AT_ONCE` places, so what it gets done is up to the server.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from sparekey.v1 import event_pb2, key_pb2, license_pb2
from sparekey.wire.edge import MAX_REQUEST_BYTES, REQUEST_BYTES
from sparekey.wire.errors import read_problem

LIST = "/sparekey.v1.KeyService/ListKeys"
WATCH = "/sparekey.v1.EventService/WatchEvents"
ACTIVATE = "/sparekey.v1.LicenseService/Activate"
CALLS_AT_ONCE = 16
OWN_STREAMS = 32
"""So many an operator may have open."""


class Hostile:
    """An operator that means harm; `ended` counts how its calls ended."""

    def __init__(self, address: str, root: bytes, token: str) -> None:
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        credentials = grpc.ssl_channel_credentials(root)
        self._channel = grpc.aio.secure_channel(address, credentials)
        self.ended: Counter[str] = Counter()

    async def slow_reading(self, streams: int) -> None:
        """Ask for the history again and again, and read none of it."""
        await asyncio.gather(*(self._again(self._watch, 3600.0) for _ in range(streams)))

    async def stream_hoarding(self, streams: int) -> None:
        """Open streams, for as long as one is let in, and again."""
        await asyncio.gather(*(self._again(self._watch, 0.5) for _ in range(streams)))

    async def _watch(self, seconds: float) -> None:
        watch: Any = self._channel.unary_stream(WATCH)
        request = event_pb2.WatchEventsRequest().SerializeToString()
        stream = watch(request, metadata=self._metadata)
        try:
            await stream.read()
            await asyncio.sleep(seconds)
        finally:
            stream.cancel()

    async def header_flooding(self, size: int) -> None:
        """Calls with headers of a size."""
        await self.calling(LIST, b"", [("x-large", "x" * size)])

    async def calling(
        self, method: str, request: bytes, headers: list[tuple[str, str]] | None = None
    ) -> None:
        """Call, and call again."""
        call: Any = self._channel.unary_unary(method)
        metadata = self._metadata + (headers or [])

        async def once() -> None:
            await call(request, metadata=metadata, timeout=30)

        await asyncio.gather(*(self._again(once) for _ in range(CALLS_AT_ONCE)))

    async def _again(self, once: Any, *arguments: Any) -> None:
        while True:
            try:
                await once(*arguments)
                self.ended["OK"] += 1
            except grpc.aio.AioRpcError as error:
                self.ended[read_problem(error).reason or error.code().name] += 1


def picked(count: int) -> bytes:
    """The request that costs most to read for its size: so many empty ids."""
    scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=[""] * count))
    return license_pb2.ActivateRequest(key_serial="AB", scope=scope).SerializeToString()


def harm(hostile: Hostile, kind: str, level: str) -> Any:
    """What a hostile client of a kind does, just below a limit or beyond it."""
    below = level == "below"
    match kind:
        case "slow_reading":
            return hostile.slow_reading(OWN_STREAMS if below else 200)
        case "stream_hoarding":
            return hostile.stream_hoarding(OWN_STREAMS if below else 200)
        case "header_flooding":
            return hostile.header_flooding(7000 if below else 12_000)
        case "giant_messages":
            if level == "beyond transport":
                return hostile.calling(ACTIVATE, bytes(3 * 1024 * 1024))
            most = REQUEST_BYTES["sparekey.v1.ActivateRequest"]
            return hostile.calling(ACTIVATE, picked(most // 2 - 50 if below else most // 2 + 50))
        case "large_messages":
            padding = (MAX_REQUEST_BYTES - 100) // 3 if below else MAX_REQUEST_BYTES // 3 + 100
            return hostile.calling(LIST, b"\xf8\x07\x01" * padding)  # fields that are not known
        case "uninvited":
            return hostile.calling(LIST, key_pb2.ListKeysRequest().SerializeToString())
    raise ValueError(kind)


async def run(kind: str, level: str, address: str, root: bytes, token: str) -> None:
    """Do harm until terminated."""
    hostile = Hostile(address, root, token if kind != "uninvited" else "")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    harming = asyncio.ensure_future(harm(hostile, kind, level))
    print("ready", flush=True)
    await asyncio.wait(
        {harming, asyncio.create_task(ended.wait())}, return_when=asyncio.FIRST_COMPLETED
    )
    print(json.dumps(hostile.ended), flush=True)
    os._exit(int(harming.done()))  # without thousands of farewells


if __name__ == "__main__":
    told_kind, told_level, where, root_file, shown = sys.argv[1:]
    asyncio.run(run(told_kind, told_level, where, Path(root_file).read_bytes(), shown))
