"""A real server process, and raw streams and simulated SVMs beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.testing.fleet.processes import start_program
from sparekey.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    key_pb2,
    key_pb2_grpc,
    license_pb2,
    license_pb2_grpc,
)
from sparekey.wire.serving import CHANNEL_OPTIONS

SIGNER = KeySigner("link", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
TRUSTED = TrustedSigners({"link": SIGNER.public_key})
PATIENCE = 15.0


def make_key(number: int, ends_in: timedelta) -> LicenseKey:
    now = datetime.now(UTC)
    return LicenseKey(
        serial=f"0001-{number:06X}-00000001",
        type=KeyType.SERVER,
        kind=KeyKind.COMMERCIAL,
        edition=Edition.STANDARD,
        origin=KeyOrigin.KEY_FILE,
        unit_limit=100,
        not_before=now - timedelta(days=1),
        expires_at=now + ends_in,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)


class Site:
    """The server, its operator, and its agents' streams."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.vendor_keys = folder / "vendor-keys.json"
        self.vendor_keys.write_text(json.dumps({"link": encode_public_key(SIGNER.public_key)}))
        options = ["--listen", "127.0.0.1:0", "--data", str(folder / "server"), "--heartbeat", "2"]
        self.server = start_program(
            "sparekey-server",
            [*options, "--vendor-keys", str(self.vendor_keys)],
            log=folder / "server.log",
            environment={"SPAREKEY_SERVER_PUSH_DEADLINE": "PT1S"},
        )
        channel = grpc.aio.insecure_channel(str(self.server.address), CHANNEL_OPTIONS)
        self.channel = channel
        self.keys: key_pb2_grpc.KeyServiceAsyncStub = key_pb2_grpc.KeyServiceStub(channel)
        self.licenses: license_pb2_grpc.LicenseServiceAsyncStub = (
            license_pb2_grpc.LicenseServiceStub(channel)
        )
        self.history: event_pb2_grpc.EventServiceAsyncStub = event_pb2_grpc.EventServiceStub(
            channel
        )
        self.agents: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(channel)

    async def add(self, *keys: LicenseKey) -> None:
        for key in keys:
            await self.keys.AddKey(key_pb2.AddKeyRequest(key_file=SIGNER.sign(key)))

    async def activate(self, key: LicenseKey, svm_id: str) -> license_pb2.Task:
        scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=[svm_id]))
        request = license_pb2.ActivateRequest(key_serial=key.serial, scope=scope)
        return (await self.licenses.Activate(request)).task

    async def renew(self, key: LicenseKey, svm_id: str) -> license_pb2.Task:
        scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=[svm_id]))
        request = license_pb2.RenewRequest(key_serial=key.serial, scope=scope)
        return (await self.licenses.Renew(request)).task

    async def events(self, *kinds: event_pb2.EventKind.ValueType) -> list[event_pb2.Event]:
        request = event_pb2.ListEventsRequest(kinds=kinds, page_size=1000)
        return list((await self.history.ListEvents(request)).events)

    async def event_of(self, kind: event_pb2.EventKind.ValueType, **wanted: Any) -> event_pb2.Event:
        """The first event of a kind with these fields, waited for."""
        watch = self.history.WatchEvents(event_pb2.WatchEventsRequest(kinds=[kind]))
        async with asyncio.timeout(PATIENCE):
            async for response in watch:
                for event in response.events:
                    if all(getattr(event, name) == value for name, value in wanted.items()):
                        watch.cancel()
                        return event
        raise AssertionError("the history ended")


@asynccontextmanager
async def running_site(folder: Path) -> AsyncIterator[Site]:
    site = Site(folder)
    try:
        yield site
    finally:
        await site.channel.close()
        await asyncio.to_thread(site.server.stop)


class RawAgent:
    """An agent's stream, frame by frame."""

    def __init__(self, site: Site, svm_id: str, boot_id: str = "boot-1") -> None:
        self.svm_id = svm_id
        self.call = site.agents.Connect()
        self._boot_id = boot_id

    async def hello(self, **fields: Any) -> agent_pb2.Welcome:
        hello = agent_pb2.Hello(svm_id=self.svm_id, boot_id=self._boot_id, **fields)
        await self.call.write(agent_pb2.ConnectRequest(hello=hello))
        return (await self.next("welcome")).welcome

    async def report(self, **fields: Any) -> None:
        report = agent_pb2.Report(**fields)
        await self.call.write(agent_pb2.ConnectRequest(report=report))

    async def next(self, kind: str) -> agent_pb2.ConnectResponse:
        """The next frame of a kind; others are passed over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                frame: Any = await self.call.read()
                assert isinstance(frame, agent_pb2.ConnectResponse), "the stream ended"
                if frame.WhichOneof("frame") == kind:
                    return frame
