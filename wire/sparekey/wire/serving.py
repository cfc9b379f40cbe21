"""A gRPC server with the options that were measured to matter, health and reflection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from sparekey.runtime.startup import Address, StartupRefused

if TYPE_CHECKING:
    from grpc_health.v1 import health

CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    # Client and server must agree, or the server ends the connection for
    # pinging too often.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)
"""Options for every channel to a Sparekey server."""

SERVER_OPTIONS: Sequence[tuple[str, Any]] = (
    # With port sharing a stale process would silently take half the calls.
    ("grpc.so_reuseport", 0),
    # The core's default pending limits drop calls in a reconnect storm.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    # Who connects and says nothing is not waited for longer than a large fleet's handshakes take
    # when all come back at once: 10,000 at 200 a second.
    ("grpc.server_handshake_timeout_ms", 60_000),
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.http2.max_ping_strikes", 0),
    # A little above what the edge takes: up to here a refusal says why, above it costs nothing.
    ("grpc.max_receive_message_length", 1024 * 1024 + 256 * 1024),
    # A flood of calls or headers over one connection waits at its sender.
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 8 * 1024),
)
"""Options for every Sparekey server."""


def make_server(handlers: Sequence[grpc.GenericRpcHandler]) -> grpc.aio.Server:
    """A server that offers the handlers; it is not bound to an address yet."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(tuple(handlers))
    return server


async def add_health_and_reflection(
    server: grpc.aio.Server, service_names: Sequence[str]
) -> health.aio.HealthServicer:
    """Offer gRPC health and reflection; every service starts as serving."""
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    for name in ("", *service_names):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def listen(
    server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None = None
) -> Address:
    """Bind a server to an address; return the real one.

    Args:
        server: The server.
        address: Where; without credentials on loopback only.
        credentials: For encryption.

    Raises:
        StartupRefused: off loopback without encryption, or the port is taken.
    """
    if credentials is None and not address.is_loopback:
        raise StartupRefused(
            f"will not listen on {address} without encryption; use a loopback address"
        )
    try:
        if credentials is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise StartupRefused(
            f"cannot listen on {address}: the port is taken or not allowed; choose another, or"
            " 0 for a free one"
        )
    return Address(address.host, port)
