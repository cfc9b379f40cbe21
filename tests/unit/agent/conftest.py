"""Signed sample keys, instructions, and keepers on a clock that a test moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.agent.instructions_received import BlockKey, HoldKey, RemoveKey, SlotInstruction
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.keyring_record import KeyringRecord, MemoryKeyringStorage
from sparekey.licensing.key_files import KeySigner, TrustedSigners
from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.runtime.clock import SettableClock

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SIGNER = KeySigner("test-vendor", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
TRUSTED = TrustedSigners({"test-vendor": SIGNER.public_key})


class Disk(MemoryKeyringStorage):
    """A storage that counts its writes and can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.full = False

    def save(self, record: KeyringRecord) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.writes += 1
        super().save(record)


class Svm:
    """A keeper with its disk and its clock."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.clock = SettableClock(NOW)
        self.restart()

    def restart(self) -> None:
        """Begin anew from what is on disk."""
        self.keeper = KeyringKeeper(self.disk, TRUSTED, self.clock, "svm-1")

    def held(self) -> dict[str, str]:
        """The serials in the filled slots."""
        return {
            f"{slot.type.value}/{slot.role.value}": serial
            for slot, serial in self.keeper.keyring.serials().items()
        }

    def told(self) -> list[tuple[int, str, str, datetime]]:
        """The changes that the server has not accepted."""
        return [
            (
                numbered.revision,
                numbered.change.kind.value,
                numbered.change.serial,
                numbered.change.at,
            )
            for numbered in self.keeper.changes_since(0)
        ]


@pytest.fixture
def svm() -> Svm:
    return Svm()


@pytest.fixture
def trusted() -> TrustedSigners:
    return TRUSTED


@pytest.fixture
def make_key() -> Callable[..., LicenseKey]:
    """A commercial standard server key; `starts` and `ends` are days from now."""
    numbers = count(0xB000)

    def make(
        type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
        *,
        kind: KeyKind = KeyKind.COMMERCIAL,
        edition: Edition = Edition.STANDARD,
        starts: float = -30,
        ends: float = 30,
        number: int | None = None,
    ) -> LicenseKey:
        number = next(numbers) if number is None else number
        return LicenseKey(
            serial=f"{number:04X}-{number:06X}-{number:08X}",
            type=type,
            kind=kind,
            edition=edition,
            origin=KeyOrigin.KEY_FILE,
            unit_limit=100,
            not_before=NOW + timedelta(days=starts),
            expires_at=NOW + timedelta(days=ends),
        )

    return make


@pytest.fixture
def active() -> Callable[[LicenseKey, int], SlotInstruction]:
    """An instruction to hold a key as the active one."""

    def instruction(key: LicenseKey, version: int) -> SlotInstruction:
        return SlotInstruction(Slot(key.type, Role.ACTIVE), version, HoldKey(SIGNER.sign(key)))

    return instruction


@pytest.fixture
def reserve() -> Callable[[LicenseKey, int], SlotInstruction]:
    """An instruction to hold a key as the reserve."""

    def instruction(key: LicenseKey, version: int) -> SlotInstruction:
        return SlotInstruction(Slot(key.type, Role.RESERVE), version, HoldKey(SIGNER.sign(key)))

    return instruction


@pytest.fixture
def other() -> Callable[..., SlotInstruction]:
    """An instruction of another kind for the active server slot."""

    def instruction(
        version: int, *, blocked: str = "", role: Role = Role.ACTIVE, unknown: bool = False
    ) -> SlotInstruction:
        action: Any = BlockKey(blocked) if blocked else None if unknown else RemoveKey()
        return SlotInstruction(Slot(KeyType.SERVER, role), version, action)

    return instruction
