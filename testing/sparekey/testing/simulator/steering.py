"""A simulated fleet that does what it is told: a command a line, and a line in answer.

`join HOST:PORT VENDOR_KEYS` starts all agents, `cut SVM` ends one without a word, `back SVM`
starts it again, `calm` lets SVMs change no more, and `status` tells how each stands. The answer
is `done`, with what was asked for behind it, or `failed: ...`. The end of the input ends the
program.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from sparekey.testing.fleet.simulated import SimulatedFleet, SimulatedSvm
from sparekey.testing.simulator.simulation import Simulation


class Steering:
    """Follows the commands.

    Args:
        simulation: What is steered.
        join: Makes a fleet for a server and the vendor's keys.
    """

    def __init__(self, simulation: Simulation, join: Callable[[str, Path], SimulatedFleet]) -> None:
        self._simulation = simulation
        self._join = join

    async def run(self, ended: asyncio.Event) -> None:
        """Follow what standard input says until it ends, and then set the event."""
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
        )
        try:
            while line := await commands.readline():
                try:
                    answer = await self.follow(line.decode().split())
                except Exception as error:  # noqa: BLE001 - whoever asked shall know
                    print(f"failed: {error}", flush=True)
                else:
                    print(f"done {answer}".rstrip(), flush=True)
        finally:
            ended.set()

    async def follow(self, words: list[str]) -> str:
        """Follow one command; return what was asked for.

        Raises:
            ValueError: there is no such command or SVM, or no fleet yet.
        """
        simulation = self._simulation
        match words:
            case ["join", server, vendor_keys]:
                simulation.fleet = self._join(server, Path(vendor_keys))
                await simulation.fleet.start(simulation.svms.values())
            case ["cut", svm_id]:
                await self._fleet.cut([self._svm(svm_id)])
            case ["back", svm_id]:
                await self._fleet.start([self._svm(svm_id)])
            case ["calm"]:
                simulation.calm()
            case ["status"]:
                return json.dumps({svm.svm_id: _state(svm) for svm in simulation.svms.values()})
            case _:
                raise ValueError(f"no command: {' '.join(words)}")
        return ""

    @property
    def _fleet(self) -> SimulatedFleet:
        if self._simulation.fleet is None:
            raise ValueError("the fleet has not joined a server")
        return self._simulation.fleet

    def _svm(self, svm_id: str) -> SimulatedSvm:
        svm = self._simulation.svms.get(svm_id)
        if svm is None:
            raise ValueError(f"no SVM {svm_id}")
        return svm


def _state(svm: SimulatedSvm) -> tuple[bool, int, tuple[int, int, int]]:
    guests = svm.inventory.inventory.guests
    agent = svm.agent
    return (
        agent is not None and agent.connected.is_set(),
        agent.keeper.revision if agent is not None else 0,
        (guests.servers, guests.desktops, guests.unknown),
    )
