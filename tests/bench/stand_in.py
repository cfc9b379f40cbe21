"""An SVM that answers every push as an agent does, without an agent's own work.

Real SVMs have processors of their own; thousands of agents in one process have one between
them, and a benchmark of the server would then measure mostly those. A stand-in keeps to the
protocol and holds what it is given. It asks no rule, checks no signature and keeps no disk.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from bench.world import World
from sparekey.agent.channels import open_channel
from sparekey.agent.verified_keys import read_verified
from sparekey.licensing.keyring import HeldKey
from sparekey.runtime.clock import SystemClock
from sparekey.v1 import agent_pb2, agent_pb2_grpc, keyring_pb2
from sparekey.wire.licensing_messages import held_key_message, read_slot
from sparekey.wire.timestamps import to_timestamp

_clock = SystemClock()


class StandIn:
    """One SVM on a channel of its own."""

    def __init__(self, world: World, svm_id: str, cluster: str) -> None:
        self._world = world
        self._svm_id = svm_id
        self._cluster = cluster
        self._keyring = keyring_pb2.Keyring()
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
            await stream.write(agent_pb2.ConnectRequest(report=self._first_report()))
            while (frame := await stream.read()) is not grpc.aio.EOF:
                assert isinstance(frame, agent_pb2.ConnectResponse)
                if frame.HasField("push"):
                    report = self._follow(frame.push)
                    await stream.write(agent_pb2.ConnectRequest(report=report))
                elif frame.report_accepted.sequence == self._sequence:
                    self.accepted.set()
        finally:
            await channel.close()

    def _first_report(self) -> agent_pb2.Report:
        return agent_pb2.Report(
            sequence=1,
            full=True,
            placement=agent_pb2.Placement(cluster=self._cluster),
            guests=keyring_pb2.GuestMix(servers=5),
            host_cpu=keyring_pb2.HostCpu(processors=2, cores=32),
            keyring=self._keyring,
            digest=bytes(32),
        )

    def _follow(self, push: agent_pb2.Push) -> agent_pb2.Report:
        del self._keyring.changes[:]
        results = [self._hold(instruction) for instruction in push.instructions]
        self._sequence += 1
        self.accepted.clear()
        return agent_pb2.Report(
            sequence=self._sequence,
            keyring=self._keyring,
            results=results,
            digest=self._sequence.to_bytes(32, "big"),
        )

    def _hold(self, instruction: agent_pb2.Instruction) -> agent_pb2.SlotResult:
        slot = read_slot(instruction.slot)
        assert slot is not None
        now = _clock.now()
        key = read_verified(self._world.trusted, instruction.key_file)
        held = held_key_message(slot, HeldKey(key, now))
        keys = [one for one in self._keyring.keys if one.slot != instruction.slot]
        del self._keyring.keys[:]
        self._keyring.keys.extend([*keys, held])
        self._keyring.revision += 1
        self._keyring.changes.add(
            revision=self._keyring.revision,
            changed_at=to_timestamp(now),
            kind=keyring_pb2.KEYRING_CHANGE_KIND_KEY_REPLACED
            if len(keys) < len(self._keyring.keys) - 1
            else keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_ADDED,
            reason=keyring_pb2.KEYRING_CHANGE_REASON_REQUESTED,
            slot=instruction.slot,
            serial=key.serial,
        )
        return agent_pb2.SlotResult(
            slot=instruction.slot,
            version=instruction.version,
            state=agent_pb2.SLOT_RESULT_STATE_APPLIED,
        )
