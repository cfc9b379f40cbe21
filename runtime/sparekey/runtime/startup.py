"""Starting a program, or refusing to with one sentence and a non-zero exit code."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PORT = re.compile(r"[0-9]{1,5}")

EXIT_REFUSED = 2
"""The exit code of a program that did not start."""

EXIT_INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended."""

_COLLECT_AFTER = 20_000
"""Net allocations after which young objects are looked through."""


class StartupRefused(Exception):
    """The program cannot start; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Read `HOST:PORT` or `[IPV6]:PORT`; port 0 lets the system choose.

    Raises:
        StartupRefused: the text is no address.
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise StartupRefused(f"{text!r} is not an address; write HOST:PORT, as in 127.0.0.1:7443")
    return Address(host, int(port))


def writable_folder(path: Path) -> Path:
    """Make the folder if it is missing and prove that files can be written there.

    Raises:
        StartupRefused: it is not a folder, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        raise StartupRefused(
            f"cannot write in the folder {path} ({reason}); name another or mend its rights"
        ) from None
    return path


def run_program(name: str, program: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a program until it ends; return its exit code.

    Where uvloop is installed it drives the loop: a quarter more calls for each
    second of processor time.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(program())
    except StartupRefused as refused:
        print(f"{name}: {refused}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if os.environ.get("SPAREKEY_EVENT_LOOP") == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def collect_seldom() -> None:
    """Look for garbage seldom, and never among what is there already; for servers, once started.

    What start-up made lives as long as the process. Looking through it again and again at each
    collection would cost calls a tenth of their time.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 100)


def stop_requested() -> asyncio.Event:
    """An event that is set by SIGTERM or SIGINT; for the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def announce(program: str, facts: dict[str, object]) -> None:
    """Print one line on standard output that a harness can wait for and read.

    For example `sparekey-server ready listen=127.0.0.1:41234`.
    """
    words = " ".join(f"{key}={value}" for key, value in facts.items())
    print(f"{program} ready {words}", flush=True)
