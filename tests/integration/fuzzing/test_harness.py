"""The fuzzing itself: it must notice what it is there to notice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Self

import grpc.aio
import pytest
import structlog
from fuzz.faults_told import faults_told
from fuzz.fuzzing import Broken, Fuzzing, Tried
from fuzz.watches import FileWatch, StoreWatch

from sparekey.runtime.startup import Address
from sparekey.v1 import error_pb2, fleet_pb2
from sparekey.wire.edge import Call, bind
from sparekey.wire.errors import CallRefused
from sparekey.wire.serving import listen, make_server

SERVICE = fleet_pb2.DESCRIPTOR.services_by_name["FleetService"]


class Fleet:
    """Serves FleetService with one fault of choice; every SVM but "known" is refused."""

    def __init__(self, fault: str) -> None:
        self.written = 0
        self._fault = fault

    async def get_svm(
        self, request: fleet_pb2.GetSvmRequest, call: Call
    ) -> fleet_pb2.GetSvmResponse:
        match self._fault:
            case "writes":
                self.written += 1
            case "breaks":
                raise ValueError("a fault of ours")
            case "logs":
                structlog.get_logger().error("something is amiss")
            case "forgets a task":
                asyncio.get_running_loop().call_exception_handler({"message": "never awaited"})
        if request.svm_id == "known":
            return fleet_pb2.GetSvmResponse()
        raise CallRefused(error_pb2.ERROR_REASON_SVM_NOT_FOUND, "there is no such SVM")

    list_svms = watch_svms = exclude_svm = forget_svm = get_svm

    def changes(self) -> Mapping[str, int]:
        return {"svms": self.written}


class FleetWorld:
    """A server that has nothing but that."""

    def __init__(self, fault: str) -> None:
        self.known: dict[str, Sequence[Any]] = {"svm_id": ["known", "unknown"]}
        self.watch = Fleet(fault)

    async def __aenter__(self) -> Self:
        self._server = make_server([bind(SERVICE, self.watch)])
        address = listen(self._server, Address("127.0.0.1", 0))
        await self._server.start()
        self._channel = grpc.aio.insecure_channel(str(address))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        await self._server.stop(None)

    def channel(self, _method: str) -> grpc.aio.Channel:
        return self._channel

    async def refill(self) -> None: ...

    async def rest(self) -> None: ...

    def compose(self, _svm_id: str) -> None: ...


@asynccontextmanager
async def fuzzing(fault: str) -> AsyncIterator[Fuzzing]:
    with faults_told() as told:
        async with FleetWorld(fault) as world:
            yield Fuzzing(world, SERVICE.methods_by_name["GetSvm"], 1, told)


async def test_a_sound_server_passes_and_is_counted() -> None:
    async with fuzzing("none") as sound:
        tried: Tried = await sound.run(100, 50)
    assert (tried.structured, tried.mutated) == (100, 50)
    assert 20 < tried.structured_taken < 60
    assert tried.reasons["SVM_NOT_FOUND"] > 10
    assert tried.reasons["UNDECODABLE_MESSAGE"] > 10
    assert tried.unchanged == tried.refused == 150 - tried.structured_taken - tried.mutated_taken


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("writes", r"refused by SVM_NOT_FOUND and changed \{'svms'\}: Given\(content=b'"),
        ("breaks", "answered CallProblem.*INTERNAL"),
        ("logs", "led to a fault: .*something is amiss"),
        ("forgets a task", "led to a fault: .*never awaited"),
    ],
)
async def test_a_fault_is_found_and_told_with_its_input(fault: str, said: str) -> None:
    async with fuzzing(fault) as faulty:
        with pytest.raises(Broken, match=said):
            await faulty.run(100, 0)


def test_the_stores_watch_sees_what_is_written_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "sparekey.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE svms (id TEXT PRIMARY KEY, cluster TEXT, last_seen_at INT)")
        database.execute("CREATE TABLE events (cursor INTEGER PRIMARY KEY)")
        with closing(StoreWatch(path)) as watch:
            seen = [dict(watch.changes())]
            for statement in (
                "INSERT INTO svms VALUES ('svm-1', 'north', 1)",
                "UPDATE svms SET cluster = 'north', last_seen_at = 2",
                "UPDATE svms SET cluster = NULL",
                "DELETE FROM events",
                "DELETE FROM svms",
            ):
                database.execute(statement)
                seen.append(dict(watch.changes()))
    assert [one["svms"] for one in seen] == [0, 1, 1, 2, 2, 3]
    assert {one["events"] for one in seen} == {0}


def test_the_files_watch_sees_each_other_content(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    watch = FileWatch(path)
    seen = [watch.changes()]
    for content in ("one", "two"):
        path.write_text(content)
        seen.append(watch.changes())
    assert len({one["catalogue.json"] for one in seen}) == 3
