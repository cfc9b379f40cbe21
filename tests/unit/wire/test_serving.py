"""A server listens on loopback only, on a port of its own, or says why not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sparekey.certificates.authority import create_authority
from sparekey.runtime.startup import Address, StartupRefused
from sparekey.server.encryption import OwnCertificate, server_credentials
from sparekey.wire import serving
from sparekey.wire.serving import (
    CHANNEL_OPTIONS,
    SERVER_OPTIONS,
    add_health_and_reflection,
    listen,
    make_server,
)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
async def test_off_loopback_it_refuses_to_listen(host: str) -> None:
    with pytest.raises(StartupRefused, match="without encryption"):
        listen(make_server([]), Address(host, 0))


async def test_port_0_is_answered_with_the_real_port() -> None:
    server = make_server([])
    address = listen(server, Address("127.0.0.1", 0))
    assert address.host == "127.0.0.1"
    assert address.port > 0
    await server.stop(None)


async def test_a_taken_port_is_refused_and_not_shared() -> None:
    first = make_server([])
    address = listen(first, Address("127.0.0.1", 0))
    await first.start()
    second = make_server([])
    with pytest.raises(StartupRefused, match=f"cannot listen on {address}: the port is taken"):
        listen(second, address)
    await first.stop(None)
    await second.stop(None)


async def test_health_and_reflection_name_the_services() -> None:
    server = make_server([])
    await add_health_and_reflection(server, ["sparekey.v1.KeyService"])
    address = listen(server, Address("127.0.0.1", 0))
    await server.start()
    async with grpc.aio.insecure_channel(str(address), options=CHANNEL_OPTIONS) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "sparekey.v1.KeyService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        call = reflection.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
        answer = await call.read()
        await call.done_writing()
        listed = {service.name for service in answer.list_services_response.service}
        assert listed == {
            "sparekey.v1.KeyService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
    await server.stop(None)


CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01"
"""How a handshake begins: a record of 512 bytes is to come."""


@pytest.mark.parametrize(
    ("encrypted", "said"),
    [(False, b""), (True, b""), (True, CLIENT_HELLO)],
    ids=["plain", "encrypted", "in the middle of a handshake"],
)
async def test_who_connects_and_falls_silent_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool, said: bytes
) -> None:
    limit = "grpc.server_handshake_timeout_ms"
    shorter = [(name, 200 if name == limit else value) for name, value in SERVER_OPTIONS]
    monkeypatch.setattr(serving, "SERVER_OPTIONS", shorter)
    server = make_server([])
    credentials = None
    if encrypted:
        authority = create_authority(tmp_path / "ca", "Test", datetime.now(UTC))
        certificate = OwnCertificate(authority, ["127.0.0.1"])
        credentials = server_credentials(certificate, ask_client=True)
    address = listen(server, Address("127.0.0.1", 0), credentials)
    await server.start()
    async with asyncio.timeout(10):
        silent, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(said)
        with suppress(ConnectionResetError):
            # A server speaks first without encryption: its settings come before the end.
            await silent.read()
        writer.close()
    await server.stop(None)


def test_clients_ping_no_more_often_than_servers_allow() -> None:
    client, server = dict(CHANNEL_OPTIONS), dict(SERVER_OPTIONS)
    allowed = server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert client["grpc.keepalive_time_ms"] >= allowed
    assert server["grpc.so_reuseport"] == 0
