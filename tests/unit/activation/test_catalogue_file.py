"""The catalogue on disk: nothing is lost, nothing secret is in it, a damaged one is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.activation.fake.catalogue import Catalogue
from sparekey.activation.fake.catalogue_file import encode_records, load_records
from sparekey.activation.fake.fake_clock import FakeClock
from sparekey.activation.fake.records import KeyProperties, Records
from sparekey.activation.fake.signing import Signing
from sparekey.activation.fake.state import FakeState
from sparekey.activation.fake.subscriptions import Subscription, SubscriptionState
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.keys import KeyKind
from sparekey.runtime.clock import SettableClock
from sparekey.runtime.startup import StartupRefused
from sparekey.wire.errors import CallRefused

At = Callable[[float], datetime]
Define = Callable[..., str]
Properties = Callable[..., KeyProperties]


@pytest.fixture
def full(catalogue: Catalogue, define: Define, properties: Properties, at: At) -> Catalogue:
    """A catalogue with something in every field."""
    code = define(renewals=2, redeem_before=at(9), limit=3)
    first = catalogue.redeem(code, "here", at(0))
    catalogue.renew(first.serial, "here", at(30))
    catalogue.block(first.serial, at(1))
    trial = properties(KeyKind.TRIAL, term=1e-6, starts=at(-1))
    catalogue.redeem(define("TEST0-00000-00000-00001", key=trial), "there", at(0))
    define("TEST0-00000-00000-00002", verdict=Verdict.WRONG_PRODUCT)
    unlimited = replace(
        properties(KeyKind.SUBSCRIPTION, term=None, grace=1 / 3), stops_protection=True
    )
    catalogue.issue(unlimited, at(0))
    define("TEST0-00000-00000-00003", key=unlimited)
    serial = catalogue.issue(properties(KeyKind.SUBSCRIPTION, starts=at(5)), at(0)).serial
    paused = Subscription(
        state=SubscriptionState.PAUSED,
        ends_at=at(3),
        grace=timedelta(microseconds=1),
        stops_protection=True,
        provider_url="https://provider.test/ü",
    )
    catalogue.change_subscription(serial, paused)
    catalogue.stand_clock_at(at(0.1))
    return catalogue


def test_what_was_saved_is_read_again(full: Catalogue, signing: Signing, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_bytes(encode_records(full.records))
    assert load_records(path, signing.read) == full.records


def test_R79_no_code_is_in_the_file(full: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_bytes(encode_records(full.records))
    assert "TEST0" not in path.read_text()
    assert "AAAAA" not in path.read_text()


def test_no_file_is_an_empty_catalogue(signing: Signing, tmp_path: Path) -> None:
    assert load_records(tmp_path / "catalogue.json", signing.read) == Records()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda _text: "",
        lambda _text: "[]",
        lambda _text: "null",
        lambda _text: "\xff",
        lambda text: text.replace("catalogue/1", "catalogue/2"),
        lambda text: text.replace('"trials"', '"trails"'),
        lambda text: text.replace('"renewal"', '"renewel"'),
        lambda text: text.replace("SERVER", "SERVANT"),
        lambda text: text.replace("2030-01", "2030-31"),
        lambda text: json.dumps({**json.loads(text), "codes": []}),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(
    full: Catalogue, signing: Signing, tmp_path: Path, spoil: Callable[[str], str]
) -> None:
    path = tmp_path / "catalogue.json"
    path.write_bytes(encode_records(full.records))
    path.write_text(spoil(path.read_text()), encoding="latin-1")
    with pytest.raises(StartupRefused, match=r"remove it to begin anew$"):
        load_records(path, signing.read)


def test_a_file_of_another_signing_key_is_refused(full: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_bytes(encode_records(full.records))
    with pytest.raises(StartupRefused, match="another signing key"):
        load_records(path, Signing(Ed25519PrivateKey.generate()).read)


def test_what_cannot_be_kept_is_not_answered_and_did_not_happen(
    properties: Properties, signing: Signing, tmp_path: Path, at: At
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    state = FakeState(
        signing=signing,
        clock=FakeClock(SettableClock(at(0))),
        randomness=Random(1),
        catalogue_path=folder / "catalogue.json",
    )
    serial = state.catalogue.issue(properties(), at(0)).serial
    state.set_clock(at(1))
    assert [path.name for path in folder.iterdir()] == ["catalogue.json"]
    assert (folder / "catalogue.json").stat().st_mode & 0o777 == 0o600
    folder.rename(tmp_path / "gone")
    with pytest.raises(CallRefused) as refused:
        state.set_clock(at(2))
    assert refused.value.reason_name == "STORAGE_UNAVAILABLE"
    assert state.clock.now() == at(1)
    state.catalogue.block(serial, at(2))
    with pytest.raises(CallRefused):
        state.save()
    assert state.catalogue.check(serial) == (Verdict.OK, None)
    (tmp_path / "gone").rename(folder)
    state.set_clock(at(3))
    assert load_records(folder / "catalogue.json", signing.read) == state.catalogue.records
