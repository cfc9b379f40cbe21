"""A server that answers as a test tells it, and the command line run against it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from sparekey.cli.main import main
from sparekey.runtime.startup import Address
from sparekey.testing.v1 import clock_pb2
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, keyring_pb2, license_pb2, report_pb2
from sparekey.wire.edge import Call, bind, method_name
from sparekey.wire.serving import listen, make_server
from sparekey.wire.timestamps import to_timestamp

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SERVICES: list[ServiceDescriptor] = [
    key_pb2.DESCRIPTOR.services_by_name["KeyService"],
    license_pb2.DESCRIPTOR.services_by_name["LicenseService"],
    fleet_pb2.DESCRIPTOR.services_by_name["FleetService"],
    event_pb2.DESCRIPTOR.services_by_name["EventService"],
    report_pb2.DESCRIPTOR.services_by_name["ReportService"],
]
CLOCK_SERVICE = clock_pb2.DESCRIPTOR.services_by_name["ClockService"]


class FakeServer:
    """Every service of the contract over a real socket.

    `answers` holds for each RPC a message, a refusal, or a function of the
    request that returns one; for a stream a list of these for each watch, or a
    list of lists for one watch after the other. `requests` holds what came.
    """

    def __init__(self, *, with_clock: bool = True) -> None:
        self.answers: dict[str, Any] = {}
        if with_clock:
            self.answers["GetClock"] = clock_pb2.GetClockResponse(time=to_timestamp(NOW))
        self.requests: dict[str, list[Any]] = {}
        self.hanging = asyncio.Event()
        self._services = [*SERVICES, *([CLOCK_SERVICE] if with_clock else [])]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.address = self._run(self._start())

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> Address:
        self._server = make_server([bind(each, self._servicer(each)) for each in self._services])
        address = listen(self._server, Address("127.0.0.1", 0))
        await self._server.start()
        return address

    def _servicer(self, service: ServiceDescriptor) -> SimpleNamespace:
        return SimpleNamespace(
            **{
                method_name(method.name): (
                    self._stream(method.name)
                    if method.server_streaming
                    else self._unary(method.name)
                )
                for method in service.methods
            }
        )

    def _unary(self, rpc: str) -> Callable[[Any, Call], Any]:
        async def handle(request: Any, _call: Call) -> Message:
            self.requests.setdefault(rpc, []).append(request)
            return await self._answer(self.answers[rpc], request)

        return handle

    def _stream(self, rpc: str) -> Callable[[Any, Call], AsyncIterator[Message]]:
        async def handle(request: Any, _call: Call) -> AsyncIterator[Message]:
            watches = self.requests.setdefault(rpc, [])
            watches.append(request)
            answers = self.answers[rpc]
            if answers and isinstance(answers[0], list):
                answers = answers[min(len(watches), len(answers)) - 1]
            for answer in answers:
                yield await self._answer(answer, request)

        return handle

    async def _answer(self, answer: Any, request: Any) -> Message:
        if answer == "hang":
            await self.hanging.wait()
        made = answer(request) if callable(answer) else answer
        if isinstance(made, Exception):
            raise made
        assert isinstance(made, Message)
        return made

    def request(self, rpc: str) -> Any:
        """The one request that came for an RPC."""
        (request,) = self.requests[rpc]
        return request

    def stop(self) -> None:
        """End the server and its thread."""
        self._run(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class Finished:
    """What a run of the command line left."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Standard output as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def rows(self) -> list[list[str]]:
        """The words of each line of standard output."""
        return [line.split() for line in self.out.splitlines()]


@dataclass
class CommandLine:
    """The program with its server."""

    server: FakeServer
    _capture: pytest.CaptureFixture[str] = field(repr=False)

    def __call__(self, *words: str) -> Finished:
        """Run it against the fake server."""
        return self.anywhere("--server", str(self.server.address), *words)

    def anywhere(self, *words: str) -> Finished:
        """Run it with exactly these words."""
        exit_code = main(words)
        captured = self._capture.readouterr()
        assert "Traceback" not in captured.err
        return Finished(exit_code, captured.out, captured.err)


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "SPAREKEY_SERVER"):
        monkeypatch.delenv(name, raising=False)
    for module in ("following", "events"):
        monkeypatch.setattr(f"sparekey.cli.{module}._WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def server_without_clock() -> Iterator[FakeServer]:
    fake = FakeServer(with_clock=False)
    yield fake
    fake.stop()


@pytest.fixture
def sparekey(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(server, capsys)


@pytest.fixture
def paged() -> Callable[..., Callable[[Any], Message]]:
    """An answer to a list's request that gives its items page by page."""

    def answer(
        response_class: Any, field_name: str, items: Sequence[Any], size: int = 2
    ) -> Callable[[Any], Message]:
        def page(request: Any) -> Message:
            start = int(request.page_token or "0")
            end = start + size
            values = {field_name: items[start:end]}
            if end < len(items):
                values["next_page_token"] = str(end)
            made: Message = response_class(**values)
            return made

        return page

    return answer


@pytest.fixture
def make_key() -> Callable[..., key_pb2.Key]:
    """A commercial standard server key that ends in 30 days, but for what is said."""

    def make(number: int = 1, *, ends: float | None = 30, **values: Any) -> key_pb2.Key:
        defaults: dict[str, Any] = {
            "serial": f"{number:04X}-{number:06X}-{number:08X}",
            "type": key_pb2.KEY_TYPE_SERVER,
            "kind": key_pb2.KEY_KIND_COMMERCIAL,
            "edition": key_pb2.EDITION_STANDARD,
            "origin": key_pb2.KEY_ORIGIN_KEY_FILE,
            "unit_limit": 100,
            "not_before": to_timestamp(NOW - timedelta(days=335)),
            "expires_at": None if ends is None else to_timestamp(NOW + timedelta(days=ends)),
            "added_at": to_timestamp(NOW - timedelta(days=300)),
        }
        return key_pb2.Key(**(defaults | values))

    return make


@pytest.fixture
def make_svm() -> Callable[..., fleet_pb2.Svm]:
    """A connected SVM with full protection that holds the given keys."""

    def held(key: key_pb2.Key, role: Any) -> keyring_pb2.HeldKey:
        return keyring_pb2.HeldKey(
            slot=keyring_pb2.Slot(type=key.type, role=role),
            serial=key.serial,
            kind=key.kind,
            edition=key.edition,
            not_before=key.not_before,
            expires_at=key.expires_at if key.HasField("expires_at") else None,
            blocked_at=key.blocked_at if key.HasField("blocked_at") else None,
        )

    def make(
        svm_id: str = "svm-1",
        actives: Sequence[key_pb2.Key] = (),
        reserves: Sequence[key_pb2.Key] = (),
        *,
        predicted: Sequence[key_pb2.Key] | None = None,
        **values: Any,
    ) -> fleet_pb2.Svm:
        active, reserve = keyring_pb2.KEY_ROLE_ACTIVE, keyring_pb2.KEY_ROLE_RESERVE
        keys = [held(key, active) for key in actives] + [held(key, reserve) for key in reserves]
        defaults: dict[str, Any] = {
            "svm_id": svm_id,
            "cluster": "east",
            "link_state": fleet_pb2.LINK_STATE_CONNECTED,
            "mode": fleet_pb2.PROTECTION_MODE_FULL,
            "keyring": keyring_pb2.Keyring(revision=3, keys=keys),
        }
        if predicted is not None:
            defaults["predicted_keyring"] = keyring_pb2.Keyring(
                keys=[held(key, active) for key in predicted]
            )
        return fleet_pb2.Svm(**(defaults | values))

    return make


@pytest.fixture
def make_task() -> Callable[..., license_pb2.Task]:
    """A task whose counts follow from its outcomes' states."""

    def make(
        state: Any = license_pb2.TASK_STATE_SUCCEEDED,
        outcomes: Sequence[license_pb2.Outcome] = (),
        **values: Any,
    ) -> license_pb2.Task:
        counts: dict[str, int] = {"total": len(outcomes)}
        for outcome in outcomes:
            name = license_pb2.OutcomeState.Name(outcome.state).removeprefix("OUTCOME_STATE_")
            counts[name.lower()] = counts.get(name.lower(), 0) + 1
        defaults: dict[str, Any] = {
            "task_id": "task-7",
            "key_serial": "0001-000001-00000001",
            "role": keyring_pb2.KEY_ROLE_RESERVE,
            "scope": license_pb2.Scope(cluster="east"),
            "state": state,
            "created_at": to_timestamp(NOW),
            "deadline_at": to_timestamp(NOW + timedelta(days=7)),
            "counts": license_pb2.OutcomeCounts(**counts),
            "outcomes": outcomes,
            "created_by": "operator",
        }
        return license_pb2.Task(**(defaults | values))

    return make
