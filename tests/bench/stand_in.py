"""An SVM that answers every push as an agent does, without an agent's own work.

Real SVMs have processors of their own; thousands of agents in one process have one between
them, and a benchmark of the server would then measure mostly those. A stand-in keeps to the
protocol and holds what it is given. It asks no rule, checks no signature and keeps no disk.
"""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from bench.world import World
from sparekey.agent.channels import open_channel
from sparekey.licensing.key_files import TrustedSigners
from sparekey.licensing.keyring import HeldKey, Slot
from sparekey.v1 import agent_pb2, agent_pb2_grpc, keyring_pb2
from sparekey.wire.licensing_messages import ROLES_READ, held_key_message


class StandIn:
    """One SVM on a channel of its own."""

    def __init__(self, world: World, svm_id: str, cluster: str) -> None:
        self._world = world
        self._svm_id = svm_id
        self._cluster = cluster
        self._held: dict[tuple[int, int], keyring_pb2.HeldKey] = {}
        self._revision = 0
        self._sequence = 1
        self.accepted = asyncio.Event()
        """Set while the server has said that it has all that was reported."""

    async def run(self) -> None:
        """Connect, and answer until cancelled."""
        channel = open_channel(self._world.server.address)
        stub: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(channel)
        stream: grpc.aio.StreamStreamCall[Any, Any] = stub.Connect()
        try:
            hello = agent_pb2.Hello(svm_id=self._svm_id, boot_id="bench")
            await stream.write(agent_pb2.ConnectRequest(hello=hello))
            await stream.write(self._first_report())
            while (frame := await stream.read()) is not grpc.aio.EOF:
                assert isinstance(frame, agent_pb2.ConnectResponse)
                if frame.HasField("push"):
                    await stream.write(self._follow(frame.push))
                elif frame.report_accepted.sequence == self._sequence:
                    self.accepted.set()
        finally:
            await channel.close()

    def _first_report(self) -> agent_pb2.ConnectRequest:
        report = agent_pb2.Report(
            sequence=1,
            full=True,
            placement=agent_pb2.Placement(cluster=self._cluster),
            guests=keyring_pb2.GuestMix(servers=5),
            host_cpu=keyring_pb2.HostCpu(processors=2, cores=32),
            keyring=keyring_pb2.Keyring(),
            digest=bytes(32),
        )
        return agent_pb2.ConnectRequest(report=report)

    def _follow(self, push: agent_pb2.Push) -> agent_pb2.ConnectRequest:
        self._sequence += 1
        self.accepted.clear()
        now = Timestamp()
        now.FromNanoseconds(time.time_ns())
        changes = [self._hold(instruction, now) for instruction in push.instructions]
        report = agent_pb2.Report(
            sequence=self._sequence,
            keyring=keyring_pb2.Keyring(
                revision=self._revision, keys=self._held.values(), changes=changes
            ),
            results=[
                agent_pb2.SlotResult(
                    slot=instruction.slot,
                    version=instruction.version,
                    state=agent_pb2.SLOT_RESULT_STATE_APPLIED,
                )
                for instruction in push.instructions
            ],
            digest=self._sequence.to_bytes(32, "big"),
        )
        return agent_pb2.ConnectRequest(report=report)

    def _hold(
        self, instruction: agent_pb2.Instruction, now: Timestamp
    ) -> keyring_pb2.KeyringChange:
        slot = instruction.slot
        replaced = (slot.type, slot.role) in self._held
        held = keyring_pb2.HeldKey()
        held.CopyFrom(_as_held(self._world.trusted, instruction.key_file, slot.role))
        held.installed_at.CopyFrom(now)
        self._held[slot.type, slot.role] = held
        self._revision += 1
        return keyring_pb2.KeyringChange(
            revision=self._revision,
            changed_at=now,
            kind=keyring_pb2.KEYRING_CHANGE_KIND_KEY_REPLACED
            if replaced
            else keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_ADDED,
            reason=keyring_pb2.KEYRING_CHANGE_REASON_REQUESTED,
            slot=slot,
            serial=held.serial,
        )


@lru_cache
def _as_held(trusted: TrustedSigners, key_file: bytes, role: int) -> keyring_pb2.HeldKey:
    """What a stand-in says of a key that it holds; all hold the same few keys."""
    key = trusted.read(key_file)
    return held_key_message(Slot(key.type, ROLES_READ[role]), HeldKey(key, key.not_before))
