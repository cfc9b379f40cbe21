"""Sample keys and keyrings. Times are told in days from one fixed instant, `at(0)`."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from sparekey.licensing.changes import Transition, apply_change
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def at() -> Callable[[float], datetime]:
    """The instant some days after (or, negative, before) the samples' now."""

    def instant(days: float) -> datetime:
        return NOW + timedelta(days=days)

    return instant


@pytest.fixture
def make_key() -> Callable[..., LicenseKey]:
    """A commercial standard server key, valid 30 days before and after now, but for what is said.

    `starts` and `ends` are days from now, `ends=None` is without end. Each key has a new serial
    unless `number` says which.
    """
    numbers = count(0xA000)

    def make(
        type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
        *,
        kind: KeyKind = KeyKind.COMMERCIAL,
        edition: Edition = Edition.STANDARD,
        origin: KeyOrigin = KeyOrigin.KEY_FILE,
        starts: float = -30,
        ends: float | None = 30,
        number: int | None = None,
        unit_limit: int = 100,
    ) -> LicenseKey:
        number = next(numbers) if number is None else number
        from_file = f"{number:04X}-{number:06X}-{number:08X}"
        return LicenseKey(
            serial=from_file if origin is KeyOrigin.KEY_FILE else f"{number:032X}",
            type=type,
            kind=kind,
            edition=edition,
            origin=origin,
            unit_limit=unit_limit,
            not_before=NOW + timedelta(days=starts),
            expires_at=None if ends is None else NOW + timedelta(days=ends),
        )

    return make


@pytest.fixture
def keyring_of() -> Callable[..., Keyring]:
    """A keyring that has held the given keys since the day before now."""

    def build(actives: Iterable[LicenseKey] = (), reserves: Iterable[LicenseKey] = ()) -> Keyring:
        installed = NOW - timedelta(days=1)
        held = {Slot(key.type, Role.ACTIVE): HeldKey(key, installed) for key in actives}
        held |= {Slot(key.type, Role.RESERVE): HeldKey(key, installed) for key in reserves}
        return Keyring(held)

    return build


@pytest.fixture
def sound() -> Callable[[Keyring, Transition | Refusal, datetime], Transition]:
    """Insist that a request succeeded, broke no invariant and told all that it did."""

    def check(before: Keyring, result: Transition | Refusal, now: datetime) -> Transition:
        assert isinstance(result, Transition), result
        assert result.keyring.problems(now) == []
        replayed = before.serials()
        for change in result.changes:
            apply_change(replayed, change)
        assert replayed == result.keyring.serials()
        return result

    return check
