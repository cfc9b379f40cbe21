"""The agent of one SVM: inventory, keyring and link, put together."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import structlog

from sparekey.agent.channels import ChannelFactory, open_channel
from sparekey.agent.inventory.inventory import Inventory, InventorySource
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.keyring_record import KeyringStorage
from sparekey.agent.link import Link
from sparekey.agent.reports import Reports
from sparekey.agent.stream import Introduction
from sparekey.agent.timing import Timing
from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.clock import Clock, SettableClock, SystemClock
from sparekey.runtime.startup import Address

_BOOT_ID_BYTES = 8
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What distinguishes one agent from another.

    Attributes:
        svm_id: 1 to 63 lower-case letters, digits and hyphens.
        server: Where the server is; on loopback, as long as there is no encryption.
        follows_test_clock: Take the time from the server's test clock; the agent then needs a
            `SettableClock` of its own.
    """

    svm_id: str
    server: Address
    follows_test_clock: bool = False


class Agent:
    """One SVM's agent; several thousand of them can share a process and an event loop.

    Args:
        settings: Which SVM and which server.
        source: What tells the inventory.
        storage: Where the keyring is kept.
        trusted: The pinned signers; share one object between agents, and each key file is
            verified once for all of them.
        clock: The SVM's time; the machine's unless given.
        randomness: Spreads the tries to connect; give each agent of a fleet its own.
        timing: How long to wait for what on the link.
        channel_factory: Makes the channels to the server; each belongs to this agent.

    Raises:
        StartupRefused: the stored keyring must not be touched by this release.
        ValueError: it is to follow a test clock and has no clock that can be set.
    """

    def __init__(
        self,
        settings: AgentSettings,
        source: InventorySource,
        storage: KeyringStorage,
        trusted: TrustedSigners,
        *,
        clock: Clock | None = None,
        randomness: random.Random | None = None,
        timing: Timing | None = None,
        channel_factory: ChannelFactory = open_channel,
    ) -> None:
        clock = clock or SystemClock()
        if settings.follows_test_clock and not isinstance(clock, SettableClock):
            raise ValueError("an agent that follows a test clock needs a SettableClock")
        self.settings = settings
        self.keeper = KeyringKeeper(storage, trusted, clock, settings.svm_id)
        self.connected = asyncio.Event()
        """Set while the server has welcomed this agent."""
        self.started = asyncio.Event()
        """Set once the inventory is known and the loops run."""
        self._source = source
        self._clock = clock
        # Spreading tries over time needs no secrecy.
        self._randomness = randomness or random.Random()  # noqa: S311
        self._timing = timing or Timing()
        self._channel_factory = channel_factory
        self._link: Link | None = None
        self._expiry: asyncio.Task[None] | None = None
        self._entered = False
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Serve the SVM until `stop` is called or the task is cancelled; once for each object.

        Raises:
            StartupRefused: the inventory cannot be had.
        """
        self._entered = True
        states = self._source.watch()
        following: asyncio.Task[None] | None = None
        try:
            # The keyring comes first: an expiry waits neither for an inventory nor for a server.
            self.keeper.listen(self._keyring_changed)
            self.keeper.settle_now()
            self._await_expiry()
            first = await self._first_inventory(states)
            if first is None:
                return
            reports = Reports(self.keeper, first)
            self._link = self._make_link(reports)
            following = asyncio.create_task(self._follow_inventory(states, reports))
            self.started.set()
            await self._link.run()
        finally:
            await _cancelled(self._expiry, following)
            if isinstance(states, AsyncGenerator):
                await states.aclose()
            self._finished.set()

    async def stop(self) -> None:
        """Leave the server in good order and end `run`; returns when that has ended."""
        self._stopping.set()
        if self._link is not None:
            self._link.leave()
        if self._entered:
            await self._finished.wait()

    def renew_channel(self) -> None:
        """Go on over a new channel, for example since the agent has another certificate."""
        if self._link is not None:
            self._link.renew_channel()

    def _make_link(self, reports: Reports) -> Link:
        introduction = Introduction(
            svm_id=self.settings.svm_id,
            # No randomness of a seed: each start must have another.
            boot_id=secrets.token_hex(_BOOT_ID_BYTES),
            agent_version=_agent_version(),
            follows_test_clock=self.settings.follows_test_clock,
        )
        return Link(
            self.settings.server,
            introduction,
            self.keeper,
            reports,
            self._clock,
            self._randomness,
            self._timing,
            self._channel_factory,
            self.connected,
        )

    async def _first_inventory(self, states: AsyncIterator[Inventory]) -> Inventory | None:
        """The present inventory, or None where the agent is stopped before it came."""

        async def first_state() -> Inventory:
            return await anext(states)

        first = asyncio.create_task(first_state())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({first, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return first.result() if first.done() and not self._stopping.is_set() else None
        finally:
            await _cancelled(first, stopping)

    async def _follow_inventory(self, states: AsyncIterator[Inventory], reports: Reports) -> None:
        try:
            async for inventory in states:
                reports.inventory = inventory
                self._wake_link()
        except Exception:  # noqa: BLE001 - a source's fault must not end the agent
            _log.exception(
                "the inventory is followed no more; the last one stays in force",
                svm_id=self.settings.svm_id,
            )

    def _keyring_changed(self) -> None:
        self._await_expiry()
        self._wake_link()

    def _wake_link(self) -> None:
        if self._link is not None:
            self._link.wake()

    def _await_expiry(self) -> None:
        """Wait for the next instant at which time changes the keyring, and for no other."""
        if self._expiry is not None:
            self._expiry.cancel()
        due = self.keeper.next_due()
        self._expiry = asyncio.create_task(self._expire_at(due)) if due is not None else None

    async def _expire_at(self, due: datetime) -> None:
        await self._clock.wait_until(due)
        # This task is done waiting: what follows may start the next one, and must not cancel it.
        self._expiry = None
        self.keeper.settle_now()
        if self._expiry is None:
            self._await_expiry()


async def _cancelled(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until they have ended."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)


@cache
def _agent_version() -> str:
    return version("sparekey")
