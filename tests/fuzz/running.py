"""All that is fuzzed, by name, each in a world of its own."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor

from fuzz import access_world, activation_world, worlds
from fuzz.access_world import AccessWorld
from fuzz.activation_world import ActivationWorld
from fuzz.faults_told import faults_told
from fuzz.files import FILES
from fuzz.fuzzing import Fuzzing, Tried
from fuzz.worlds import LicenseWorld, World
from sparekey.runtime.startup import run_program

UNTAKEN: Mapping[str, str] = {}
"""Targets that need take hardly any of their structured inputs, each with the reason."""

METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for service in (*worlds.SERVICES, *access_world.SERVICES, *activation_world.SERVICES)
    for method in service.methods
}
"""Every RPC of the license server and of the fake activation server."""

# Commits to disk are not what is tried here: in memory they cost next to nothing.
_MEMORY = Path("/dev/shm")


def targets() -> list[str]:
    """All that is fuzzed."""
    return [*METHODS, *FILES]


def fuzz_target(name: str, inputs: int, seed: int) -> Tried:
    """Give one target so many structured inputs and as many mutations.

    Raises:
        Broken: something does not hold.
    """
    if name in FILES:
        return FILES[name](random.Random(f"{seed}{name}"), inputs)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    tried: list[Tried] = []

    async def run() -> None:
        tried.extend(await fuzz_methods([name], inputs, seed, writer_process=True))

    # On the loop on which servers run.
    run_program("fuzz", run)
    return tried[0]


async def fuzz_methods(
    names: Sequence[str], inputs: int, seed: int, *, writer_process: bool = False
) -> list[Tried]:
    """Give the RPCs of one service, in one server, so many structured inputs and mutations each.

    Args:
        names: The RPCs.
        inputs: How many inputs of each kind.
        seed: The same seed makes the same inputs, but for ids that servers draw.
        writer_process: Whether the server writes in a process of its own, as the program does;
            it takes a second to start.

    Raises:
        Broken: something does not hold.
    """
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    # Not below a test run's folder: secrets are put into names on purpose.
    with (
        tempfile.TemporaryDirectory(prefix="sparekey-fuzz-", dir=memory) as folder,
        faults_told() as told,
    ):
        make_world = world_of(METHODS[names[0]], writer_process=writer_process)
        async with make_world(Path(folder), random.Random(seed)) as world:
            return [
                await Fuzzing(world, METHODS[name], seed, told).run(inputs, inputs)
                for name in names
            ]


def world_of(
    method: MethodDescriptor, *, writer_process: bool
) -> Callable[[Path, random.Random], World]:
    """What makes a server that offers an RPC."""
    service = method.containing_service
    assert service is not None
    if service in access_world.SERVICES:
        return partial(AccessWorld, writer_process=writer_process)
    if service in activation_world.SERVICES:
        return ActivationWorld
    return partial(
        LicenseWorld,
        # An SVM that is connected cannot be forgotten; one that does not answer holds up a clock.
        holds_stream=service.name == "FleetService",
        moves_clock=service.name == "ClockService",
        writer_process=writer_process,
    )
