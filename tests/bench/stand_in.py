"""An SVM that answers every push as an agent does, without an agent's own work.

Real SVMs have processors and caches of their own; thousands of agents in one process share one
between them, and a benchmark of the server would then measure mostly those. A stand-in keeps to
the protocol and holds what it is given. It asks no rule, checks no signature and keeps no disk.
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
from sparekey.wire.licensing_messages import ROLES_READ, held_key_message, slot_message


class StandIn:
    """One SVM on a channel of its own."""

    def __init__(self, world: World, svm_id: str, cluster: str) -> None:
        self._world = world
        self._svm_id = svm_id
        self._cluster = cluster
        # By the slot's role: the instruction that filled it, and when.
        self._held: dict[int, tuple[bytes, int]] = {}
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
                    (instruction,) = frame.push.instructions
                    await stream.write(self._follow(instruction))
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

    def _follow(self, instruction: agent_pb2.Instruction) -> agent_pb2.ConnectRequest:
        role, now = instruction.slot.role, time.time_ns()
        replaced = role in self._held
        self._held[role] = (instruction.key_file, now)
        self._sequence += 1
        self.accepted.clear()
        # One frame for all stand-ins, filled in anew for each.
        key_files = tuple(key_file for key_file, _ in self._held.values())
        frame = _answer(self._world.trusted, tuple(self._held), key_files, role, replaced)
        report = frame.report
        report.sequence = self._sequence
        report.digest = self._sequence.to_bytes(32, "big")
        report.keyring.revision = self._sequence - 1
        for held, (_, installed_at) in zip(report.keyring.keys, self._held.values(), strict=True):
            _set(held.installed_at, installed_at)
        report.keyring.changes[0].revision = self._sequence - 1
        _set(report.keyring.changes[0].changed_at, now)
        report.results[0].version = instruction.version
        return frame


def _set(timestamp: Timestamp, nanoseconds: int) -> None:
    timestamp.seconds, timestamp.nanos = divmod(nanoseconds, 10**9)


@lru_cache
def _answer(
    trusted: TrustedSigners,
    roles: tuple[int, ...],
    key_files: tuple[bytes, ...],
    changed: int,
    replaced: bool,
) -> agent_pb2.ConnectRequest:
    """What stand-ins that hold the same keys answer, but for each one's own numbers and times."""
    keyring = keyring_pb2.Keyring()
    for role, key_file in zip(roles, key_files, strict=True):
        key = trusted.read(key_file)
        slot = Slot(key.type, ROLES_READ[role])
        keyring.keys.append(held_key_message(slot, HeldKey(key, key.not_before)))
        if role == changed:
            keyring.changes.add(
                kind=keyring_pb2.KEYRING_CHANGE_KIND_KEY_REPLACED
                if replaced
                else keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_ADDED,
                reason=keyring_pb2.KEYRING_CHANGE_REASON_REQUESTED,
                slot=slot_message(slot),
                serial=key.serial,
            )
    result = agent_pb2.SlotResult(
        slot=keyring.changes[0].slot, state=agent_pb2.SLOT_RESULT_STATE_APPLIED
    )
    return agent_pb2.ConnectRequest(report=agent_pb2.Report(keyring=keyring, results=[result]))
