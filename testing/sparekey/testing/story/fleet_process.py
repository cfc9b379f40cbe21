"""The process of the fleet: one real agent for each SVM of the cast, steered by lines.

It reads commands from standard input and answers each with one line:
`join HOST:PORT VENDOR_KEYS` starts all agents, `cut SVM` takes one off the
network, `back SVM` brings it back. The end of the input ends the process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.logs import configure_logs
from sparekey.runtime.startup import announce, parse_address, run_program, stop_requested
from sparekey.testing.fleet.simulated import SimulatedFleet, SimulatedSvm, make_svm
from sparekey.testing.story.cast import SVMS

PROGRAM = "sparekey-story-fleet"


class Fleet:
    """Follows the commands."""

    def __init__(self) -> None:
        self.svms = {
            one.svm_id: make_svm(
                one.svm_id,
                cluster=one.cluster,
                servers=one.servers,
                desktops=one.desktops,
                processors=one.processors,
                cores=one.cores,
            )
            for one in SVMS
        }
        self._fleet: SimulatedFleet | None = None

    async def follow(self, words: list[str]) -> str:
        """Follow one command; return the answer."""
        match words:
            case ["join", server, vendor_keys]:
                self._fleet = SimulatedFleet(
                    parse_address(server), _read_signers(vendor_keys), follows_test_clock=True
                )
                await self._fleet.start(self.svms.values())
            case ["cut", svm_id]:
                await self._joined.cut([self._svm(svm_id)])
            case ["back", svm_id]:
                await self._joined.start([self._svm(svm_id)])
            case _:
                raise ValueError(f"no command: {' '.join(words)}")
        return "done"

    async def end(self) -> None:
        """Stop every agent in good order."""
        if self._fleet is not None:
            await self._fleet.stop(self.svms.values())

    @property
    def _joined(self) -> SimulatedFleet:
        if self._fleet is None:
            raise ValueError("the fleet has not joined a server")
        return self._fleet

    def _svm(self, svm_id: str) -> SimulatedSvm:
        return self.svms[svm_id]


def _read_signers(path: str) -> TrustedSigners:
    return TrustedSigners.from_text(json.loads(Path(path).read_text()))


async def _run() -> None:
    stop = stop_requested()
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    fleet = Fleet()
    announce(PROGRAM, {"svms": len(fleet.svms)})
    following = asyncio.create_task(_follow_commands(fleet, commands))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        following.cancel()
        stopping.cancel()
        await fleet.end()


async def _follow_commands(fleet: Fleet, commands: asyncio.StreamReader) -> None:
    while line := await commands.readline():
        try:
            answer = await fleet.follow(line.decode().split())
        except Exception as error:  # noqa: BLE001 - whoever asked shall know
            answer = f"failed: {error}"
        print(answer, flush=True)


def main() -> int:
    """Run the program; return its exit code."""
    configure_logs(PROGRAM)
    return run_program(PROGRAM, _run)


if __name__ == "__main__":
    sys.exit(main())
