"""Many SVMs in one process: each is the real agent with a stream of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from sparekey.agent.agent import Agent, AgentSettings
from sparekey.agent.channels import ChannelFactory, open_channel
from sparekey.agent.inventory.fixed import FixedInventory
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.keyring_record import KeyringStorage, MemoryKeyringStorage
from sparekey.agent.timing import Timing
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.clock import Clock, SettableClock
from sparekey.runtime.startup import Address

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Where agents stand before the test clock's first word: nothing ends then."""

QUICK = Timing(first_try_within=0.05, backoff_base=0.05, backoff_cap=1.0)
"""Spans for fleets that must not wait: tests and demonstrations on one machine."""

IMPATIENT = Timing(
    first_try_within=0.5,
    backoff_base=0.2,
    backoff_cap=1.5,
    stable_after=5.0,
    welcome_within=3.0,
    farewell_within=0.5,
)
"""Spans for fleets under faults: waits of moments, that soon give up what does not answer."""


@dataclass(slots=True)
class SimulatedSvm:
    """One simulated SVM; `storage` outlasts restarts of its agent, as a disk would.

    Attributes:
        svm_id: The SVM.
        inventory: Its surroundings; `set` changes them.
        storage: Where its keyring is kept.
        agent: Its running agent, if it runs.
        running: The task of its running agent.
    """

    svm_id: str
    inventory: FixedInventory
    storage: KeyringStorage = field(default_factory=MemoryKeyringStorage)
    agent: Agent | None = None
    running: asyncio.Task[None] | None = None

    @property
    def running_agent(self) -> Agent:
        """The agent, which must run."""
        if self.agent is None:
            raise RuntimeError(f"the agent of {self.svm_id} does not run")
        return self.agent


def make_svm(
    svm_id: str,
    *,
    cluster: str = "",
    servers: int = 0,
    desktops: int = 0,
    unknown: int = 0,
    processors: int = 2,
    cores: int = 16,
) -> SimulatedSvm:
    """A simulated SVM with its surroundings."""
    inventory = Inventory(
        cluster=cluster,
        guests=GuestMix(servers, desktops, unknown),
        host_uuid=f"host-of-{svm_id}",
        host_cpu=HostCpu(processors, cores),
    )
    return SimulatedSvm(svm_id, FixedInventory(inventory))


class SimulatedFleet:
    """Runs the agents of simulated SVMs on the running loop.

    Args:
        server: The license server.
        trusted: The pinned signers.
        follows_test_clock: Whether agents go by the server's test clock.
        timing: The agents' patience.
        seed: Makes the agents' spreading repeatable.
        make_clock: Another clock for each agent, in place of the machine's.
        channel_factory: Makes each agent's channels.
    """

    def __init__(
        self,
        server: Address,
        trusted: TrustedSigners,
        *,
        follows_test_clock: bool = False,
        timing: Timing = QUICK,
        seed: int = 0,
        make_clock: Callable[[], Clock] | None = None,
        channel_factory: ChannelFactory = open_channel,
    ) -> None:
        self.server = server
        self.svms: dict[str, SimulatedSvm] = {}
        self._trusted = trusted
        self._follows_test_clock = follows_test_clock
        self._timing = timing
        self._seed = seed
        self._make_clock = make_clock
        self._channel_factory = channel_factory

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(self.svms.values())

    async def start(self, svms: Iterable[SimulatedSvm]) -> None:
        """Start the agents of SVMs and wait until the server has welcomed all."""
        started = list(svms)
        self.begin(started)
        await asyncio.gather(*(self._welcomed(svm) for svm in started))

    def begin(self, svms: Iterable[SimulatedSvm]) -> None:
        """Start the agents of SVMs without waiting for the server."""
        for svm in svms:
            self._start(svm)

    async def stop(self, svms: Iterable[SimulatedSvm]) -> None:
        """Stop agents in good order; their storage stays."""
        await asyncio.gather(*(self._stop(svm) for svm in list(svms)))

    async def cut(self, svms: Iterable[SimulatedSvm]) -> None:
        """End agents at once, without a word to the server; their storage stays."""
        for svm in list(svms):
            if svm.running is not None:
                svm.running.cancel()
                await asyncio.gather(svm.running, return_exceptions=True)
            svm.agent = svm.running = None

    def _start(self, svm: SimulatedSvm) -> None:
        clock = self._make_clock() if self._make_clock else None
        if clock is None and self._follows_test_clock:
            clock = SettableClock(_EPOCH)
        svm.agent = Agent(
            AgentSettings(
                svm_id=svm.svm_id,
                server=self.server,
                follows_test_clock=self._follows_test_clock,
            ),
            svm.inventory,
            svm.storage,
            self._trusted,
            clock=clock,
            randomness=random.Random(f"{self._seed} {svm.svm_id}"),  # noqa: S311 - spreads load
            timing=self._timing,
            channel_factory=self._channel_factory,
        )
        svm.running = asyncio.create_task(svm.agent.run())
        self.svms[svm.svm_id] = svm

    async def _welcomed(self, svm: SimulatedSvm) -> None:
        assert svm.agent is not None
        assert svm.running is not None
        welcomed = asyncio.create_task(svm.agent.connected.wait())
        await asyncio.wait({welcomed, svm.running}, return_when=asyncio.FIRST_COMPLETED)
        if not welcomed.done():
            welcomed.cancel()
            svm.running.result()  # raises why the agent ended

    async def _stop(self, svm: SimulatedSvm) -> None:
        if svm.agent is not None and svm.running is not None:
            await svm.agent.stop()
            await asyncio.gather(svm.running, return_exceptions=True)
        svm.agent = svm.running = None
