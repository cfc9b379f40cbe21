"""One installation under faults: a real server process, proxies before it, keys in it."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from faults.proxy import Proxy
from faults.small_disk import SmallDisk, limit_files, with_children
from faults.watched_program import command_for
from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.testing.fleet.processes import SERVER, Program, start_program

_OPTIONS = ("--log-level", "info", "--heartbeat", "1")
_DISK_MEBIBYTES = 128
_ENVIRONMENT = {"SPAREKEY_SERVER_PUSH_DEADLINE": "PT1S"}


class Site:
    """The server with a proxy for agents, which is faulty, and one for operators, which is not.

    Args:
        folder: Where everything is kept.
        seconds: How long faults last; some keys end meanwhile.
        broken: How the server's build is broken; empty for not at all.

    Attributes:
        keys: The keys; of each type some end while faults strike.
        trusted: Who signed them.
        database: The server's database file.
    """

    def __init__(self, folder: Path, seconds: float, broken: str = "") -> None:
        self._signer = KeySigner("faults", Ed25519PrivateKey.generate())
        self.trusted = TrustedSigners({"faults": self._signer.public_key})
        self._seconds = seconds
        self.keys: list[LicenseKey] = []
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.vendor_keys = folder / "vendor-keys.json"
        self.vendor_keys.write_text(
            json.dumps({"faults": encode_public_key(self._signer.public_key)})
        )
        self._disk = SmallDisk(folder / "server", _DISK_MEBIBYTES)
        self._log = folder / "server.log"
        self._broken = broken
        self.database = folder / "server" / "sparekey.db"
        self.server: Program | None = None
        self.agents_proxy: Proxy
        self.operators_proxy: Proxy
        self._busy = asyncio.Lock()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(self._disk)
            stack.push_async_callback(self._stop)
            self.server = await asyncio.to_thread(self._start)
            self.agents_proxy = await stack.enter_async_context(Proxy(self.server.address))
            self.operators_proxy = await stack.enter_async_context(Proxy(self.server.address))
            self._ending = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ending.aclose()

    async def _stop(self) -> None:
        if self.server is not None:
            await asyncio.to_thread(self.server.stop)

    def issue_keys(self) -> list[bytes]:
        """Issue the keys, as of now; return their key files."""
        now = datetime.now(UTC)
        ends = [timedelta(seconds=self._seconds * part) for part in (0.3, 0.5, 0.7, 0.9)]
        ends.extend(timedelta(days=30 + number) for number in range(4))
        self.keys = [
            LicenseKey(
                serial=f"{number:04X}-{position:06X}-0000F417",
                type=key_type,
                kind=KeyKind.COMMERCIAL,
                edition=Edition.STANDARD,
                origin=KeyOrigin.KEY_FILE,
                unit_limit=1_000_000,
                not_before=now - timedelta(days=1),
                expires_at=now + end,
            )
            for number, key_type in enumerate((KeyType.SERVER, KeyType.DESKTOP, KeyType.CORES))
            for position, end in enumerate(ends)
        ]
        return [self._signer.sign(key) for key in self.keys]

    def keep_database(self) -> Path:
        """Copy the database off the server's disk, which ends with the run."""
        kept = self._folder / "kept" / self.database.name
        kept.parent.mkdir()
        with (
            closing(sqlite3.connect(self.database)) as source,
            closing(sqlite3.connect(kept)) as copy,
        ):
            source.backup(copy)
        return kept

    async def kill(self) -> None:
        """End the server as a power cut would, and start it again."""
        async with self._busy:
            await asyncio.to_thread(self._running.kill)
            await self._restart()

    async def drain(self) -> None:
        """Stop the server in good order, and start it again."""
        async with self._busy:
            await asyncio.to_thread(self._running.stop)
            await self._restart()

    async def freeze(self, seconds: float) -> None:
        """Stop the server's process in its tracks for a while."""
        async with self._busy:
            self._running.process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                self._running.process.send_signal(signal.SIGCONT)

    async def fill_disk(self, seconds: float) -> None:
        """Leave no room on the server's disk for a while."""
        async with self._busy:
            pids = list(with_children(self._running.process.pid))
            await asyncio.to_thread(self._disk.fill, pids)
            try:
                await asyncio.sleep(seconds)
            finally:
                self._disk.free(pids)

    async def jam_files(self, seconds: float) -> None:
        """Let none of the server's files be written for a while, not even where there is room."""
        async with self._busy:
            pids = list(with_children(self._running.process.pid))
            limit_files(pids, 0)
            try:
                await asyncio.sleep(seconds)
            finally:
                limit_files(pids, None)

    @property
    def _running(self) -> Program:
        assert self.server is not None
        return self.server

    async def _restart(self) -> None:
        self.server = await asyncio.to_thread(self._start)
        self.agents_proxy.target = self.operators_proxy.target = self.server.address

    def _start(self) -> Program:
        folder = self._folder / "server"
        options = ["--listen", "127.0.0.1:0", "--data", str(folder)]
        options.extend(("--vendor-keys", str(self.vendor_keys), *_OPTIONS))
        if not self._broken:
            return start_program(SERVER, options, log=self._log, environment=_ENVIRONMENT)
        command, environment = command_for(SERVER, broken=self._broken)
        return start_program(
            SERVER,
            # One process, so that what is broken is broken for its writer too.
            [*options, "--no-writer-process"],
            log=self._log,
            environment={**_ENVIRONMENT, **environment},
            command=command,
        )
