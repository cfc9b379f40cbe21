"""A catalogue whose clock is an argument: times are told in days from one fixed instant."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.activation.fake.catalogue import Catalogue
from sparekey.activation.fake.records import CodeDefinition, KeyProperties
from sparekey.activation.fake.signing import Signing
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.keys import Edition, KeyKind, KeyType

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def signing() -> Signing:
    return Signing(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture
def catalogue(signing: Signing) -> Catalogue:
    return Catalogue(signing.sign, Random(1))


@pytest.fixture
def at() -> Callable[[float], datetime]:
    """The instant some days after (or, negative, before) the first."""

    def instant(days: float) -> datetime:
        return NOW + timedelta(days=days)

    return instant


@pytest.fixture
def properties() -> Callable[..., KeyProperties]:
    """A commercial standard server key for 30 days, but for what is said; `term` is in days."""

    def make(
        kind: KeyKind = KeyKind.COMMERCIAL,
        *,
        type: KeyType = KeyType.SERVER,  # noqa: A002 - the field's name
        term: float | None = 30,
        grace: float = 0,
        starts: datetime | None = None,
    ) -> KeyProperties:
        return KeyProperties(
            type=type,
            kind=kind,
            edition=Edition.ENTERPRISE,
            unit_limit=100,
            not_before=starts,
            term=None if term is None else timedelta(days=term),
            grace=timedelta(days=grace),
        )

    return make


@pytest.fixture
def define(catalogue: Catalogue, properties: Callable[..., KeyProperties]) -> Callable[..., str]:
    """Define a code and give it back."""

    def make(
        code: str = "TEST0-AAAAA-BBBBB-CCCCC",
        *,
        limit: int = 1,
        renewals: int = 0,
        redeem_before: datetime | None = None,
        verdict: Verdict | None = None,
        key: KeyProperties | None = None,
    ) -> str:
        catalogue.define_code(
            code,
            CodeDefinition(
                ending=code[-5:],
                properties=properties() if key is None else key,
                activation_limit=limit,
                renewals=renewals,
                redeem_before=redeem_before,
                verdict=verdict,
            ),
        )
        return code

    return make
