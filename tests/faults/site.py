"""One installation under faults: a real server process, proxies before it, keys in it."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from faults.proxy import Proxy
from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.testing.fleet.processes import Program, start_program

_OPTIONS = ("--log-level", "info", "--heartbeat", "1")
_ENVIRONMENT = {"SPAREKEY_SERVER_PUSH_DEADLINE": "PT1S"}


class Site:
    """The server with a proxy for agents, which is faulty, and one for operators, which is not.

    Args:
        folder: Where everything is kept.
        seconds: How long faults last; some keys end meanwhile.

    Attributes:
        keys: The keys; of each type some end while faults strike.
        trusted: Who signed them.
        database: The server's database file.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
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
        self.database = folder / "server" / "sparekey.db"
        self.server: Program | None = None
        self.agents_proxy: Proxy
        self.operators_proxy: Proxy
        self._busy = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.to_thread(self._start)
        self.agents_proxy = await Proxy(self.server.address).__aenter__()
        self.operators_proxy = await Proxy(self.server.address).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.agents_proxy.__aexit__()
        await self.operators_proxy.__aexit__()
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
        """Let none of the server's files grow for a while."""
        async with self._busy:
            pid = self._running.process.pid
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
            try:
                await asyncio.sleep(seconds)
            finally:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))

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
        return start_program(
            "sparekey-server",
            options,
            log=self._folder / "server.log",
            environment=_ENVIRONMENT,
        )
