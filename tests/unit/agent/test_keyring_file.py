"""The keyring on disk: whole or not at all, and no damage goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from sparekey.agent.instructions_received import SlotInstruction
from sparekey.agent.keyring_document import (
    VERSION,
    DamagedDocument,
    decode_record,
    encode_record,
)
from sparekey.agent.keyring_file import KeyringFile
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.agent.keyring_record import KeyringRecord
from sparekey.licensing.key_files import TrustedSigners
from sparekey.licensing.keys import LicenseKey
from sparekey.runtime.clock import SettableClock
from sparekey.runtime.startup import StartupRefused

if TYPE_CHECKING:
    from unit.agent.conftest import Svm

MakeKey = Callable[..., LicenseKey]
Hold = Callable[[LicenseKey, int], SlotInstruction]
Other = Callable[..., SlotInstruction]
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def record(svm: Svm, make_key: MakeKey, active: Hold, reserve: Hold, other: Other) -> KeyringRecord:
    """A record with something of everything in it."""
    expiring = make_key()
    svm.keeper.follow_push(
        [active(expiring, 1), reserve(make_key(ends=90), 2), other(3, unknown=True)]
    )
    svm.clock.advance(timedelta(days=100, microseconds=1))
    svm.keeper.settle_now()
    blocked = make_key(ends=300)
    svm.keeper.follow_push([active(blocked, 4), other(5, blocked=blocked.serial)])
    svm.keeper.accept(2, sequence=12)
    return svm.disk.record


def damaged_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".damaged-" in path.name)


def test_a_record_survives_saving_and_loading(
    tmp_path: Path, record: KeyringRecord, trusted: TrustedSigners
) -> None:
    file = KeyringFile(tmp_path)
    assert file.load(trusted) == KeyringRecord()
    file.save(record)
    assert file.load(trusted) == record
    assert KeyringFile(tmp_path).load(trusted) == record
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keyring.json"]


def test_the_file_is_json_for_a_person_with_the_key_files_word_for_word(
    tmp_path: Path, svm: Svm, make_key: MakeKey, active: Hold
) -> None:
    instruction = active(make_key(), 1)
    svm.keeper.follow_push([instruction])
    KeyringFile(tmp_path).save(svm.disk.record)
    document = json.loads((tmp_path / "keyring.json").read_text())
    assert document["format"] == VERSION
    (key,) = document["content"]["keys"]
    assert key["slot"] == "SERVER/ACTIVE"
    assert key["key_file"].encode() == instruction.action.key_file  # type: ignore[union-attr]


def test_every_damaged_byte_is_noticed(record: KeyringRecord, trusted: TrustedSigners) -> None:
    sound = encode_record(record)
    assert decode_record(sound, trusted) == record
    for position, original in enumerate(sound):
        for other in {original ^ (1 << position % 8), ord("9")} - {original}:
            damaged = bytearray(sound)
            damaged[position] = other
            # Neither read nor taken for a newer release.
            with pytest.raises(DamagedDocument):
                decode_record(bytes(damaged), trusted)


def test_every_missing_or_doubled_byte_is_noticed(
    record: KeyringRecord, trusted: TrustedSigners
) -> None:
    sound = encode_record(record)
    for position in range(0, len(sound), 3):
        for damaged in (
            sound[:position],
            sound[:position] + sound[position + 1 :],
            sound[: position + 1] + sound[position:],
        ):
            with pytest.raises(DamagedDocument):
                decode_record(damaged, trusted)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_torn_file_is_put_aside_under_the_next_free_name_and_said_once(
    tmp_path: Path, record: KeyringRecord, trusted: TrustedSigners, cut: int
) -> None:
    file = KeyringFile(tmp_path)
    torn = encode_record(record)[:cut]
    (tmp_path / "keyring.json.damaged-1").write_bytes(b"earlier")
    file.path.write_bytes(torn)
    with structlog.testing.capture_logs() as logs:
        assert file.load(trusted) == KeyringRecord()
    assert damaged_names(tmp_path) == ["keyring.json.damaged-1", "keyring.json.damaged-2"]
    assert (tmp_path / "keyring.json.damaged-1").read_bytes() == b"earlier"
    assert (tmp_path / "keyring.json.damaged-2").read_bytes() == torn
    (event,) = logs
    assert event["kept_as"].endswith("damaged-2")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["accepted_sequence"], float("inf")),
        (["accepted_sequence"], "12"),
        (["revision"], 5.0),
        (["changes", 0, "serial"], 7),
        (["changes", 0, "at"], "2030-01-01T00:00:00"),
        (["keys", 0, "installed_at"], "2030-01-01"),
        (["results", 0, "version"], True),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_damage_though_the_checksum_fits(
    record: KeyringRecord, trusted: TrustedSigners, place: list[str | int], value: object
) -> None:
    """Found by fuzzing: an infinite number ended the agent, others would have later."""
    document = json.loads(encode_record(record))
    del document["checksum"]
    *way, last = place
    target = document["content"]
    for step in way:
        target = target[step]
    target[last] = value
    covered = json.dumps(document, sort_keys=True, indent=2).encode() + b"\n"
    document["checksum"] = hashlib.sha256(covered).hexdigest()
    encoded = json.dumps(document, sort_keys=True, indent=2).encode() + b"\n"
    with pytest.raises(DamagedDocument, match="is not a keyring"):
        decode_record(encoded, trusted)


def test_a_key_that_no_trusted_signer_signed_is_damage(
    tmp_path: Path, record: KeyringRecord
) -> None:
    file = KeyringFile(tmp_path)
    file.save(record)
    assert file.load(TrustedSigners({})) == KeyringRecord()
    assert damaged_names(tmp_path) == ["keyring.json.damaged-1"]


def test_a_newer_format_is_refused_and_nothing_is_touched(
    tmp_path: Path, record: KeyringRecord, trusted: TrustedSigners, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeyringFile(tmp_path)
    monkeypatch.setattr("sparekey.agent.keyring_document.VERSION", VERSION + 1)
    file.save(record)
    monkeypatch.undo()
    for newer in (file.path.read_bytes(), b'{"format": 7}'):
        file.path.write_bytes(newer)
        with pytest.raises(StartupRefused, match="newer release"):
            file.load(trusted)
        assert file.path.read_bytes() == newer
        assert damaged_names(tmp_path) == []


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, trusted: TrustedSigners) -> None:
    (tmp_path / "keyring.json").mkdir()
    with pytest.raises(StartupRefused, match="cannot read"):
        KeyringFile(tmp_path).load(trusted)


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path,
    record: KeyringRecord,
    trusted: TrustedSigners,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = KeyringFile(tmp_path)
    file.save(record)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.save(KeyringRecord())
    monkeypatch.undo()
    assert file.load(trusted) == record
    assert [path.name for path in tmp_path.iterdir()] == ["keyring.json"]


_SAVE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from sparekey.agent import durable_file
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
setattr(Path, "replace", die) if sys.argv[2] == "before" else setattr(
    durable_file, "synchronise_folder", die)
durable_file.replace_durably(Path(sys.argv[1]), b"new content")
"""


@pytest.mark.parametrize(("moment", "left"), [("before", "old"), ("after", "new content")])
def test_a_kill_around_the_rename_leaves_the_old_content_or_the_new(
    tmp_path: Path, record: KeyringRecord, trusted: TrustedSigners, moment: str, left: str
) -> None:
    path = tmp_path / "keyring.json"
    path.write_text("old")
    killed = subprocess.run(
        [sys.executable, "-c", _SAVE_AND_DIE, str(path), moment], check=False, timeout=30
    )
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == left
    # What the killed one left behind is in no one's way.
    KeyringFile(tmp_path).save(record)
    assert KeyringFile(tmp_path).load(trusted) == record
    assert [entry.name for entry in tmp_path.iterdir()] == ["keyring.json"]


def test_a_keeper_works_on_a_file_as_in_memory(
    tmp_path: Path, trusted: TrustedSigners, make_key: MakeKey, active: Hold, reserve: Hold
) -> None:
    clock = SettableClock(NOW)
    keeper = KeyringKeeper(KeyringFile(tmp_path), trusted, clock)
    results = keeper.follow_push([active(make_key(), 1), reserve(make_key(ends=90), 2)])
    again = KeyringKeeper(KeyringFile(tmp_path), trusted, clock)
    assert again.keyring == keeper.keyring
    assert again.changes_since(0) == keeper.changes_since(0)
    assert list(again.results.values()) == results
