"""An agent that says exactly what a test tells it, over a real stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import grpc.aio
import pytest

from sparekey.licensing.keys import LicenseKey
from sparekey.v1 import agent_pb2, key_pb2, keyring_pb2
from sparekey.wire.errors import CallProblem, read_problem
from sparekey.wire.licensing_messages import EDITIONS, KEY_KINDS, KEY_TYPES
from sparekey.wire.timestamps import to_timestamp

from .site import NOW, Site
from .words import PATIENCE

ACTIVE = keyring_pb2.Slot(type=key_pb2.KEY_TYPE_SERVER, role=keyring_pb2.KEY_ROLE_ACTIVE)


class RawAgent:
    """One stream of one agent; nothing is sent by itself."""

    def __init__(
        self, site: Site, svm_id: str = "svm-1", boot_id: str = "boot-1", call: Any = None
    ) -> None:
        self.svm_id = svm_id
        self.boot_id = boot_id
        self.call: Any = call or site.agents.Connect()
        self.sequence = 0
        self._kept: deque[agent_pb2.ConnectResponse] = deque()

    async def open(self, **more: Any) -> agent_pb2.Welcome:
        """Say Hello; the server's answer."""
        fields: dict[str, Any] = {"svm_id": self.svm_id, "boot_id": self.boot_id}
        await self.send(hello=agent_pb2.Hello(**(fields | more)))
        frame = await self.next()
        assert frame.WhichOneof("frame") == "welcome", frame
        return frame.welcome

    async def send(self, **frame: Any) -> None:
        await self.call.write(agent_pb2.ConnectRequest(**frame))

    async def next(self) -> agent_pb2.ConnectResponse:
        """The next frame from the server."""
        return self._kept.popleft() if self._kept else await self._read()

    async def next_push(self) -> agent_pb2.Push:
        """The next push; other frames are passed over."""
        while True:
            frame = await self.next()
            if frame.WhichOneof("frame") == "push":
                return frame.push

    async def report(self, *, full: bool = False, **sections: Any) -> None:
        """Send the next report, and wait until it is accepted; other frames are for later."""
        self.sequence += 1
        report = agent_pb2.Report(sequence=self.sequence, full=full, **sections)
        await self.send(report=report)
        while True:
            frame = await self._read()
            if frame.WhichOneof("frame") != "report_accepted":
                self._kept.append(frame)
            elif frame.report_accepted.sequence == self.sequence:
                return

    async def _read(self) -> agent_pb2.ConnectResponse:
        async with asyncio.timeout(PATIENCE):
            frame = await self.call.read()
        assert isinstance(frame, agent_pb2.ConnectResponse), frame
        return frame

    async def refused(self) -> CallProblem:
        """How the server ends the stream; frames before that are passed over."""
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self.ended()
        return read_problem(failed.value)

    async def leave(self) -> None:
        """End the stream in good order."""
        await self.call.done_writing()
        await self.ended()

    async def ended(self) -> None:
        """Wait until the server has ended the stream."""
        async with asyncio.timeout(PATIENCE):
            while await self.call.read() is not grpc.aio.EOF:
                pass


def held(key: LicenseKey, *, at: datetime = NOW, reserve: bool = False) -> keyring_pb2.HeldKey:
    """A key as an agent reports it."""
    return keyring_pb2.HeldKey(
        slot=keyring_pb2.Slot(
            type=KEY_TYPES[key.type],  # type: ignore[arg-type]
            role=keyring_pb2.KEY_ROLE_RESERVE if reserve else keyring_pb2.KEY_ROLE_ACTIVE,
        ),
        serial=key.serial,
        kind=KEY_KINDS[key.kind],  # type: ignore[arg-type]
        edition=EDITIONS[key.edition],  # type: ignore[arg-type]
        installed_at=to_timestamp(at),
        not_before=to_timestamp(key.not_before),
        expires_at=to_timestamp(key.expires_at),
    )


def activated(key: LicenseKey, revision: int = 1) -> keyring_pb2.Keyring:
    """A keyring after a key became active on an SVM that had none."""
    change = keyring_pb2.KeyringChange(
        revision=revision,
        changed_at=to_timestamp(NOW),
        kind=keyring_pb2.KEYRING_CHANGE_KIND_KEY_ACTIVATED,
        reason=keyring_pb2.KEYRING_CHANGE_REASON_REQUESTED,
        slot=ACTIVE,
        serial=key.serial,
    )
    return keyring_pb2.Keyring(revision=revision, keys=[held(key)], changes=[change])


def applied(instructions: Iterable[agent_pb2.Instruction]) -> list[agent_pb2.SlotResult]:
    """The results of an agent that followed every instruction."""
    return [
        agent_pb2.SlotResult(
            slot=one.slot, version=one.version, state=agent_pb2.SLOT_RESULT_STATE_APPLIED
        )
        for one in instructions
    ]
