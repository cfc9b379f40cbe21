"""A scripted server over a real socket, and agents that connect to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.agent.agent import Agent, AgentSettings
from sparekey.agent.inventory.fixed import FixedInventory
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.keyring_record import MemoryKeyringStorage
from sparekey.agent.timing import Timing
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.key_files import KeySigner, TrustedSigners
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.runtime.clock import SettableClock
from sparekey.runtime.startup import Address
from sparekey.v1 import agent_pb2, key_pb2, keyring_pb2
from sparekey.wire import edge
from sparekey.wire.serving import listen, make_server
from sparekey.wire.timestamps import to_duration

PATIENCE = 10.0
NOW = datetime(2030, 1, 1, tzinfo=UTC)
SIGNER = KeySigner("test-vendor", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
TRUSTED = TrustedSigners({"test-vendor": SIGNER.public_key})
FAST = Timing(
    first_try_within=0.0,
    backoff_base=0.02,
    backoff_cap=0.1,
    welcome_within=5.0,
    farewell_within=2.0,
    heartbeat_interval=5.0,
)
INVENTORY = Inventory("site-a", GuestMix(3, 2, 1), "host-1", HostCpu(2, 32))
_END = object()


class SeenStream:
    """One stream as the server sees it: what came, and what to answer."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[agent_pb2.ConnectRequest] = asyncio.Queue()
        self.left = asyncio.Event()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.hello = agent_pb2.Hello()

    async def next(self) -> agent_pb2.ConnectRequest:
        """The next frame that the agent sends."""
        async with asyncio.timeout(PATIENCE):
            return await self.frames.get()

    async def next_report(self) -> agent_pb2.Report:
        """The next frame, which must be a report."""
        frame = await self.next()
        assert frame.WhichOneof("frame") == "report", frame
        return frame.report

    async def expect_hello(self) -> agent_pb2.Hello:
        frame = await self.next()
        assert frame.WhichOneof("frame") == "hello", frame
        self.hello = frame.hello
        return self.hello

    async def welcome(
        self,
        *,
        full: bool = False,
        revision: int | None = None,
        heartbeat: float = 5.0,
        **more: Any,
    ) -> agent_pb2.Hello:
        """Read Hello and answer it."""
        hello = await self.expect_hello()
        welcome = agent_pb2.Welcome(
            heartbeat_interval=to_duration(timedelta(seconds=heartbeat)),
            full_report_wanted=full,
            accepted_keyring_revision=hello.keyring_revision if revision is None else revision,
            **more,
        )
        self.send(welcome=welcome)
        return hello

    async def welcome_whole(self) -> agent_pb2.Report:
        """Welcome an agent that the server does not know, up to its accepted full report."""
        await self.welcome(full=True, revision=0)
        report = await self.next_report()
        self.accept(report)
        return report

    def accept(self, report: agent_pb2.Report, revision: int | None = None) -> None:
        if revision is None:
            revision = report.keyring.revision
        accepted = agent_pb2.ReportAccepted(
            sequence=report.sequence, accepted_keyring_revision=revision
        )
        self.send(report_accepted=accepted)

    def push(self, *instructions: agent_pb2.Instruction) -> None:
        self.send(push=agent_pb2.Push(nonce=1, instructions=instructions))

    def send(self, **frame: Any) -> None:
        self.answers.put_nowait(agent_pb2.ConnectResponse(**frame))

    def end(self, error: Exception | grpc.StatusCode | None = None) -> None:
        """End the stream, in good order or with an error."""
        self.answers.put_nowait(error or _END)


class ScriptedServer:
    """An AgentService that does what a test tells it."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", 0)
        self._streams: asyncio.Queue[SeenStream] = asyncio.Queue()
        self._server: Any = None

    async def start(self) -> None:
        """Listen: on any free port at first, later on the same one again."""
        service = agent_pb2.DESCRIPTOR.services_by_name["AgentService"]
        self._server = make_server([edge.bind(service, self)])
        self.address = listen(self._server, self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Cut every stream and close the port."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    async def stream(self) -> SeenStream:
        """The next stream that an agent opens."""
        async with asyncio.timeout(PATIENCE):
            return await self._streams.get()

    async def connect(self, stream: edge.Stream, call: edge.Call) -> None:
        seen = SeenStream()
        self._streams.put_nowait(seen)
        reading = asyncio.create_task(_read(stream, seen))
        try:
            while (answer := await seen.answers.get()) is not _END:
                if isinstance(answer, grpc.StatusCode):
                    await call.context.abort(answer, "as the test wants it")
                if isinstance(answer, Exception):
                    raise answer
                await stream.write(answer)
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def _read(stream: edge.Stream, seen: SeenStream) -> None:
    while (frame := await stream.read()) is not None:
        assert isinstance(frame, agent_pb2.ConnectRequest)
        seen.frames.put_nowait(frame)
    seen.left.set()
    seen.end()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition of this process holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it is a condition of any kind
            await asyncio.sleep(0.005)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def start_agent(server: ScriptedServer) -> AsyncIterator[Callable[..., Agent]]:
    """Start an agent for the scripted server; all of them are stopped at the end."""
    started: list[tuple[Agent, asyncio.Task[None]]] = []

    def start(
        *,
        svm_id: str = "svm-1",
        source: FixedInventory | None = None,
        storage: Any = None,
        clock: Any = None,
        timing: Timing = FAST,
        test_clock: bool = False,
        **more: Any,
    ) -> Agent:
        agent = Agent(
            AgentSettings(svm_id=svm_id, server=server.address, follows_test_clock=test_clock),
            source or FixedInventory(INVENTORY),
            storage or MemoryKeyringStorage(),
            TRUSTED,
            clock=clock or SettableClock(NOW),
            randomness=random.Random(7),
            timing=timing,
            **more,
        )
        started.append((agent, asyncio.create_task(agent.run())))
        return agent

    yield start
    for agent, running in started:
        if not running.done():
            await agent.stop()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
def make_key() -> Callable[..., LicenseKey]:
    """A commercial standard server key; `starts` and `ends` are instants."""
    numbers = count(0xA000)

    def make(
        type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
        *,
        starts: datetime = NOW - timedelta(days=30),
        ends: datetime = NOW + timedelta(days=30),
    ) -> LicenseKey:
        number = next(numbers)
        return LicenseKey(
            serial=f"{number:04X}-{number:06X}-{number:08X}",
            type=type,
            kind=KeyKind.COMMERCIAL,
            edition=Edition.STANDARD,
            origin=KeyOrigin.KEY_FILE,
            unit_limit=100,
            not_before=starts,
            expires_at=ends,
        )

    return make


@pytest.fixture
def hold() -> Callable[..., agent_pb2.Instruction]:
    """An instruction to hold a key."""

    def instruction(
        key: LicenseKey, version: int, *, reserve: bool = False
    ) -> agent_pb2.Instruction:
        role = keyring_pb2.KEY_ROLE_RESERVE if reserve else keyring_pb2.KEY_ROLE_ACTIVE
        slot = keyring_pb2.Slot(type=key_pb2.KeyType.Value(f"KEY_TYPE_{key.type.value}"), role=role)
        return agent_pb2.Instruction(slot=slot, version=version, key_file=SIGNER.sign(key))

    return instruction


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    return until
