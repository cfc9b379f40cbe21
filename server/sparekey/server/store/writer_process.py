"""A process of its own for writing: deciding and storing beside the serving of calls.

One interpreter runs one thread at a time, so a server that serves and decides in
one process can use one core. Here groups go over a pipe to a second process,
which holds the lock of the database's folder: there is never a second writer.
It ends when the pipe does, whatever became of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pickle  # nosec B403 - over a pipe between our own two processes
import signal
import struct
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import make_url

from sparekey.runtime.garbage import collect_rarely
from sparekey.runtime.logs import configure_logs
from sparekey.runtime.startup import StartupRefused
from sparekey.server.store.commits import Commit
from sparekey.server.store.groups import GroupWriter, Run

_LENGTH = struct.Struct(">I")
_LOCK_SECONDS = 5
"""How long a server that was just killed may take to let go of its folder."""

_PROGRAM = "sparekey-server"
_READY = b"ready"
_CALL = "sys.exit(main(*sys.argv[1:]))"


class WriterFault(Exception):
    """The writing process failed by a fault of ours; the message is its traceback."""


class ProcessTarget:
    """Writes groups in a process of its own.

    Args:
        url: The database.
        log_level: From which level on the process logs.
        log_json: Whether it logs JSON lines.
    """

    def __init__(self, url: str, log_level: str = "info", *, log_json: bool = False) -> None:
        self._url = url
        self._log_level = log_level
        self._log_json = log_json
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process and wait until it holds the lock.

        Raises:
            StartupRefused: another server uses the database.
        """
        self._process = await asyncio.create_subprocess_exec(
            # Not by -m: what the process sends back must be known by its module's own name.
            *(sys.executable, "-c", f"import sys; from {__name__} import main; {_CALL}"),
            *(self._url, self._log_level, "json" if self._log_json else "text"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        try:
            first = await self._receive()
        except asyncio.IncompleteReadError:
            first = b""
        if first != _READY:
            raise StartupRefused(
                f"another server uses the database {make_url(self._url).render_as_string()};"
                " stop it, or name another with --data"
            )

    async def write(self, runs: list[Run], now: datetime) -> tuple[list[Any], Commit]:
        """Write one group."""
        assert self._process is not None
        assert self._process.stdin is not None
        content = pickle.dumps((runs, now), pickle.HIGHEST_PROTOCOL)
        self._process.stdin.write(_LENGTH.pack(len(content)) + content)
        await self._process.stdin.drain()
        try:
            answered = await self._receive()
        except asyncio.IncompleteReadError:
            raise WriterFault("the writing process has ended; restart the server") from None
        answers, commit = pickle.loads(answered)  # noqa: S301 # nosec B301 - from our own process
        return answers, commit

    async def ended(self) -> None:
        """Return when the process has ended, which it should not before `stop`."""
        assert self._process is not None
        await self._process.wait()

    async def stop(self) -> None:
        """Close the pipe; the process ends by itself."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    async def _receive(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
        return await self._process.stdout.readexactly(length)


def main(url: str, log_level: str, log_form: str) -> int:
    """Write groups from standard input until it ends."""
    from sparekey.server.store.database import connect_database

    # Answers go out where programs print: whatever else is printed must not come between them.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    configure_logs(_PROGRAM, level=log_level, as_json=log_form == "json")
    # A terminal's Ctrl-C reaches the whole group; when to end is the server's word alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # In a container the server may be process 1 itself, so that number alone tells nothing.
    server = os.getppid()
    source = sys.stdin.buffer
    with contextlib.ExitStack() as stack:
        if not _lock(url, stack):
            return 1
        engine = connect_database(url)
        writer = GroupWriter(engine)
        collect_rarely()
        _send(sink, _READY)
        while content := _read(source):
            runs, now = pickle.loads(content)  # noqa: S301 # nosec B301 - from our own process
            if os.getppid() != server:
                break  # the server was killed; nobody waits for this group any more
            answers, commit = writer.write(runs, now)
            _send(sink, _encode(answers, commit))
        writer.close()
        engine.dispose()
    return 0


def _encode(answers: list[Any], commit: Commit) -> bytes:
    try:
        return pickle.dumps((answers, commit), pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - an exception of a library that cannot be carried over
        carried = [
            WriterFault("".join(traceback.format_exception(answer)))
            if isinstance(answer, Exception)
            else answer
            for answer in answers
        ]
        return pickle.dumps((carried, commit), pickle.HIGHEST_PROTOCOL)


def _lock(url: str, stack: contextlib.ExitStack) -> bool:
    database = make_url(url).database
    if not database or database == ":memory:":
        return True
    lock = Path(f"{database}.lock").open("w")  # noqa: SIM115 - closed by the stack
    stack.callback(lock.close)
    # An alarm ends a wait that is too long, since flock itself has no deadline.
    signal.signal(signal.SIGALRM, _out_of_patience)
    signal.alarm(_LOCK_SECONDS)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except InterruptedError:
        return False
    finally:
        signal.alarm(0)
    return True


def _out_of_patience(_number: int, _frame: object) -> None:
    raise InterruptedError


def _read(source: BinaryIO) -> bytes:
    header = source.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return b""
    (length,) = _LENGTH.unpack(header)
    content = source.read(length)
    return content if len(content) == length else b""


def _send(sink: BinaryIO, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        sink.write(_LENGTH.pack(len(content)) + content)
        sink.flush()
