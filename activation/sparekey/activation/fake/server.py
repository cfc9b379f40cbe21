"""The fake as an object: two servers, one state, started and stopped together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from random import Random, SystemRandom
from typing import Self

import grpc.aio
import structlog
from google.protobuf.descriptor import ServiceDescriptor

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.fake.activation_service import ActivationService
from sparekey.activation.fake.control_service import ControlService
from sparekey.activation.fake.data_folder import CATALOGUE, SIGNING_KEY, VENDOR_KEYS, held_folder
from sparekey.activation.fake.fake_clock import FakeClock
from sparekey.activation.fake.faults import chaos
from sparekey.activation.fake.signing import load_or_make_signing
from sparekey.activation.fake.state import FakeState
from sparekey.activation.v1 import activation_pb2
from sparekey.runtime.clock import Clock, SystemClock
from sparekey.runtime.startup import Address
from sparekey.wire.edge import bind
from sparekey.wire.serving import add_health_and_reflection, listen, make_server

ACTIVATION = activation_pb2.DESCRIPTOR.services_by_name["ActivationService"]
CONTROL = control_pb2.DESCRIPTOR.services_by_name["ControlService"]
_ANY_PORT = Address("127.0.0.1", 0)
_STOP_GRACE = 1.0
"""Seconds that calls under way get at the end; a delayed one may have minutes to go."""

_log = structlog.get_logger()


class FakeActivation:
    """A fake activation server in this process, for one event loop.

    Start it, use `address`, `control_address` and `vendor_keys_path`, stop it. After `stop` it
    can be started again, also with the same folder, and then knows what it knew.
    """

    address: Address
    """Where ActivationService listens, with the real port."""
    control_address: Address
    """Where ControlService listens, with the real port."""
    vendor_keys_path: Path
    """The JSON file of signer ids and base64 public keys that servers and agents pin."""

    def __init__(self) -> None:
        self._running: AsyncExitStack | None = None

    async def start(
        self,
        listen: Address = _ANY_PORT,
        control: Address = _ANY_PORT,
        *,
        data: Path,
        clock: Clock | None = None,
        randomness: Random | None = None,
        chaos_percent: int = 0,
    ) -> Self:
        """Start both servers; when this returns they answer.

        Args:
            listen: Where license servers ask; port 0 picks a free one. Loopback only.
            control: Where tests script the fake, likewise.
            data: The folder of the signing key, the public keys and the catalogue.
            clock: Where the time comes from while SetClock does not stop it; None for the
                machine's.
            randomness: Where serials and chaos come from; None for the system's.
            chaos_percent: The share of good calls that is UNAVAILABLE, 0 to 100.

        Raises:
            StartupRefused: a port is taken or off loopback, or the folder or a file in it cannot
                be used.
            RuntimeError: it runs already.
        """
        if self._running is not None:
            raise RuntimeError("the fake activation server runs already")
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(held_folder(data))
            state = FakeState(
                signing=load_or_make_signing(folder / SIGNING_KEY, folder / VENDOR_KEYS),
                clock=FakeClock(SystemClock() if clock is None else clock),
                randomness=SystemRandom() if randomness is None else randomness,
                catalogue_path=folder / CATALOGUE,
                faults=chaos(chaos_percent),
            )
            self.address = await _serve(stack, ACTIVATION, ActivationService(state), listen)
            self.control_address = await _serve(stack, CONTROL, ControlService(state), control)
            self.vendor_keys_path = folder / VENDOR_KEYS
            self._running = stack.pop_all()
        stands_at = state.catalogue.records.clock_stands_at
        _log.info(
            "started",
            codes=len(state.catalogue.records.codes),
            keys=len(state.catalogue.records.keys),
            clock="runs" if stands_at is None else f"stands at {stands_at.isoformat()}",
        )
        return self

    async def stop(self) -> None:
        """Stop both servers and let the folder go; nothing happens if it does not run."""
        running, self._running = self._running, None
        if running is not None:
            await running.aclose()


async def _serve(
    stack: AsyncExitStack, service: ServiceDescriptor, servicer: object, address: Address
) -> Address:
    server: grpc.aio.Server = make_server([bind(service, servicer)])
    stack.push_async_callback(server.stop, _STOP_GRACE)
    bound = listen(server, address)
    await add_health_and_reflection(server, [service.full_name])
    await server.start()
    return bound
