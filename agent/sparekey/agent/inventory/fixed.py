"""An inventory that the program itself sets: for fleets of simulated SVMs in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sparekey.agent.inventory.inventory import Inventory


class FixedInventory:
    """Stays as it is until `set` is called; for one event loop and any number of watchers."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._changed = asyncio.Event()

    @property
    def inventory(self) -> Inventory:
        """The present state."""
        return self._inventory

    def set(self, inventory: Inventory) -> None:
        """Change the state; watchers see the newest, not each one in between."""
        self._inventory = inventory
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def watch(self) -> AsyncIterator[Inventory]:
        """First the present state, then each change."""
        seen = None
        while True:
            changed = self._changed
            if self._inventory != seen:
                seen = self._inventory
                yield seen
            # Only where nothing was set while the watcher was busy.
            if changed is self._changed:
                await changed.wait()
