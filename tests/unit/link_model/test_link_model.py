"""A model of the agents' link, walked at random.

Two agents and a server, with loss, duplicates, reordering across reconnects, and crashes of either
side. Held at every step: an answer that the server has is on the agent's disk; no older version
overwrites a newer one; nothing is followed twice. Held once faults stop: the server's view, the
history and the agent's keyring agree (R87, R89).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from faults.replay import rebuild
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import Role
from sparekey.runtime.clock import SettableClock
from sparekey.server.store.database import open_database
from sparekey.server.store.instructions import InstructionState

from .ends import KEYS, NOW, AgentEnd, ServerEnd, Wire

SVMS = ("svm-a", "svm-b")
_MOST_ROUNDS = 50


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    # Crashes are the model's own; a real disk would only cost time.
    opened = open_database("sqlite://")
    yield opened
    opened.dispose()


class LinkMachine(RuleBasedStateMachine):
    """The steps that either end, the network or time can take."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.clock = SettableClock(NOW)
        self.server = ServerEnd(self.engine, self.clock)
        self.agents = {svm_id: AgentEnd(svm_id, self.clock) for svm_id in SVMS}
        self.wires: dict[str, list[Wire]] = {svm_id: [] for svm_id in SVMS}
        for svm_id in SVMS:
            self.reconnect(svm_id)
            self.exchange(svm_id, 6)

    @rule(
        key=st.sampled_from(KEYS),
        role=st.sampled_from(Role),
        svm_ids=st.sets(st.sampled_from(SVMS), min_size=1),
    )
    def start_task(self, key: Any, role: Role, svm_ids: set[str]) -> None:
        self.server.start_task(key, role, sorted(svm_ids))

    @rule(svm_id=st.sampled_from(SVMS))
    def reconnect(self, svm_id: str) -> None:
        """The agent gives its stream up; what it sent may still arrive."""
        self.wires[svm_id].append(self.agents[svm_id].connect())

    @rule(svm_id=st.sampled_from(SVMS), kept=st.integers(0, 3))
    def cut(self, svm_id: str, kept: int) -> None:
        """The network loses a stream: of what is under way only the first frames get through."""
        for wire in self.wires[svm_id]:
            while len(wire.up) > kept:
                wire.up.pop()
            wire.down.clear()
        self.agents[svm_id].hang_up()

    @rule(svm_id=st.sampled_from(SVMS), frames=st.integers(1, 8))
    def exchange(self, svm_id: str, frames: int) -> None:
        """All works for a while: the server answers and pushes, the agent follows."""
        for _ in range(frames):
            wire = self.agents[svm_id].wire
            if wire is None or wire.ended:
                self.reconnect(svm_id)
            self.arrive(svm_id, 99, "")
            self.server.push(svm_id)
            self.follow(svm_id)
            if not any(one.up or one.down for one in self.wires[svm_id]):
                return

    @rule(
        svm_id=st.sampled_from(SVMS),
        which=st.integers(0, 3),
        crash=st.sampled_from(["", "", "before", "after"]),
    )
    def arrive(self, svm_id: str, which: int, crash: str) -> None:
        """A frame of any stream with frames in flight reaches the server, which may crash of it."""
        waiting = [wire for wire in self.wires[svm_id] if wire.up]
        if waiting:
            wire = waiting[min(which, len(waiting) - 1)]
            self.server.receive(svm_id, wire, crash=crash)
        self.wires[svm_id] = [
            wire for wire in self.wires[svm_id] if wire.up or wire is self.agents[svm_id].wire
        ]

    @rule(svm_id=st.sampled_from(SVMS))
    def follow(self, svm_id: str) -> None:
        """A frame reaches the agent."""
        wire = self.agents[svm_id].wire
        if wire is not None and wire.down:
            self.agents[svm_id].take(wire.down.popleft())

    @rule(svm_id=st.sampled_from(SVMS), again=st.booleans())
    def push(self, svm_id: str, again: bool) -> None:
        self.server.push(svm_id, again=again)

    @rule()
    def crash_server(self) -> None:
        self.server.crash()

    @rule(svm_id=st.sampled_from(SVMS))
    def crash_agent(self, svm_id: str) -> None:
        self.agents[svm_id].crash()

    @rule(svm_id=st.sampled_from(SVMS), full=st.booleans())
    def fill_disk(self, svm_id: str, full: bool) -> None:
        self.agents[svm_id].disk.full = full

    @rule(hours=st.sampled_from([1, 60, 121]))
    def let_time_pass(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))
        for agent in self.agents.values():
            agent.keeper.settle_now()
            agent.tell()

    @rule(svm_id=st.sampled_from(SVMS), servers=st.integers(0, 3))
    def change_guests(self, svm_id: str, servers: int) -> None:
        agent = self.agents[svm_id]
        inventory = agent.inventory
        agent.inventory = type(inventory)(
            inventory.cluster, GuestMix(servers, 1), inventory.host_uuid, inventory.host_cpu
        )
        agent.reports.inventory = agent.inventory
        agent.tell()

    @invariant()
    def no_disk_saw_what_must_not_be(self) -> None:
        for agent in self.agents.values():
            assert agent.disk.twice == []
            assert agent.disk.wrong == []

    @invariant()
    def what_the_server_was_told_is_on_the_agents_disk(self) -> None:
        for svm_id, agent in self.agents.items():
            assert self.server.applied(svm_id) <= {version for _, version in agent.disk.applied}

    def teardown(self) -> None:
        """Faults stop: all must come to agree, and soon."""
        for svm_id, agent in self.agents.items():
            agent.disk.full = False
            self.cut(svm_id, 1)
            agent.crash()
            self.reconnect(svm_id)
            self.exchange(svm_id, 4)
            self.server.push(svm_id, again=True)
            self.exchange(svm_id, _MOST_ROUNDS)
            self._compare(svm_id, agent)

    def _compare(self, svm_id: str, agent: AgentEnd) -> None:
        record = self.server.record(svm_id)
        assert record is not None
        assert record.keyring == agent.keeper.keyring
        assert record.keyring_revision == agent.keeper.revision
        assert record.guests == agent.inventory.guests
        waiting = [
            one for one in self.server.instructions(svm_id) if one.state is InstructionState.PENDING
        ]
        assert waiting == []
        rebuilt = rebuild(self.server.events(svm_id))
        assert (rebuilt.twice, rebuilt.impossible, rebuilt.resyncs) == ([], [], 0)
        assert rebuilt.revision == record.keyring_revision
        assert rebuilt.slots == {
            slot: held.key.serial for slot, held in record.keyring.slots.items()
        }


def test_the_link_loses_nothing_whatever_comes_between(engine: Engine) -> None:
    machine = type("Machine", (LinkMachine,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=14,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
