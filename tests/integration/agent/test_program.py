"""The real program: its start, its end, and what outlasts a kill."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.agent import main as program
from sparekey.licensing.key_files import encode_public_key
from sparekey.licensing.keys import LicenseKey
from sparekey.v1 import agent_pb2

if TYPE_CHECKING:
    from integration.agent.conftest import ScriptedServer

MakeKey = Callable[..., LicenseKey]
Hold = Callable[..., agent_pb2.Instruction]
PUBLIC_KEY = encode_public_key(Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key())
INVENTORY = """
cluster: site-a
host: {uuid: 6d0f4c8e-0a51-4f7d-9d2b-5c9a7e3b1f20, processors: 2, cores: 32}
guests: {servers: 3, desktops: 2}
"""


class Program:
    """A running `sparekey-agent`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ready(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            return (await self.process.stdout.readline()).decode().strip()

    async def end(self, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str]:
        """The exit code and what stood on standard error."""
        if number is not None:
            self.process.send_signal(number)
        async with asyncio.timeout(20):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


@pytest.fixture
def arguments(tmp_path: Path, server: ScriptedServer) -> list[str]:
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "vendor.json").write_text(json.dumps({"test-vendor": PUBLIC_KEY}))
    return [
        f"--server={server.address}",
        f"--state={tmp_path / 'state'}",
        f"--inventory=file:{tmp_path / 'inventory.yaml'}",
        f"--vendor-keys={tmp_path / 'vendor.json'}",
        "--svm-id=svm-7",
        "--log-json",
    ]


@pytest.fixture
async def run() -> AsyncIterator[Callable[[list[str]], Awaitable[Program]]]:
    """Start the program; what still runs at the end is killed."""
    programs: list[Program] = []

    async def start(arguments: list[str]) -> Program:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sparekey.agent.main",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        programs.append(Program(process))
        return programs[-1]

    yield start
    for started in programs:
        if started.process.returncode is None:
            await started.end(signal.SIGKILL)


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Undo what the program, run in this process, does to this process's logs."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


Run = Callable[[list[str]], Awaitable[Program]]


async def test_it_starts_reports_and_ends_in_good_order(
    run: Run, arguments: list[str], server: ScriptedServer, tmp_path: Path
) -> None:
    started = await run(arguments)
    assert await started.ready() == f"sparekey-agent ready svm_id=svm-7 state={tmp_path / 'state'}"
    stream = await server.stream()
    report = await stream.welcome_whole()
    assert stream.hello.svm_id == "svm-7"
    assert report.guests.servers == 3
    (tmp_path / "inventory.yaml").write_text(INVENTORY.replace("servers: 3", "servers: 5"))
    assert (await stream.next_report()).guests.servers == 5
    exit_code, errors = await started.end()
    assert exit_code == 0
    assert "Traceback" not in errors
    assert stream.left.is_set()


async def test_a_kill_loses_nothing(
    run: Run,
    arguments: list[str],
    server: ScriptedServer,
    make_key: MakeKey,
    hold: Hold,
) -> None:
    started = await run(arguments)
    stream = await server.stream()
    await stream.welcome_whole()
    now = datetime.now(UTC)
    key = make_key(starts=now - timedelta(days=1), ends=now + timedelta(days=30))
    stream.push(hold(key, 9))
    report = await stream.next_report()
    await started.end(signal.SIGKILL)
    # The pinned vendor keys, the id and the keyring are all that a restart needs.
    later = [text for text in arguments if not text.startswith(("--vendor-keys", "--svm-id"))]
    started = await run(later)
    stream = await server.stream()
    hello = await stream.welcome()
    assert hello.svm_id == "svm-7"
    assert hello.report_digest == report.digest
    assert hello.keyring_revision == 1
    assert list(hello.results) == list(report.results)
    assert (await started.end())[0] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--server=10.1.2.3:7443"], "without encryption"),
        (["--server=nowhere"], "is not an address"),
        (["--server=127.0.0.1:0"], "needs the server's port"),
        (["--inventory=nothing"], "is not a source of an inventory"),
        (["--inventory=file:/none/there.yaml"], "/none/there.yaml cannot be used: no such file"),
        (["--inventory=libvirt:nonsense"], "is not a libvirt URI"),
        (["--vendor-keys=/none/there.json"], "there is no file /none/there.json"),
        (["--svm-id=Not_An_Id"], "is not an SVM id"),
        (["--state=/proc/none"], "cannot write in the folder /proc/none"),
        (["--log-level=loud"], "is not a log level"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_what_hinders_the_start_is_said_in_one_sentence(
    arguments: list[str],
    change: list[str],
    sentence: str,
    own_logs: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["sparekey-agent", *arguments, *change])
    with pytest.raises(SystemExit) as exit_:
        program.main()
    assert exit_.value.code == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert sentence in errors
    assert errors.startswith("sparekey-agent: ")
    assert len(errors.splitlines()) == 1


def test_a_newer_releases_keyring_is_not_touched(
    arguments: list[str],
    tmp_path: Path,
    own_logs: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    newer = b'{"format": 2, "anything": "else"}'
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "keyring.json").write_bytes(newer)
    monkeypatch.setattr(sys, "argv", ["sparekey-agent", *arguments])
    with pytest.raises(SystemExit) as exit_:
        program.main()
    assert exit_.value.code == 2
    assert "written by a newer release (format 2" in capsys.readouterr().err
    assert (tmp_path / "state" / "keyring.json").read_bytes() == newer


def test_help_is_worth_reading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sparekey-agent", "--help"])
    with pytest.raises(SystemExit) as exit_:
        program.main()
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--server", "--state", "--inventory", "--vendor-keys", "--svm-id"):
        assert option in shown


async def test_R49_the_agent_knows_no_database_no_server_part_and_no_activation_server() -> None:
    script = (
        "import sys, sparekey.agent.main;"
        "print([n for n in sys.modules if n.startswith(('sqlalchemy', 'alembic',"
        " 'sparekey.server', 'sparekey.activation', 'libvirt'))])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"
