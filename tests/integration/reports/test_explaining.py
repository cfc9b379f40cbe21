"""Explanations from a stored history: which events are told, and in what words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.server.reports.explaining import explain_svm
from sparekey.server.store.database import open_database, sqlite_url
from sparekey.server.store.svms import SvmRecord, save_keyrings, save_svms
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import event_pb2, license_pb2

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SERIAL = "0001-000001-00000001"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Transaction]:
    """A transaction on a database with the SVM `a`, which holds one key."""
    engine = open_database(sqlite_url(tmp_path))
    key = LicenseKey(
        serial=SERIAL,
        type=KeyType.SERVER,
        kind=KeyKind.COMMERCIAL,
        edition=Edition.STANDARD,
        origin=KeyOrigin.KEY_FILE,
        unit_limit=0,
        not_before=NOW - timedelta(days=9),
        expires_at=NOW + timedelta(days=9),
    )
    held = Keyring({Slot(key.type, Role.ACTIVE): HeldKey(key, NOW)})
    record = SvmRecord("a", NOW, NOW, guests=GuestMix(2), keyring=held)
    with engine.execution_options(sparekey_writes=True).begin() as connection:
        save_svms(connection, [record])
        save_keyrings(connection, [(record, EMPTY)])
        yield Transaction(connection, NOW)
    engine.dispose()


def told(connection: Connection) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.text, one.rules) for one in explain_svm(connection, "a", NOW).story]


def test_what_happened_to_the_svms_keys_is_told_too(history: Transaction) -> None:
    blocked, failed = event_pb2.EVENT_KIND_KEY_BLOCKED, event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED
    history.add_event(blocked, "the key was blocked", actor="server", serial=SERIAL)
    history.add_event(failed, "Nobody answered.", actor="server", serial=SERIAL)
    history.add_event(blocked, "not this one", actor="server", serial="0002-000001-00000001")
    history.flush()
    assert told(history.connection) == [
        ("The key was blocked.", ("R72",)),
        ("Nobody answered.", ("R17", "R88")),
    ]


def test_a_refusal_is_told_with_what_to_do(history: Transaction) -> None:
    history.add_event(
        event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
        "refused",
        actor="operator",
        svm_id="a",
        serial=SERIAL,
        refusal=license_pb2.REFUSAL_REASON_RESERVE_NOT_LATER,
    )
    history.flush()
    ((text, rules),) = told(history.connection)
    assert text == (
        f"The key {SERIAL} was not put on a: the reserve does not end later than the active key:"
        " choose one that ends later."
    )
    assert rules == ("R15", "R77")


def test_a_long_story_keeps_its_newest_part(history: Transaction) -> None:
    for number in range(205):
        kind = event_pb2.EVENT_KIND_SVM_CHANGED
        history.add_event(kind, f"change {number}", actor="agent", svm_id="a")
    history.flush()
    found = explain_svm(history.connection, "a", NOW)
    assert found.shortened
    assert [found.story[0].text, found.story[-1].text] == ["Change 5.", "Change 204."]
