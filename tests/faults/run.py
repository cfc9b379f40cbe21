"""One run: a fleet and its operators at work while a plan's faults strike, then the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from faults.agents import CLUSTERS, AgentProcess, Agents, Surroundings, pids_of
from faults.broken import OF_SERVER as BREAKS_OF_SERVER
from faults.figures import Figures, Verdict
from faults.journal import Noted, Seen
from faults.judging import judge
from faults.operating import Operators
from faults.plan import CUTS, KILLS, OF_AGENTS, OF_SERVER, Fault, Step, make_plan
from faults.proxy import Connection
from faults.site import Site
from faults.stored import Stored
from sparekey.licensing.guests import GuestMix
from sparekey.testing.fleet.processes import ProgramFailed

_T = TypeVar("_T")

_LATE_SECONDS = 1.3
"""How late slow connections are each way; the server waits one second, and gives up after three."""

_RESTART_SECONDS = 20.0
"""How long faults of connections wait for connections."""

_CALM_SECONDS = 60.0
"""How long all may take to agree once faults have stopped."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How large a run is.

    Attributes:
        svms: Simulated SVMs, each with the real agent and a state folder.
        hosts: In how many processes these are.
        agents: SVMs that have a `sparekey-agent` of their own.
        seconds: How long faults strike.
        pause: Seconds between two tasks of the operators.
        broken: How the build is broken on purpose; empty for not at all.
    """

    svms: int = 300
    hosts: int = 5
    agents: int = 4
    seconds: float = 30.0
    pause: float = 0.25
    broken: str = ""

    def replay(self, seed: int) -> str:
        """The command that plays a run of this size again."""
        broken = f" BROKEN={self.broken}" if self.broken else ""
        return (
            f"make faults SEED={seed} SVMS={self.svms} HOSTS={self.hosts} AGENTS={self.agents}"
            f" SPAN={self.seconds:g}{broken}"
        )


class Run:
    """One run in a folder of its own; everything but the timing follows from the seed.

    Attributes:
        database: After the run, a copy of the server's database.
        seen: After the run, what the agents' disks were.
        acknowledged: After the run, the tasks that the server said it has.
    """

    database: Path
    seen: Seen
    acknowledged: list[str]

    def __init__(self, seed: int, folder: Path, settings: RunSettings) -> None:
        self._seed = seed
        self._folder = folder
        self._settings = settings
        of_server = settings.broken in BREAKS_OF_SERVER
        self._site = Site(folder, settings.seconds, settings.broken if of_server else "")
        self._broken_agents = "" if of_server else settings.broken
        self._chance = random.Random(f"victims {seed}")
        self._verdict = Verdict(seed, Figures(runs=1, svms=settings.svms + settings.agents))
        self._agents: Agents
        self._operators: Operators

    async def play(self) -> Verdict:
        """Play it; the verdict has all that went wrong."""
        verdict, settings = self._verdict, self._settings
        async with self._site as site:
            around = Surroundings(
                site.agents_proxy.address,
                site.vendor_keys,
                site.trusted,
                self._folder,
                self._seed,
                self._broken_agents,
            )
            self._agents = Agents(
                around, hosts=settings.hosts, svms=settings.svms, own=settings.agents
            )
            async with self._agents:
                await self._all_registered()
                clusters = [*CLUSTERS, *(f"cluster-{number}" for number in range(1, 5))]
                self._operators = Operators(site, self._agents.svm_ids, clusters, self._seed)
                await self._operators.add_keys()
                ended = asyncio.Event()
                working = asyncio.create_task(self._operators.work(ended, settings.pause))
                await self._strike_by(make_plan(self._seed, settings.seconds))
                ended.set()
                await working
                await self._come_to_rest()
                await self._operators.close()
                seen = await self._agents.end()
            await asyncio.to_thread(self._judge, seen)
        return verdict.close()

    def _judge(self, seen: Seen) -> None:
        verdict = self._verdict
        figures = verdict.figures
        figures.repeated = seen.counts[Noted.REPEATED]
        figures.kind(Fault.AGENTS_DISK_FULL).struck = seen.counts[Noted.REFUSED]
        self.seen, self.acknowledged = seen, self._operators.acknowledged
        self.database = self._site.keep_database()
        stored = Stored(self.database)
        judge(verdict, stored, seen.disks, self.acknowledged)
        verdict.wrong_state.extend(sorted(set(self._operators.faults_of_ours)))
        stored.close()

    async def _all_registered(self) -> None:
        wanted = set(self._agents.svm_ids)
        stored = Stored(self._site.database)
        async with asyncio.timeout(2 * _CALM_SECONDS):
            while wanted - (await asyncio.to_thread(stored.views)).keys():  # noqa: ASYNC110 - on disk
                await asyncio.sleep(0.1)
        stored.close()

    async def _strike_by(self, plan: Sequence[Step]) -> None:
        strikes: set[asyncio.Task[None]] = set()
        figures = self._verdict.figures
        before = 0.0
        for step in plan:
            await asyncio.sleep(step.at - before)
            before = step.at
            if step.fault not in OF_SERVER | OF_AGENTS:
                await self._something_to_hit()
            figures.kills += step.fault in KILLS
            figures.cuts += step.fault in CUTS
            strikes.add(asyncio.create_task(self._strike(step)))
            for one in self._some(self._agents.own, 0.1):
                one.change_guests()
        await asyncio.gather(*strikes)

    async def _something_to_hit(self) -> None:
        """Wait until a part of the agents is connected: on a busy machine a restart takes long."""
        wanted = len(self._agents.svm_ids) / 4
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESTART_SECONDS):
                while len(self._site.agents_proxy.connections) < wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def _strike(self, step: Step) -> None:
        kind = self._verdict.figures.kind(step.fault)
        kind.strikes += 1
        if step.fault in OF_SERVER:
            struck = await self._strike_server(step)
        elif step.fault in OF_AGENTS:
            struck = await self._strike_agents(step)
        else:
            struck = await self._strike_connections(step)
        kind.struck += struck  # others of its kind may have struck meanwhile

    async def _strike_server(self, step: Step) -> int:
        refusals = self._operators.storage_refusals
        match step.fault:
            case Fault.SERVER_KILLED:
                await self._site.kill()
            case Fault.SERVER_DRAINED:
                await self._site.drain()
            case Fault.SERVER_FROZEN:
                await self._site.freeze(step.seconds)
            case Fault.SERVER_DISK_FULL:
                await self._site.fill_disk(step.seconds)
                return self._operators.storage_refusals - refusals
            case _:
                await self._site.jam_files(step.seconds)
                return self._operators.storage_refusals - refusals
        return 1

    async def _strike_agents(self, step: Step) -> int:
        victims = self._some(self._agents.processes, step.share)
        match step.fault:
            case Fault.AGENTS_KILLED:
                for victim in victims:
                    victim.signal(signal.SIGKILL)
            case Fault.AGENTS_FROZEN:
                for victim in victims:
                    victim.signal(signal.SIGSTOP)
                # At times longer than the server waits until it takes them for gone.
                await asyncio.sleep(2 * step.seconds)
                for victim in victims:
                    victim.signal(signal.SIGCONT)
            case _:
                await self._fill_disks(victims, 2 * step.seconds)
                return 0  # what that came to stands in the journals
        return len(victims)

    async def _fill_disks(self, victims: Sequence[AgentProcess], seconds: float) -> None:
        disks = {victim.disk for victim in victims}
        pids = list(pids_of(victims))
        for disk in disks:
            await asyncio.to_thread(disk.fill, pids)
        await asyncio.sleep(seconds)
        for disk in disks:
            disk.free(pids)

    async def _strike_connections(self, step: Step) -> int:
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
                case Fault.SLOW | Fault.TWICE_AT_RECONNECT:
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
        if step.fault is Fault.TWICE_AT_RECONNECT:
            for victim in victims:
                victim.cut_client()
            await asyncio.sleep(2 * _LATE_SECONDS)
        for victim in victims:
            victim.delay, victim.rate = 0.0, None
            if victim.deaf_server or victim.deaf_client:
                victim.cut()  # bytes are missing: it can only end
        if step.fault in {Fault.CUT, Fault.CUT_AT_RECONNECT}:
            return len(victims)
        return sum(victim.harmed for victim in victims)

    def _some(self, among: Sequence[_T], share: float) -> list[_T]:
        if not among:
            return []
        return self._chance.sample(among, max(1, round(share * len(among))))

    async def _come_to_rest(self) -> None:
        """Wait until agents and server agree and nothing is under way."""
        self._site.agents_proxy.short_lives.clear()
        start = time.monotonic()
        stored = Stored(self._site.database)
        calmed = False
        while not (calmed and await self._at_rest(stored)):
            if time.monotonic() - start > _CALM_SECONDS:
                self._verdict.wrong_state.append(f"no rest within {_CALM_SECONDS:g} seconds")
                break
            try:
                if not calmed:
                    await self._agents.calm()
                    calmed = True
            except ProgramFailed:
                pass  # it has just been killed, and is being started again
            await asyncio.sleep(0.1)
        self._verdict.figures.longest_convergence_s = round(time.monotonic() - start, 2)
        stored.close()

    async def _at_rest(self, stored: Stored) -> bool:
        if await asyncio.to_thread(stored.unfinished):
            return False
        try:
            states = await self._agents.states()
        except ProgramFailed:
            return False  # one that was killed is being started again
        views = await asyncio.to_thread(stored.views)
        return all(
            states[svm_id].connected
            and views.get(svm_id) == (states[svm_id].revision, GuestMix(*states[svm_id].guests))
            for svm_id in self._agents.svm_ids
        )
