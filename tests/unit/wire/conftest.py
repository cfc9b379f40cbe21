"""A real server in the test's own loop, for one plain servicer object at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc.aio
import pytest
from google.protobuf.descriptor import ServiceDescriptor

from sparekey.runtime.startup import Address
from sparekey.wire.edge import bind
from sparekey.wire.serving import CHANNEL_OPTIONS, listen, make_server


@pytest.fixture
async def served() -> AsyncIterator[
    Callable[[ServiceDescriptor, object], Awaitable[grpc.aio.Channel]]
]:
    """Serves a servicer on a free port and answers with a channel to it."""
    servers: list[grpc.aio.Server] = []
    channels: list[grpc.aio.Channel] = []

    async def serve(service: ServiceDescriptor, servicer: object) -> grpc.aio.Channel:
        server = make_server([bind(service, servicer)])
        address = listen(server, Address("127.0.0.1", 0))
        await server.start()
        servers.append(server)
        channel = grpc.aio.insecure_channel(str(address), options=CHANNEL_OPTIONS)
        channels.append(channel)
        return channel

    yield serve
    for channel in channels:
        await channel.close()
    for server in servers:
        await server.stop(None)
