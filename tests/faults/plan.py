"""Which faults strike when: made from a seed alone, so that a failing run can be replayed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum


class Fault(Enum):
    """What can go wrong, and how it is done."""

    SERVER_KILLED = "SIGKILL to the server, which is started again"
    SERVER_FROZEN = "SIGSTOP to the server, SIGCONT a moment later"
    SERVER_DRAINED = "SIGTERM to the server, which is started again"
    SERVER_DISK_FULL = "the server's disk is full for a moment"
    SERVER_FILES_STUCK = "no file of the server can be written for a moment"
    AGENTS_KILLED = "SIGKILL to agents' processes, which are started again"
    AGENTS_FROZEN = "SIGSTOP to agents' processes, SIGCONT a moment later"
    AGENTS_DISK_FULL = "agents' disks are full for a moment"
    CUT = "connections are reset"
    CUT_AT_RECONNECT = "connections are reset, and the next ones after a few bytes"
    HALF_OPEN = "connections carry nothing in either direction, then are reset"
    DEAF_SERVER = "what agents send is lost, then the connection is reset"
    DEAF_AGENTS = "what the server sends is lost, then the connection is reset"
    TWICE_AT_RECONNECT = "agents are reset and say all again, while the first still arrives"
    SLOW = "what is sent arrives late"
    STARVED = "a few bytes a second get through"


KILLS = {Fault.SERVER_KILLED, Fault.AGENTS_KILLED}
CUTS = {
    Fault.CUT,
    Fault.CUT_AT_RECONNECT,
    Fault.HALF_OPEN,
    Fault.DEAF_SERVER,
    Fault.DEAF_AGENTS,
    Fault.TWICE_AT_RECONNECT,
}

OF_SERVER = {
    Fault.SERVER_KILLED,
    Fault.SERVER_FROZEN,
    Fault.SERVER_DRAINED,
    Fault.SERVER_DISK_FULL,
    Fault.SERVER_FILES_STUCK,
}
"""These strike one at a time; the others overlap freely."""

OF_AGENTS = {Fault.AGENTS_KILLED, Fault.AGENTS_FROZEN, Fault.AGENTS_DISK_FULL}

_EACH_TEN_SECONDS = {
    Fault.SERVER_KILLED: 1,
    Fault.SERVER_FROZEN: 0.7,
    Fault.SERVER_DRAINED: 0.4,
    Fault.SERVER_DISK_FULL: 0.7,
    Fault.SERVER_FILES_STUCK: 0.4,
    Fault.AGENTS_KILLED: 3,
    Fault.AGENTS_FROZEN: 2,
    Fault.AGENTS_DISK_FULL: 2,
    Fault.CUT: 4,
    Fault.CUT_AT_RECONNECT: 2,
    Fault.HALF_OPEN: 2,
    Fault.DEAF_SERVER: 2,
    Fault.DEAF_AGENTS: 2,
    Fault.TWICE_AT_RECONNECT: 2,
    Fault.SLOW: 2,
    Fault.STARVED: 1,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One fault.

    Attributes:
        at: Seconds from the run's start, without the waits for agents to be back.
        fault: What strikes.
        share: The part of the processes or connections that it strikes, above 0, at most 1.
        seconds: How long it lasts, where it lasts.
    """

    at: float
    fault: Fault
    share: float
    seconds: float


def make_plan(seed: int, seconds: float) -> list[Step]:
    """The faults of one run, in the order in which they strike; each kind at least once."""
    chance = random.Random(f"faults {seed}")
    kinds = [
        fault
        for fault, rate in _EACH_TEN_SECONDS.items()
        for _ in range(max(1, round(rate * seconds / 10)))
    ]
    chance.shuffle(kinds)
    span = seconds / len(kinds)
    return [
        Step(
            at=round((place + chance.random()) * span, 3),
            fault=fault,
            # Mostly a few, now and then the whole fleet.
            share=1.0 if chance.random() < 0.15 else round(chance.uniform(0.02, 0.4), 3),
            seconds=round(chance.uniform(0.3, 2.5), 3),
        )
        for place, fault in enumerate(kinds)
    ]
