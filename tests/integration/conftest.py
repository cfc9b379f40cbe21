"""Fixtures for every integration test: a vendor, and a license server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.key_files import KeySigner

from .server.site import Site, running_site


@pytest.fixture(scope="session")
def vendor() -> KeySigner:
    """The vendor whose key files the sites trust."""
    return KeySigner("test-vendor", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture
async def site(tmp_path: Path, vendor: KeySigner) -> AsyncIterator[Site]:
    """A running license server without any activation server."""
    async with running_site(tmp_path, vendor) as running:
        yield running


@pytest.fixture
async def site_with_codes(tmp_path: Path, vendor: KeySigner) -> AsyncIterator[Site]:
    """A running license server and the fake activation server that it asks."""
    async with running_site(tmp_path, vendor, fake=True) as running:
        yield running
