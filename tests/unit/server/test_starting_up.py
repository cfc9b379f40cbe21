"""What a server wants to know before it starts, and how it refuses to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sparekey.runtime.startup import StartupRefused
from sparekey.server.license_server import new_task_id, read_vendor_keys
from sparekey.server.settings import ServerSettings
from sparekey.wire.field_rules import BY_NAME


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "7", "null", '{"a": 1}', '{"a": "b"}', '{"A B": "c"}', '{"a": null}', "\x00"],
)
def test_a_file_without_vendor_keys_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(StartupRefused) as refused:
        read_vendor_keys(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_vendor_keys_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StartupRefused, match="holds no public keys"):
        read_vendor_keys(path)


@pytest.mark.parametrize("path", ["none.json", "."])
def test_vendor_keys_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    with pytest.raises(StartupRefused, match="cannot read the vendor's public keys"):
        read_vendor_keys(tmp_path / path)


@pytest.mark.parametrize(
    "setting",
    [
        {"heartbeat": 0},
        {"push_deadline": 0.5},
        {"key_check_interval": 0},
        {"subscription_poll_interval": 0},
        {"block_grace": -1},
        {"log_level": "loud"},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings(vendor_keys=Path("keys.json"), **setting)


def test_settings_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAREKEY_SERVER_VENDOR_KEYS", "from-environment.json")
    monkeypatch.setenv("SPAREKEY_SERVER_HEARTBEAT", "90")
    settings = ServerSettings(heartbeat=timedelta(seconds=45))  # type: ignore[call-arg]
    assert settings.vendor_keys == Path("from-environment.json")
    assert settings.heartbeat == timedelta(seconds=45)
    settings = ServerSettings()  # type: ignore[call-arg]
    assert settings.heartbeat == timedelta(seconds=90)


def test_task_ids_keep_their_own_rule_and_differ() -> None:
    ids = {new_task_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(BY_NAME["task_id"](task_id) is None for task_id in ids)
