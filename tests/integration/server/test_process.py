"""The real program: how it refuses to start, serves, drains and ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.testing.fleet.processes import Program, start_server
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.v1 import event_pb2, event_pb2_grpc, key_pb2, key_pb2_grpc

from .words import PATIENCE

PROGRAM = Path(sys.executable).with_name("sparekey-server")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vendor_keys(tmp_path: Path, vendor: KeySigner) -> Path:
    """The file of the vendor's public keys."""
    path = tmp_path / "vendor-keys.json"
    path.write_text(json.dumps({vendor.signer_id: encode_public_key(vendor.public_key)}))
    return path


@pytest.fixture
def refused(tmp_path: Path, vendor_keys: Path) -> Callable[..., str]:
    """Run the program, which must refuse to start; its one sentence."""

    def run(*options: str | Path, without: str = "") -> str:
        given: dict[str, str | Path] = {
            "--listen": "127.0.0.1:0",
            "--data": tmp_path / "data",
            "--vendor-keys": vendor_keys,
        }
        command: list[str | Path] = [PROGRAM]
        for option, value in given.items():
            if option not in options and option != without:
                command += [option, value]
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2, done
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, lines
        line = lines[0]
        assert line.startswith("sparekey-server: ")
        return line

    return run


@pytest.fixture
def start(tmp_path: Path, vendor_keys: Path) -> Iterator[Callable[..., Program]]:
    """Start the program; it is ended after the test."""
    started: list[Program] = []

    def run(*options: str) -> Program:
        started.append(start_server(tmp_path / "data", vendor_keys, *options))
        return started[-1]

    yield run
    for program in started:
        program.kill()


def test_a_port_that_is_taken(refused: Callable[..., str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"cannot listen on {address}" in refused("--listen", address)


def test_an_address_that_is_none(refused: Callable[..., str]) -> None:
    assert "write HOST:PORT" in refused("--listen", "nonsense")


def test_an_address_that_others_can_reach(refused: Callable[..., str]) -> None:
    assert "without encryption" in refused("--listen", "0.0.0.0:0")


def test_a_folder_that_cannot_be_written(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "data"
    assert f"cannot write in the folder {folder}" in refused("--data", folder)


def test_vendor_keys_that_are_not_named(refused: Callable[..., str]) -> None:
    assert "--vendor-keys is required" in refused(without="--vendor-keys")


def test_vendor_keys_that_are_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    assert f"cannot read the vendor's public keys in {path}" in refused("--vendor-keys", path)


def test_vendor_keys_that_are_none(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"a": "b"}')
    assert f"{path} holds no public keys" in refused("--vendor-keys", path)


def test_a_database_of_a_newer_release(
    refused: Callable[..., str], start: Callable[..., Program], tmp_path: Path
) -> None:
    start().stop()
    database = tmp_path / "data" / "sparekey.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "newer release (schema 9999)" in refused()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--heartbeat", "0"], "--heartbeat"),
        (["--test-clock", "soon"], "'soon' is not an instant"),
        (["--activation-server", "nowhere"], "'nowhere' is not an address"),
    ],
)
def test_a_value_that_is_none(refused: Callable[..., str], options: list[str], words: str) -> None:
    assert words in refused(*options)


def test_an_option_that_is_not_there(vendor_keys: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "--vendor-keys", vendor_keys, "--nonsense"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_server_on_one_folder(
    refused: Callable[..., str], start: Callable[..., Program]
) -> None:
    start()
    assert "another server uses the database" in refused()


async def test_health_and_reflection(start: Callable[..., Program]) -> None:
    program = start()
    names = ("KeyService", "LicenseService", "FleetService", "EventService", "AgentService")
    async with grpc.aio.insecure_channel(str(program.address)) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", *(f"sparekey.v1.{name}" for name in names)):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub: Any = reflection_pb2_grpc.ServerReflectionStub
        reflection = stub(channel)
        requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
        listed = [
            service.name
            async for answer in reflection.ServerReflectionInfo(iter(requests))
            for service in answer.list_services_response.service
        ]
    assert {f"sparekey.v1.{name}" for name in names} <= set(listed)
    assert "sparekey.testing.v1.ClockService" not in listed
    assert program.stop() == 0


async def test_a_stop_drains_the_agents_and_they_come_back(
    start: Callable[..., Program], vendor: KeySigner, tmp_path: Path, vendor_keys: Path
) -> None:
    """SIGTERM: exit code 0, every agent is asked to come back, and all of them do."""
    program = start()
    trusted = TrustedSigners({vendor.signer_id: vendor.public_key})
    async with SimulatedFleet(program.address, trusted) as fleet:
        await fleet.start([make_svm(f"svm-{number}") for number in range(10)])
        assert await asyncio.to_thread(program.stop) == 0
        async with asyncio.timeout(PATIENCE):
            while any(svm.running_agent.connected.is_set() for svm in fleet.svms.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        again = await asyncio.to_thread(
            lambda: start_server(tmp_path / "data", vendor_keys, listen=str(program.address))
        )
        try:
            async with asyncio.timeout(20):
                for svm in fleet.svms.values():
                    await svm.running_agent.connected.wait()
        finally:
            await fleet.stop(fleet.svms.values())
            assert await asyncio.to_thread(again.stop) == 0
    log = program.log.read_text()
    assert "Traceback" not in log


async def test_a_stop_ends_a_watch_and_lets_a_call_end(start: Callable[..., Program]) -> None:
    program = start()
    async with grpc.aio.insecure_channel(str(program.address)) as channel:
        events: event_pb2_grpc.EventServiceAsyncStub = event_pb2_grpc.EventServiceStub(channel)
        watch = aiter(events.WatchEvents(event_pb2.WatchEventsRequest()))
        await anext(watch)
        program.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(watch)
        assert await asyncio.to_thread(program.process.wait, 15) == 0


def test_an_interrupt_is_an_orderly_stop(start: Callable[..., Program]) -> None:
    program = start()
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(15) == 0


async def test_R79_the_log_never_shows_an_activation_code(start: Callable[..., Program]) -> None:
    program = start("--activation-server", "127.0.0.1:1", "--log-level", "debug")
    code = "TEST0-SECRE-TSECR-ETEND"
    async with grpc.aio.insecure_channel(str(program.address)) as channel:
        keys: key_pb2_grpc.KeyServiceAsyncStub = key_pb2_grpc.KeyServiceStub(channel)
        for text in (code, code.lower(), "TEST0-SECRE-TSECR"):
            with pytest.raises(grpc.aio.AioRpcError):
                await keys.AddKey(key_pb2.AddKeyRequest(activation_code=text))
    assert program.stop() == 0
    log = program.log.read_text()
    assert not re.search("SECRE|TSECR", log, re.IGNORECASE)
    assert "ETEND" in log
