"""A vendor for the servers under test, with key files of every kind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.licensing.key_files import KeySigner
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey

NOW = datetime(2030, 1, 1, tzinfo=UTC)
"""At this instant the clocks of the servers under test start."""


def make_signer(randomness: random.Random) -> KeySigner:
    """A vendor."""
    return KeySigner("vendor", Ed25519PrivateKey.from_private_bytes(randomness.randbytes(32)))


def make_keys(randomness: random.Random, count: int) -> list[LicenseKey]:
    """Different keys; the first few are good for any SVM now."""
    return [
        LicenseKey(
            serial=f"0000-00000A-{number:08X}",
            type=tuple(KeyType)[number % 4],
            kind=KeyKind.COMMERCIAL if number < 8 else randomness.choice(tuple(KeyKind)),
            edition=Edition.STANDARD if number < 8 else randomness.choice(tuple(Edition)),
            origin=KeyOrigin.KEY_FILE,
            unit_limit=randomness.choice((0, 1, 10, 1000)),
            not_before=NOW - timedelta(days=randomness.randint(1, 300)),
            expires_at=NOW + timedelta(days=30 + 10 * number),
        )
        for number in range(count)
    ]


def make_key_files(randomness: random.Random, signer: KeySigner, count: int) -> list[bytes]:
    """The keys' files; at the end a few that contradict the others or are over."""
    return [signer.sign(key) for key in _with_odd_ones(make_keys(randomness, count))]


def _with_odd_ones(keys: list[LicenseKey]) -> Iterator[LicenseKey]:
    yield from keys
    for key in keys[-4:]:
        yield replace(key, unit_limit=key.unit_limit + 1)
        yield replace(
            key, serial=f"0000-00000B-{key.serial[-8:]}", expires_at=NOW - timedelta(hours=1)
        )
