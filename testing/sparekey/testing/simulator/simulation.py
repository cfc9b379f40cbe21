"""A simulated fleet at work: its SVMs' guests change, its agents restart, and it is counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sparekey.licensing.keyring import Role
from sparekey.testing.fleet.simulated import SimulatedFleet, SimulatedSvm
from sparekey.testing.simulator.mix import Mix

_ONE_RESTART_IN = 10


@dataclass(frozen=True, slots=True)
class Counters:
    """The fleet as its agents see it.

    Attributes:
        svms: All SVMs.
        connected: Those that the server has welcomed.
        with_active_key: Those that hold an active key.
        with_reserve_key: Those that hold a reserve key.
        keyring_changes: Changes of keyrings since the start.
        guest_changes: Changes of guests that were made.
        restarts: Agents that were ended without a word and started again.
        seconds: Since the start.
    """

    svms: int
    connected: int
    with_active_key: int
    with_reserve_key: int
    keyring_changes: int
    guest_changes: int
    restarts: int
    seconds: float

    def as_document(self) -> dict[str, int | float]:
        """For programs."""
        return asdict(self)


class Simulation:
    """Runs a fleet's SVMs and lets them change.

    Args:
        svms: The SVMs.
        mix: Whence new guests come.
        churn: Which part of the SVMs changes in a minute, in percent; one change in ten is a
            restart of the agent.
        chance: Chooses.

    Attributes:
        svms: The SVMs by their ids.
        fleet: Runs the agents; None before there is a server.
    """

    def __init__(
        self, svms: Sequence[SimulatedSvm], mix: Mix, churn: float, chance: random.Random
    ) -> None:
        self.svms = {svm.svm_id: svm for svm in svms}
        self.fleet: SimulatedFleet | None = None
        self._changes_a_second = len(svms) * churn / 100 / 60
        self._mix = mix
        self._chance = chance
        self._guest_changes = 0
        self._restarts = 0
        self._started = time.monotonic()

    async def run(self, ended: asyncio.Event) -> None:
        """Let SVMs change until the event is set."""
        svms = list(self.svms.values())
        while not ended.is_set():
            rate = self._changes_a_second
            pause = self._chance.expovariate(rate) if rate else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await ended.wait()
                    return
            if self._changes_a_second and self.fleet is not None:
                await self._change(self.fleet, self._chance.choice(svms))

    def calm(self) -> None:
        """Let SVMs change no more."""
        self._changes_a_second = 0.0

    def count(self) -> Counters:
        """The counters now."""
        agents = [svm.agent for svm in self.svms.values() if svm.agent is not None]
        roles = [{slot.role for slot in agent.keeper.keyring.slots} for agent in agents]
        return Counters(
            svms=len(self.svms),
            connected=sum(agent.connected.is_set() for agent in agents),
            with_active_key=sum(Role.ACTIVE in held for held in roles),
            with_reserve_key=sum(Role.RESERVE in held for held in roles),
            keyring_changes=sum(agent.keeper.revision for agent in agents),
            guest_changes=self._guest_changes,
            restarts=self._restarts,
            seconds=round(time.monotonic() - self._started, 1),
        )

    async def _change(self, fleet: SimulatedFleet, svm: SimulatedSvm) -> None:
        if self._chance.randrange(_ONE_RESTART_IN) == 0:
            self._restarts += 1
            await fleet.cut([svm])
            fleet.begin([svm])
            return
        self._guest_changes += 1
        inventory = svm.inventory.inventory
        svm.inventory.set(replace(inventory, guests=self._mix.guests(self._chance)))
