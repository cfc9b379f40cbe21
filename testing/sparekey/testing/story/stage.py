"""The stage: the real programs of the story, started, steered and stopped in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from sparekey.activation.control.v1 import control_pb2, control_pb2_grpc
from sparekey.cli.connection import Connection
from sparekey.runtime.startup import parse_address
from sparekey.testing.fleet.processes import (
    Program,
    ProgramFailed,
    start_fake_activation,
    start_server,
)
from sparekey.testing.fleet.steered import SteeredFleet
from sparekey.testing.story.cast import START, SVMS
from sparekey.testing.story.failures import StoryFailed
from sparekey.testing.v1 import clock_pb2
from sparekey.wire.timestamps import to_timestamp

_SEED = "57"
"""The fake draws serials from it, so that each run of the story has the same."""

_CALL_PATIENCE = timedelta(seconds=30)


class Stage:
    """The running programs, and the ways to them.

    Attributes:
        activation: The fake activation server.
        server: The license server.
        fleet: The process with the agents.
        connection: The operator's way to the license server.
        control: The vendor's desk: scripts the fake activation server.
    """

    def __init__(
        self, activation: Program, server: Program, fleet: SteeredFleet, control: Any
    ) -> None:
        self.activation = activation
        self.server = server
        self.fleet = fleet
        self.connection = Connection(server.address, _CALL_PATIENCE)
        self.control = control

    def set_clock(self, instant: datetime) -> None:
        """Move the time of the whole stage; returns when all that is due has been done."""
        time = to_timestamp(instant)
        self.control.SetClock(
            control_pb2.SetClockRequest(time=time), timeout=_CALL_PATIENCE.total_seconds()
        )
        self.connection.call(self.connection.clock.SetClock, clock_pb2.SetClockRequest(time=time))

    def check(self) -> None:
        """Look whether all programs still run.

        Raises:
            StoryFailed: one has ended.
        """
        for program in (self.activation, self.server, self.fleet.program):
            if (code := program.process.poll()) is not None:
                raise StoryFailed(
                    f"{program.name} has ended with the exit code {code}; see {program.log}"
                )


@contextmanager
def set_up(folder: Path, ready: Callable[[str, str], None]) -> Iterator[Stage]:
    """Start the programs; stop them at the end: the fleet first, then the servers.

    Args:
        folder: Where they keep their files.
        ready: Is told of each program that is ready, and where.

    Raises:
        StoryFailed: one does not start.
    """
    with ExitStack() as programs:
        try:
            # It loads while the others start.
            fleet = _launch_fleet(folder)
            programs.callback(fleet.stop)
            activation = start_fake_activation(folder / "activation", "--seed", _SEED)
            programs.callback(activation.stop)
            ready("activation server", f"{activation.address}, a fake that grants what we script")
            vendor_keys = Path(activation.facts["vendor_keys"])
            server = start_server(
                folder / "server",
                vendor_keys,
                *("--activation-server", str(activation.address)),
                *("--test-clock", START.isoformat()),
            )
            programs.callback(server.stop)
            ready("license server", f"{server.address}, with an embedded database")
            # Once more, so that the agents leave before their server does.
            programs.callback(fleet.stop)
            control = programs.enter_context(
                grpc.insecure_channel(str(parse_address(activation.facts["control"])))
            )
            stage = Stage(activation, server, fleet, control_pb2_grpc.ControlServiceStub(control))
            programs.callback(stage.connection.close)
            stage.set_clock(START)
            fleet.join(server.address, vendor_keys)
            ready("fleet", f"{len(SVMS)} agents, all connected")
        except ProgramFailed as failed:
            raise StoryFailed(_one_sentence(failed)) from None
        yield stage


def _launch_fleet(folder: Path) -> SteeredFleet:
    cast = folder / "cast.json"
    cast.write_text(
        json.dumps(
            [
                {
                    "svm_id": one.svm_id,
                    "cluster": one.cluster,
                    "servers": one.servers,
                    "desktops": one.desktops,
                    "processors": one.processors,
                    "cores": one.cores,
                }
                for one in SVMS
            ]
        )
    )
    return SteeredFleet(["--cast", str(cast), "--quick", "--test-clock"], log=folder / "fleet.log")


def _one_sentence(failed: ProgramFailed) -> str:
    lines = [line.strip() for line in str(failed).splitlines() if line.strip()]
    return lines[0] if len(lines) == 1 else f"{lines[0].rstrip(':')}: {lines[-1]}"
