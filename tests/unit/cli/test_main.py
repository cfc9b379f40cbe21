"""The program as a whole: global options, wrong usage, errors in one sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sparekey.cli.main import global_options_first
from sparekey.v1 import error_pb2, fleet_pb2, key_pb2
from sparekey.wire.errors import CallRefused, FieldViolation

if TYPE_CHECKING:
    from unit.cli.conftest import CommandLine, FakeServer

CODE = "TEST0-ABCDE-12345-ZZ9ZZ"
COMMANDS = [
    "activate",
    "renew",
    "usage",
    "forecast",
    "plan",
    "explain",
    *(f"keys {name}" for name in ("add", "list", "show", "delete", "refresh")),
    *(f"tasks {name}" for name in ("list", "show", "watch", "cancel")),
    *(f"svms {name}" for name in ("list", "show", "watch", "exclude", "include", "forget")),
    *(f"events {name}" for name in ("list", "follow")),
    *(f"clock {name}" for name in ("show", "advance", "set")),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(sparekey: CommandLine, command: str) -> None:
    done = sparekey.anywhere(*command.split(), "--help")
    assert done.exit_code == 0
    assert f"Usage: sparekey {command}" in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 80


def test_the_program_has_a_help_with_examples_and_exit_codes(sparekey: CommandLine) -> None:
    done = sparekey.anywhere("--help")
    assert done.exit_code == 0
    assert "sparekey renew 4A3F-00B2C1-9D8E7F66 --all --dry-run" in done.out
    assert "Exit codes: 0 done, 1 refused" in done.out
    assert sparekey.anywhere().exit_code == 2
    assert sparekey.anywhere("--version").out.startswith("sparekey ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("keyz",), "no such command 'keyz'. Did you mean 'keys'?; see sparekey --help"),
        (("keys", "show"), "missing argument 'SERIAL'; see sparekey keys show --help"),
        (("keys", "list", "--odd"), "no such option: --odd; see sparekey keys list --help"),
    ],
)
def test_wrong_usage_is_one_sentence(
    sparekey: CommandLine, words: tuple[str, ...], sentence: str
) -> None:
    done = sparekey(*words)
    assert (done.exit_code, done.out, done.err) == (2, "", f"sparekey: {sentence}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("--output", "xml"),
        ("--timeout", "30"),
        ("--timeout",),
        ("--server", "nowhere"),
        ("--server", "127.0.0.1:99999"),
    ],
)
def test_wrong_global_options(sparekey: CommandLine, words: tuple[str, ...]) -> None:
    done = sparekey.anywhere("keys", "list", *words)
    assert (done.exit_code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert words[0] in done.err


def test_off_loopback_it_does_not_speak_in_the_clear(sparekey: CommandLine) -> None:
    done = sparekey.anywhere("--server", "192.0.2.7:7443", "keys", "list")
    assert done.exit_code == 2
    assert "not encrypted" in done.err
    assert "ssh -L 7443:127.0.0.1:7443 192.0.2.7" in done.err


def test_global_options_can_stand_anywhere() -> None:
    words = ["svms", "list", "--output", "json", "--cluster", "a", "--timeout=5s", "--server", "x"]
    assert global_options_first(words) == [
        *("--output", "json", "--timeout=5s", "--server", "x"),
        *("svms", "list", "--cluster", "a"),
    ]
    assert global_options_first(["keys", "show", "--", "--output"]) == [
        *("keys", "show", "--", "--output")
    ]
    assert global_options_first(["keys", "list", "-o"]) == ["-o"]


def test_the_server_can_come_from_the_environment(
    sparekey: CommandLine, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["ListSvms"] = fleet_pb2.ListSvmsResponse()
    monkeypatch.setenv("SPAREKEY_SERVER", str(server.address))
    assert sparekey.anywhere("svms", "list").exit_code == 0
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert sparekey.anywhere("svms", "list").exit_code == 0


def test_no_server_says_so_and_what_to_check(sparekey: CommandLine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = sparekey.anywhere("--server", address, "keys", "list", "--output", "json")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == (
        f"sparekey: cannot reach a server at {address}; check that sparekey-server runs, and"
        " --server or SPAREKEY_SERVER\n"
    )


def test_a_server_that_does_not_answer_in_time(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["GetKey"] = "hang"
    done = sparekey("keys", "show", "x" * 18, "--timeout", "1s")
    assert done.exit_code == 1  # refused by its field rules before it could hang
    done = sparekey("keys", "show", "0001-000001-00000001", "--timeout", "1s")
    assert done.exit_code == 1
    assert "did not answer in time" in done.err
    assert "--timeout" in done.err


def test_field_violations_are_said_once(sparekey: CommandLine, server: FakeServer) -> None:
    done = sparekey("keys", "show", "nonsense")
    assert done.exit_code == 1
    assert done.err == (
        "sparekey: serial is not a key's serial; copy it from the list of keys (INVALID_FIELD)\n"
    )
    server.answers["GetKey"] = CallRefused(
        error_pb2.ERROR_REASON_INVALID_FIELD,
        "the request is wrong",
        violations=[FieldViolation("serial", "is odd"), FieldViolation("x", "is required")],
        retry_after=timedelta(seconds=2.5),
    )
    done = sparekey("keys", "show", "0001-000001-00000001")
    assert done.err == (
        "sparekey: the request is wrong (INVALID_FIELD) in serial is odd; x is required"
        " - try again in 2.5 s\n"
    )


def test_what_a_server_says_does_not_steer_the_terminal(
    sparekey: CommandLine,
    server: FakeServer,
    make_svm: Callable[..., fleet_pb2.Svm],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.answers["GetKey"] = CallRefused(
        error_pb2.ERROR_REASON_KEY_NOT_FOUND, "no \x1b]0;title\x07 key"
    )
    assert "\x1b" not in sparekey("keys", "show", "0001-000001-00000001").err
    svm = make_svm("svm-1", cluster="a\x1b[31m[red]b[/red]")
    server.answers["ListSvms"] = fleet_pb2.ListSvmsResponse(svms=[svm])
    monkeypatch.setenv("COLUMNS", "140")
    shown = sparekey("svms", "list").out
    assert "\x1b" not in shown
    assert "a\ufffd[31m[red]b[/red]" in shown


def test_a_code_that_was_typed_by_mistake_is_not_repeated(sparekey: CommandLine) -> None:
    for words in (("keys", "show", "x", CODE), ("keys", CODE), ("clock", "advance", CODE)):
        done = sparekey(*words)
        assert done.exit_code == 2
        assert CODE not in done.err


def test_a_fault_of_the_program_is_one_sentence(
    sparekey: CommandLine, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_anything: object) -> None:
        raise ValueError(CODE)

    server.answers["GetKey"] = key_pb2.GetKeyResponse()
    monkeypatch.setattr("sparekey.cli.keys.key_details", fail)
    done = sparekey("keys", "show", "0001-000001-00000001")
    assert done.exit_code == 1
    assert "a fault of this program: ValueError in fail, line " in done.err
    assert "ZZ9ZZ" not in done.err


def test_a_reader_that_stops_early_is_no_error(server: FakeServer) -> None:
    keys = [key_pb2.Key(serial=f"{n:04X}-{n:06X}-{n:08X}") for n in range(900)]
    server.answers["ListKeys"] = key_pb2.ListKeysResponse(keys=keys)
    program = "import sys; from sparekey.cli.main import main; sys.exit(main())"
    words = ["--server", str(server.address), "--output", "json", "keys", "list"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(10)


def test_it_imports_neither_the_server_nor_its_database() -> None:
    program = (
        "import sys, sparekey.cli.main\n"
        "print([name for name in sys.modules if name.startswith(('sqlalchemy', 'alembic',"
        " 'sparekey.server', 'sparekey.licensing', 'sparekey.agent'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
