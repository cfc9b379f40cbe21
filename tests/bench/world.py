"""What the benchmarks run against: the license server and the bare server, each in its process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.key_files import KeySigner, TrustedSigners, encode_public_key
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.runtime.startup import Address, parse_address
from sparekey.testing.fleet.processes import start_server
from sparekey.v1 import key_pb2, key_pb2_grpc
from sparekey.wire.serving import CHANNEL_OPTIONS

KEYS = 12
_ANSWER_BYTES = 170


class World:
    """The servers, and keys in the storage: the first to activate, each later one ends later.

    Attributes:
        request_bytes: How large an Activate request is.
    """

    def __init__(self, folder: Path) -> None:
        signer = KeySigner("bench", Ed25519PrivateKey.generate())
        self.trusted = TrustedSigners({"bench": signer.public_key})
        now = datetime.now(UTC)
        self.keys = [
            LicenseKey(
                serial=f"0000-000001-{number:08X}",
                type=KeyType.SERVER,
                kind=KeyKind.COMMERCIAL,
                edition=Edition.STANDARD,
                origin=KeyOrigin.KEY_FILE,
                unit_limit=1_000_000,
                not_before=now - timedelta(days=1),
                expires_at=now + timedelta(days=30 + number),
            )
            for number in range(KEYS)
        ]
        self._key_files = [signer.sign(key) for key in self.keys]
        folder.mkdir(parents=True, exist_ok=True)
        vendor_keys = folder / "vendor-keys.json"
        vendor_keys.write_text(json.dumps({"bench": encode_public_key(signer.public_key)}))
        self.server = start_server(folder / "server", vendor_keys, "--log-level", "warning")
        self.request_bytes = 60
        self.bare_streams = 0
        self.bare_connected = asyncio.Event()
        self._bare = subprocess.Popen(
            [sys.executable, "-m", "bench.bare_server", str(_ANSWER_BYTES)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._bare.stdout is not None
        self.bare_address: Address = parse_address(
            self._bare.stdout.readline().strip().partition("listen=")[2]
        )

    @property
    def bare_pid(self) -> int:
        """The bare server's process."""
        return self._bare.pid

    async def __aenter__(self) -> Self:
        self.channel = grpc.aio.insecure_channel(str(self.server.address), CHANNEL_OPTIONS)
        self.bare_channel = grpc.aio.insecure_channel(str(self.bare_address), CHANNEL_OPTIONS)
        keys: key_pb2_grpc.KeyServiceAsyncStub = key_pb2_grpc.KeyServiceStub(self.channel)
        for key_file in self._key_files:
            await keys.AddKey(key_pb2.AddKeyRequest(key_file=key_file))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.bare_channel.close()
        self.server.stop()
        self._bare.terminate()
        self._bare.wait()
