"""One run: a fleet and its operators at work while a plan's faults strike, then the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from faults.figures import Figures, Verdict
from faults.judging import judge
from faults.operating import Operators
from faults.plan import CUTS, KILLS, OF_SERVER, Fault, Step, make_plan
from faults.proxy import Connection
from faults.site import Site
from faults.stored import Stored
from faults.watched_storage import WatchedStorage
from sparekey.agent.timing import Timing
from sparekey.licensing.guests import GuestMix
from sparekey.testing.fleet.simulated import SimulatedFleet, SimulatedSvm, make_svm

_T = TypeVar("_T")

CLUSTERS = ("north", "south", "east", "west")

_TIMING = Timing(
    first_try_within=0.5,
    backoff_base=0.2,
    backoff_cap=1.5,
    stable_after=5.0,
    welcome_within=3.0,
    farewell_within=0.5,
)
_LATE_SECONDS = 1.3
"""How late slow connections are each way; the server waits one second, and gives up after three."""

_CALM_SECONDS = 60.0
"""How long all may take to agree once faults have stopped."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How large a run is.

    Attributes:
        svms: Simulated SVMs, each with the real agent.
        seconds: How long faults strike.
        pause: Seconds between two tasks of the operators.
    """

    svms: int = 300
    seconds: float = 30.0
    pause: float = 0.25


class Run:
    """One run in a folder of its own; everything but the timing follows from the seed."""

    def __init__(self, seed: int, folder: Path, settings: RunSettings) -> None:
        self._seed = seed
        self._settings = settings
        self._site = Site(folder, settings.seconds)
        self._chance = random.Random(f"victims {seed}")
        self._svms: list[SimulatedSvm] = []
        self._fleet: SimulatedFleet
        self._strikes: set[asyncio.Task[None]] = set()

    async def play(self) -> Verdict:
        """Play it; the verdict has all that went wrong."""
        verdict = Verdict(self._seed, Figures(runs=1))
        async with self._site as site:
            self._fleet = SimulatedFleet(
                site.agents_proxy.address, site.trusted, timing=_TIMING, seed=self._seed
            )
            async with self._fleet:
                self._svms = [self._make_svm(number) for number in range(self._settings.svms)]
                await self._fleet.start(self._svms)
                svm_ids = [svm.svm_id for svm in self._svms]
                operators = Operators(site, svm_ids, CLUSTERS, self._seed)
                await operators.add_keys()
                ended = asyncio.Event()
                working = asyncio.create_task(operators.work(ended, self._settings.pause))
                await self._strike_by(make_plan(self._seed, self._settings.seconds), verdict)
                ended.set()
                await working
                await self._come_to_rest(verdict)
                await operators.close()
            disks = {svm.svm_id: _disk(svm) for svm in self._svms}
            stored = Stored(site.database)
            judge(verdict, stored, disks, operators.acknowledged)
            verdict.wrong_state.extend(operators.faults_of_ours)
            stored.close()
        return verdict.close()

    def _make_svm(self, number: int) -> SimulatedSvm:
        svm = make_svm(
            f"svm-{number:04}",
            cluster=CLUSTERS[number % len(CLUSTERS)],
            servers=number % 7,
            desktops=number % 5,
        )
        svm.storage = WatchedStorage()
        return svm

    async def _strike_by(self, plan: Sequence[Step], verdict: Verdict) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for step in plan:
            await asyncio.sleep(max(0.0, start + step.at - loop.time()))
            verdict.figures.kills += step.fault in KILLS
            verdict.figures.cuts += step.fault in CUTS
            strike = asyncio.create_task(self._strike(step))
            self._strikes.add(strike)
            self._churn()
        await asyncio.gather(*self._strikes)

    async def _strike(self, step: Step) -> None:
        if step.fault in OF_SERVER:
            await self._strike_server(step)
        elif step.fault is Fault.AGENTS_KILLED:
            await self._kill_agents(step)
        elif step.fault is Fault.AGENTS_DISK_FULL:
            await self._fill_disks(step)
        else:
            await self._strike_connections(step)

    async def _strike_server(self, step: Step) -> None:
        match step.fault:
            case Fault.SERVER_KILLED:
                await self._site.kill()
            case Fault.SERVER_DRAINED:
                await self._site.drain()
            case Fault.SERVER_FROZEN:
                await self._site.freeze(step.seconds)
            case _:
                await self._site.fill_disk(step.seconds)

    async def _kill_agents(self, step: Step) -> None:
        victims = [svm for svm in self._some(self._svms, step.share) if svm.agent is not None]
        await self._fleet.cut(victims)
        await asyncio.sleep(step.seconds)
        self._fleet.begin(svm for svm in victims if svm.agent is None)

    async def _fill_disks(self, step: Step) -> None:
        victims = self._some(self._svms, step.share)
        for svm in victims:
            _disk(svm).full = True
        await asyncio.sleep(step.seconds)
        for svm in victims:
            _disk(svm).full = False

    async def _strike_connections(self, step: Step) -> None:
        proxy = self._site.agents_proxy
        everyone = sorted(proxy.connections, key=id)
        victims: list[Connection] = self._some(everyone, step.share)
        for victim in victims:
            match step.fault:
                case Fault.HALF_OPEN:
                    victim.deaf_server = victim.deaf_client = True
                case Fault.DEAF_SERVER:
                    victim.deaf_server = True
                case Fault.DEAF_AGENTS:
                    victim.deaf_client = True
                case Fault.SLOW:
                    # Later than the server waits for an answer, so that it sends again.
                    victim.delay = _LATE_SECONDS
                case Fault.STARVED:
                    victim.rate = 200.0
                case _:
                    victim.cut()
        if step.fault is Fault.CUT_AT_RECONNECT:
            lives = [self._chance.randint(0, 2000) for _ in victims]
            proxy.short_lives.extend(lives)
        await asyncio.sleep(step.seconds + (2 * _LATE_SECONDS if step.fault is Fault.SLOW else 0))
        for victim in victims:
            victim.delay, victim.rate = 0.0, None
            if victim.deaf_server or victim.deaf_client:
                victim.cut()  # bytes are missing: it can only end

    def _churn(self) -> None:
        """Guests come and go on some SVMs."""
        for svm in self._some(self._svms, 0.03):
            inventory = svm.inventory.inventory
            guests = GuestMix(self._chance.randint(0, 9), inventory.guests.desktops, 0)
            svm.inventory.set(replace(inventory, guests=guests))

    def _some(self, among: Sequence[_T], share: float) -> list[_T]:
        if not among:
            return []
        return self._chance.sample(among, max(1, round(share * len(among))))

    async def _come_to_rest(self, verdict: Verdict) -> None:
        """Wait until agents and server agree and nothing is under way."""
        self._site.agents_proxy.short_lives.clear()
        stored = Stored(self._site.database)
        start = time.monotonic()
        while not await asyncio.to_thread(self._at_rest, stored):
            if time.monotonic() - start > _CALM_SECONDS:
                verdict.wrong_state.append(f"no rest within {_CALM_SECONDS:g} seconds")
                break
            await asyncio.sleep(0.1)
        verdict.figures.longest_convergence_s = round(time.monotonic() - start, 2)
        stored.close()

    def _at_rest(self, stored: Stored) -> bool:
        if stored.unfinished():
            return False
        views = stored.views()
        return all(
            svm.agent is not None
            and svm.agent.connected.is_set()
            and views.get(svm.svm_id) == (svm.agent.keeper.revision, svm.inventory.inventory.guests)
            for svm in self._svms
        )


def _disk(svm: SimulatedSvm) -> WatchedStorage:
    assert isinstance(svm.storage, WatchedStorage)
    return svm.storage
