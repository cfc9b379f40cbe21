"""A program starts, or says in one sentence why not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sparekey.runtime.startup import (
    EXIT_REFUSED,
    Address,
    StartupRefused,
    announce,
    parse_address,
    run_program,
    stop_requested,
    writable_folder,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7443", Address("127.0.0.1", 7443)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7443",
        ":7443",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1:٧",
        "127.0.0.1:" + "9" * 5000,
        "[]:1",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(StartupRefused, match=r"write HOST:PORT, as in 127\.0\.0\.1:7443"):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert Address(host, 1).is_loopback


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com", "127.0.0.1.nip.io"],
)
def test_not_loopback(host: str) -> None:
    assert not Address(host, 1).is_loopback


def test_a_folder_is_made_with_its_parents_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert writable_folder(folder) == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert writable_folder(folder) == folder
    assert list(folder.iterdir()) == []


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(StartupRefused, match=f"cannot write in the folder {path}") as caught:
            writable_folder(path)
        assert "name another or mend its rights" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartupRefused, match="permission denied"):
        writable_folder(tmp_path)


def test_a_program_that_ends_has_exit_code_0() -> None:
    ran: list[bool] = []

    async def program() -> None:
        await asyncio.sleep(0)
        ran.append(True)

    assert run_program("sparekey-x", program) == 0
    assert ran == [True]


def test_a_refused_start_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def program() -> None:
        raise StartupRefused("no; do something else")

    assert run_program("sparekey-x", program) == EXIT_REFUSED == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "sparekey-x: no; do something else\n"


def test_a_program_that_is_interrupted_has_exit_code_130() -> None:
    async def program() -> None:
        raise KeyboardInterrupt

    assert run_program("sparekey-x", program) == 130


def test_a_fault_of_the_program_is_not_hidden() -> None:
    async def program() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program("sparekey-x", program)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_event_loop_can_be_chosen(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvloop")
    monkeypatch.setenv("SPAREKEY_EVENT_LOOP", loop)
    modules: list[str] = []

    async def program() -> None:
        modules.append(type(asyncio.get_running_loop()).__module__.split(".")[0])

    assert run_program("sparekey-x", program) == 0
    assert modules == [loop]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_a_program_to_stop_and_its_exit_code_is_0(number: signal.Signals) -> None:
    script = (
        "from sparekey.runtime.startup import announce, run_program, stop_requested\n"
        "async def program():\n"
        "    stop = stop_requested()\n"
        "    announce('sparekey-x', {'listen': '127.0.0.1:1'})\n"
        "    await stop.wait()\n"
        "raise SystemExit(run_program('sparekey-x', program))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sparekey-x ready listen=127.0.0.1:1\n"
        process.send_signal(number)
        assert process.wait(10) == 0


async def test_no_stop_is_requested_without_a_signal() -> None:
    stop = stop_requested()
    loop = asyncio.get_running_loop()
    try:
        await asyncio.sleep(0)
        assert not stop.is_set()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def test_being_ready_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce("sparekey-server", {"listen": Address("::1", 5), "svms": 3})
    assert capsys.readouterr().out == "sparekey-server ready listen=[::1]:5 svms=3\n"
