"""The inventory from a file that something else writes, followed as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
import watchfiles

from sparekey.agent.inventory.file_format import InvalidInventory, read_inventory
from sparekey.agent.inventory.inventory import Inventory
from sparekey.runtime.startup import StartupRefused

_LOOK_AGAIN_AFTER = 5.0
_MAX_BYTES = 4 * 1024 * 1024

_log = structlog.get_logger()


class FileInventory:
    """Reads a YAML or JSON file (see `file_format`) at the start and after each change.

    The folder is watched rather than the file, since editors and configuration tools put a new
    file in the old one's place. Every few seconds the file is read anyway, for file systems
    that tell of no changes. A file that cannot be used leaves the last good inventory in force.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trouble: str | None = None

    async def watch(self) -> AsyncIterator[Inventory]:
        """First the present state, then each change.

        Raises:
            StartupRefused: the file cannot be used at the start.
        """
        try:
            current = self._read()
        except InvalidInventory as invalid:
            raise StartupRefused(
                f"the inventory file {self._path} cannot be used: {invalid}"
            ) from None
        yield current
        async for _ in self._occasions():
            fresh = self._read_again()
            if fresh is not None and fresh != current:
                current = fresh
                yield current

    async def _occasions(self) -> AsyncIterator[None]:
        """Whenever the file may have changed, and every few seconds."""
        try:
            async for _ in watchfiles.awatch(
                self._path.parent,
                watch_filter=None,
                recursive=False,
                debounce=400,
                rust_timeout=int(_LOOK_AGAIN_AFTER * 1000),
                yield_on_timeout=True,
            ):
                yield
        except (OSError, RuntimeError) as error:
            _log.warning(
                "the inventory's folder cannot be watched; the file is read every few seconds",
                folder=str(self._path.parent),
                error=str(error),
            )
        while True:
            await asyncio.sleep(_LOOK_AGAIN_AFTER)
            yield

    def _read(self) -> Inventory:
        try:
            with self._path.open("rb") as file:
                encoded = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise InvalidInventory((error.strerror or "it cannot be read").lower()) from None
        if len(encoded) > _MAX_BYTES:
            raise InvalidInventory(f"it has more than {_MAX_BYTES} bytes")
        try:
            return read_inventory(encoded.decode("utf-8"))
        except UnicodeDecodeError:
            raise InvalidInventory("it is not UTF-8 text") from None

    def _read_again(self) -> Inventory | None:
        try:
            inventory = self._read()
        except InvalidInventory as invalid:
            # The file is looked at often: the same trouble is said once.
            if str(invalid) != self._trouble:
                self._trouble = str(invalid)
                _log.error(
                    "the inventory file cannot be used; the last good inventory stays in force",
                    file=str(self._path),
                    problem=self._trouble,
                )
            return None
        if self._trouble is not None:
            self._trouble = None
            _log.info("the inventory file can be used again", file=str(self._path))
        return inventory
