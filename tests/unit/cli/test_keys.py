"""`sparekey keys`: what it sends, shows and keeps to itself."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparekey.v1 import error_pb2, key_pb2, subscription_pb2
from sparekey.wire.errors import CallRefused

if TYPE_CHECKING:
    from unit.cli.conftest import CommandLine, FakeServer

MakeKey = Callable[..., key_pb2.Key]
SERIAL = "0001-000001-00000001"
CODE = "TEST0-ABCDE-12345-ZZ9ZZ"


class Terminal(io.StringIO):
    """Standard input with a person before it."""

    def isatty(self) -> bool:
        return True


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def added(server: FakeServer, make_key: MakeKey) -> FakeServer:
    server.answers["AddKey"] = key_pb2.AddKeyResponse(key=make_key())
    return server


def test_a_key_file_is_sent_as_it_is(
    sparekey: CommandLine, added: FakeServer, tmp_path: Path
) -> None:
    file = tmp_path / "spare.key"
    file.write_bytes(b'{"x":1}\r\n')
    done = sparekey("keys", "add", str(file), "--request-id", "r-1")
    assert done.exit_code == 0
    assert ["serial", SERIAL] in done.rows
    request = added.request("AddKey")
    assert request.key_file == b'{"x":1}\r\n'
    assert (request.request_id, request.validate_only) == ("r-1", False)


def test_a_code_from_a_file_is_trimmed(
    sparekey: CommandLine, added: FakeServer, tmp_path: Path
) -> None:
    file = tmp_path / "code"
    file.write_text(f"  {CODE}\n")
    assert sparekey("keys", "add", "--code-from", str(file)).exit_code == 0
    assert added.request("AddKey").activation_code == CODE


def test_a_code_from_standard_input(
    sparekey: CommandLine, added: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, f"{CODE}\n".encode())
    done = sparekey("keys", "add", "--code-from", "-", "--output", "json")
    assert added.request("AddKey").activation_code == CODE
    assert done.json["key"]["serial"] == SERIAL
    assert done.json["already_stored"] is False


def test_a_code_that_is_asked_for_is_not_shown(
    sparekey: CommandLine, added: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(_text: str, **how: Any) -> str:
        asked.append(how)
        return CODE

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("typer.prompt", prompt)
    done = sparekey("keys", "add")
    assert added.request("AddKey").activation_code == CODE
    assert asked[0]["hide_input"] is True
    assert CODE not in done.out + done.err


@pytest.mark.parametrize("words", [(), ("--code-from", "-")])
def test_without_a_key_nothing_is_sent(
    sparekey: CommandLine, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    feed(monkeypatch, b" \n")
    assert sparekey("keys", "add", *words).exit_code == 2
    assert sparekey.server.requests == {}


def test_a_code_on_the_command_line_is_refused_and_not_repeated(sparekey: CommandLine) -> None:
    for words in ((CODE,), ("x", CODE), ("x", "--code-from", CODE)):
        done = sparekey("keys", "add", *words)
        assert done.exit_code == 2
        assert CODE not in done.out + done.err
    assert "--code-from" in sparekey("keys", "add", CODE).err
    assert "code" not in {
        option.lstrip("-") for option in sparekey("keys", "add", "--help").out.split()
    } - {"code", "code-from"}


def test_a_file_that_is_not_there(sparekey: CommandLine, tmp_path: Path) -> None:
    done = sparekey("keys", "add", str(tmp_path / "none"))
    assert done.exit_code == 2
    assert done.err == f"sparekey: cannot read {tmp_path / 'none'}: no such file or directory\n"


def test_a_dry_run_and_a_key_that_is_there_already_say_so(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey, tmp_path: Path
) -> None:
    file = tmp_path / "k"
    file.write_bytes(b"k")
    server.answers["AddKey"] = key_pb2.AddKeyResponse(key=make_key(), already_stored=True)
    assert "held this key before" in sparekey("keys", "add", str(file)).err
    assert "nothing was stored" in sparekey("keys", "add", str(file), "--dry-run").err
    assert server.requests["AddKey"][1].validate_only is True


def test_the_list_has_every_page(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey, paged: Callable[..., Any]
) -> None:
    keys = [make_key(number) for number in range(1, 6)]
    server.answers["ListKeys"] = paged(key_pb2.ListKeysResponse, "keys", keys)
    done = sparekey("keys", "list")
    assert [row[0] for row in done.rows if "-" in row[0] and row[0][0] == "0"] == [
        key.serial for key in keys
    ]
    assert len(server.requests["ListKeys"]) == 3
    listed = sparekey("keys", "list", "--output", "json").json
    assert [key["serial"] for key in listed] == [key.serial for key in keys]
    assert listed[0]["type"] == "KEY_TYPE_SERVER"
    assert listed[0]["code_ending"] == ""
    assert listed[0]["expires_at"] == "2030-01-31T00:00:00Z"


def test_an_empty_storage_says_how_to_fill_it(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["ListKeys"] = key_pb2.ListKeysResponse()
    done = sparekey("keys", "list")
    assert (done.exit_code, done.out) == (0, "")
    assert "sparekey keys add FILE" in done.err
    assert sparekey("keys", "list", "--output", "json").json == []


def test_a_token_that_comes_again_does_not_loop(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey
) -> None:
    server.answers["ListKeys"] = key_pb2.ListKeysResponse(keys=[make_key()], next_page_token="x")
    assert len(sparekey("keys", "list", "--output", "json").json) == 2


def test_one_key_shows_everything(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey
) -> None:
    key = make_key(
        ends=None,
        kind=key_pb2.KEY_KIND_SUBSCRIPTION,
        type=key_pb2.KEY_TYPE_CORES,
        code_ending="ZZ9ZZ",
        active_svm_count=1,
        reserve_svm_count=3,
    )
    server.answers["GetKey"] = key_pb2.GetKeyResponse(key=key)
    done = sparekey("keys", "show", SERIAL)
    for row in (
        ["kind", "subscription"],
        ["limit", "100", "cores"],
        ["ends", "no", "end"],
        ["code", "*****-*****-*****-ZZ9ZZ"],
        ["active", "on", "1", "SVM"],
        ["reserve", "on", "3", "SVMs"],
        ["valid", "from", "2029-01-31T00:00:00Z"],
    ):
        assert row in done.rows
    assert server.request("GetKey").serial == SERIAL
    assert sparekey("keys", "show", SERIAL, "-o", "json").json["unit_limit"] == "100"


def test_a_subscription_shows_where_it_stands(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey
) -> None:
    status = subscription_pb2.SubscriptionStatus(
        state=subscription_pb2.SUBSCRIPTION_STATE_GRACE,
        ends_at=make_key(ends=-2).expires_at,
        grace_ends_at=make_key(ends=5).expires_at,
        stops_protection=True,
        provider_url="https://provider.test/",
        polled_at=make_key(ends=0).expires_at,
    )
    key = make_key(kind=key_pb2.KEY_KIND_SUBSCRIPTION, ends=-2, subscription=status)
    server.answers["GetKey"] = key_pb2.GetKeyResponse(key=key)
    server.answers["ListKeys"] = key_pb2.ListKeysResponse(keys=[key])
    done = sparekey("keys", "show", SERIAL)
    for row in (
        ["subscription", "grace"],
        ["runs", "until", "2029-12-30T00:00:00Z", "(2", "days", "ago)"],
        ["grace", "until", "2030-01-06T00:00:00Z", "(in", "5", "days)"],
        ["at", "its", "end", "protection", "stops", "too"],
        ["provider", "https://provider.test/"],
        ["last", "read", "2030-01-01T00:00:00Z"],
    ):
        assert row in done.rows, done.out
    assert "grace" in sparekey("keys", "list").out


@pytest.mark.parametrize("state", ["active", "paused", "expired", "cancelled_soft"])
def test_a_subscription_without_end_or_grace_says_so(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey, state: str
) -> None:
    number = subscription_pb2.SubscriptionState.Value(f"SUBSCRIPTION_STATE_{state.upper()}")
    key = make_key(subscription=subscription_pb2.SubscriptionStatus(state=number))
    server.answers["GetKey"] = key_pb2.GetKeyResponse(key=key)
    done = sparekey("keys", "show", SERIAL)
    assert ["subscription", *state.split("_")] in done.rows
    assert ["runs", "until", "no", "end"] in done.rows
    assert "grace" not in done.out


def test_deleting_forces_only_when_told(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey
) -> None:
    server.answers["DeleteKey"] = key_pb2.DeleteKeyResponse(key=make_key())
    assert sparekey("keys", "delete", SERIAL).err == "deleted\n"
    assert sparekey("keys", "delete", SERIAL, "--force").exit_code == 0
    assert "nothing was deleted" in sparekey("keys", "delete", SERIAL, "--dry-run").err
    requests = server.requests["DeleteKey"]
    assert [request.force for request in requests] == [False, True, False]
    assert [request.validate_only for request in requests] == [False, False, True]


def test_a_key_in_use_is_refused_with_the_servers_sentence(
    sparekey: CommandLine, server: FakeServer
) -> None:
    server.answers["DeleteKey"] = CallRefused(
        error_pb2.ERROR_REASON_KEY_IN_USE, "task-7 refers to the key; wait, or force it."
    )
    done = sparekey("keys", "delete", SERIAL)
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "sparekey: task-7 refers to the key; wait, or force it (KEY_IN_USE)\n"


def test_refreshing_lists_what_was_newly_blocked(
    sparekey: CommandLine, server: FakeServer, make_key: MakeKey
) -> None:
    server.answers["RefreshKeys"] = key_pb2.RefreshKeysResponse()
    assert "no key was newly blocked" in sparekey("keys", "refresh").err
    key = make_key(blocked_at=make_key(ends=-1).expires_at)
    server.answers["RefreshKeys"] = key_pb2.RefreshKeysResponse(newly_blocked_keys=[key])
    done = sparekey("keys", "refresh")
    assert "blocked" in done.out
    assert "2029-12-31" in done.out
