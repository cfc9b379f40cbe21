"""The agents' side of a run: processes with state folders on disk, started again when they end.

Most SVMs share a few processes of `sparekey-simulate`; some have a `sparekey-agent` of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

from faults.journal import Seen, read_journals
from faults.small_disk import SmallDisk
from faults.watched_program import command_for
from sparekey.agent.keyring_file import FILE_NAME, KeyringFile
from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.startup import Address
from sparekey.testing.fleet.processes import AGENT, Program, launch_program
from sparekey.testing.fleet.steered import SIMULATOR, SteeredFleet, SvmState

CLUSTERS = ("north", "south", "east", "west")

_DISK_MEBIBYTES = 24
_LOOK_SECONDS = 0.25
_CHURN = 600
"""Percent of the simulated SVMs that change in a minute."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What agents' processes need to know.

    Attributes:
        server: Where they connect.
        vendor_keys: The file of signers to trust.
        trusted: The same signers.
        folder: For logs, journals and disks.
        seed: Makes their guests and waits repeatable.
        broken: How their build is broken; empty for not at all.
    """

    server: Address
    vendor_keys: Path
    trusted: TrustedSigners
    folder: Path
    seed: int
    broken: str = ""


class AgentProcess(ABC):
    """One process with agents in it; `SIGKILL` takes them all.

    Attributes:
        name: Of the process, for its log.
        svm_ids: Its SVMs.
        disk: Where its state folders are; others may share it.
        program: The process; None before its first start.
    """

    def __init__(self, name: str, svm_ids: Sequence[str], around: Surroundings) -> None:
        self.name = name
        self.svm_ids = svm_ids
        self.disk: SmallDisk
        self.program: Program | None = None
        self._around = around
        self._starts = count(1)

    @property
    def pid(self) -> int:
        """The number of the process, which was started."""
        assert self.program is not None
        return self.program.process.pid

    def start_if_ended(self) -> bool:
        """Start the process unless it runs; whether it had to be."""
        if self.program is not None:
            if self.program.process.poll() is None:
                return False
            self.program.kill()
        journal = self._around.folder / "journals" / f"{self.name}-{next(self._starts):04}"
        command, environment = command_for(self._kind, journal=journal, broken=self._around.broken)
        self.program = self._launch(command, environment)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is still someone to get it."""
        with contextlib.suppress(ProcessLookupError):
            self.program.process.send_signal(number) if self.program else None

    def stop(self) -> None:
        """End it in good order."""
        if self.program is not None:
            self.program.stop()

    def file_of(self, svm_id: str) -> Path:
        """An SVM's keyring file."""
        return self.disk.folder / svm_id / FILE_NAME

    @property
    @abstractmethod
    def _kind(self) -> str: ...

    @abstractmethod
    def _launch(self, command: Sequence[str], environment: dict[str, str]) -> Program: ...

    @abstractmethod
    def calm(self) -> None:
        """Let guests change no more."""

    @abstractmethod
    def states(self) -> dict[str, SvmState]:
        """How its SVMs stand."""


class SimulatedSvms(AgentProcess):
    """A process of `sparekey-simulate` with many SVMs."""

    def __init__(self, number: int, svm_count: int, around: Surroundings) -> None:
        prefix = f"host-{number}"
        ids = [f"{prefix}-{one:06}" for one in range(svm_count)]
        super().__init__(prefix, ids, around)
        self._steered: SteeredFleet | None = None
        self._options = [
            *("--server", str(around.server), "--vendor-keys", str(around.vendor_keys)),
            *("--svms", str(svm_count), "--prefix", prefix, "--seed", f"{around.seed}{number}"),
            *("--churn", str(_CHURN), "--quick"),
        ]

    @property
    def _kind(self) -> str:
        return SIMULATOR

    def _launch(self, command: Sequence[str], environment: dict[str, str]) -> Program:
        self._steered = SteeredFleet(
            [*self._options, "--state", str(self.disk.folder)],
            log=self._around.folder / f"{self.name}.log",
            environment=environment,
            command=command,
        )
        return self._steered.program

    def calm(self) -> None:
        """Let guests change no more; also of a process that is started later."""
        self._options[self._options.index("--churn") + 1] = "0"
        assert self._steered is not None
        self._steered.calm()

    def states(self) -> dict[str, SvmState]:
        """How its SVMs stand, by its own word."""
        assert self._steered is not None
        return self._steered.states()


class OneAgent(AgentProcess):
    """A process of `sparekey-agent`, with an inventory file."""

    def __init__(self, number: int, around: Surroundings) -> None:
        svm_id = f"agent-{number}"
        super().__init__(svm_id, [svm_id], around)
        self._chance = random.Random(f"{svm_id} {around.seed}")
        self._inventory = around.folder / f"{svm_id}.json"
        self._cluster = CLUSTERS[number % len(CLUSTERS)]
        self._host_uuid = f"{number:08x}-0000-4000-8000-000000000000"
        self._guests = (0, 0, 0)
        self.change_guests()

    def change_guests(self) -> None:
        """Have other guests beside it."""
        self._guests = (self._chance.randint(1, 9), self._chance.randint(0, 9), 0)
        servers, desktops, _ = self._guests
        inventory = {
            "cluster": self._cluster,
            "host": {"uuid": self._host_uuid, "processors": 2, "cores": 16},
            "guests": {"servers": servers, "desktops": desktops},
        }
        fresh = self._inventory.with_suffix(".new")
        fresh.write_text(json.dumps(inventory))
        fresh.replace(self._inventory)

    @property
    def _kind(self) -> str:
        return AGENT

    def _launch(self, command: Sequence[str], environment: dict[str, str]) -> Program:
        around = self._around
        options = [
            *("--server", str(around.server), "--vendor-keys", str(around.vendor_keys)),
            *("--state", str(self.disk.folder / self.name), "--svm-id", self.name),
            *("--inventory", f"file:{self._inventory}", "--log-level", "error"),
        ]
        log = around.folder / f"{self.name}.log"
        return launch_program(AGENT, options, log=log, environment=environment, command=command)

    def calm(self) -> None:
        """Start it anew: a real agent that was cut off often waits minutes for its next try."""
        self.signal(signal.SIGKILL)

    def states(self) -> dict[str, SvmState]:
        """How its SVM stands, by its disk."""
        record = KeyringFile(self.file_of(self.name).parent).load(self._around.trusted)
        return {self.name: SvmState(True, record.revision, self._guests)}


class Agents:
    """All processes with agents of one run.

    Args:
        around: What they need to know.
        hosts: How many processes of simulated SVMs there are.
        svms: How many simulated SVMs there are in all.
        own: How many SVMs have a `sparekey-agent` of their own.
    """

    def __init__(self, around: Surroundings, *, hosts: int, svms: int, own: int) -> None:
        shares = [svms // hosts + (number < svms % hosts) for number in range(hosts)]
        self.hosts = [SimulatedSvms(number, share, around) for number, share in enumerate(shares)]
        self.own = [OneAgent(number, around) for number in range(own)]
        self.processes: list[AgentProcess] = [*self.hosts, *self.own]
        self._around = around
        self._disks = ExitStack()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        folder = self._around.folder
        (folder / "journals").mkdir()
        for process in self.hosts:
            process.disk = self._disk(folder / f"disk-of-{process.name}")
        shared = self._disk(folder / "disk-of-agents")
        for one in self.own:
            one.disk = shared
        self._keeping = asyncio.create_task(self._keep_running())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_keeping()
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGKILL)
            await asyncio.to_thread(process.stop)
        self._disks.close()

    @property
    def svm_ids(self) -> list[str]:
        """Every SVM."""
        return [svm_id for process in self.processes for svm_id in process.svm_ids]

    async def calm(self) -> None:
        """Let guests change no more."""
        await asyncio.gather(*(asyncio.to_thread(one.calm) for one in self.processes))

    async def states(self) -> dict[str, SvmState]:
        """How every SVM stands."""
        states: dict[str, SvmState] = {}
        for some in await asyncio.gather(
            *(asyncio.to_thread(one.states) for one in self.processes)
        ):
            states.update(some)
        return states

    async def end(self) -> Seen:
        """End all agents in good order; what their journals and their disks tell."""
        await self._stop_keeping()
        await asyncio.gather(*(asyncio.to_thread(one.stop) for one in self.processes))
        return await asyncio.to_thread(self._look)

    def _look(self) -> Seen:
        trusted = self._around.trusted
        seen = read_journals(self._around.folder / "journals", trusted)
        for process in self.processes:
            for svm_id in process.svm_ids:
                seen.see_file(svm_id, process.file_of(svm_id), trusted)
        return seen

    def _disk(self, folder: Path) -> SmallDisk:
        return self._disks.enter_context(SmallDisk(folder, _DISK_MEBIBYTES))

    async def _keep_running(self) -> None:
        """Start what has ended, as a machine's service manager does."""
        while True:
            for process in self.processes:
                await asyncio.to_thread(process.start_if_ended)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])


def pids_of(processes: Sequence[AgentProcess]) -> Iterator[int]:
    """The numbers of processes."""
    return (process.pid for process in processes)
