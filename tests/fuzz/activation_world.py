"""The fake activation server with codes, keys and subscriptions in its catalogue."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from fuzz.keys_of_vendor import NOW
from fuzz.watches import FileWatch
from fuzz.worlds import CODES, TRANSPORT, define_code
from sparekey.activation.control.v1 import control_pb2, control_pb2_grpc
from sparekey.activation.fake.data_folder import CATALOGUE
from sparekey.activation.fake.server import ACTIVATION, CONTROL, FakeActivation
from sparekey.activation.v1 import activation_pb2, activation_pb2_grpc
from sparekey.runtime.clock import SettableClock
from sparekey.v1 import key_pb2

SERVICES = [ACTIVATION, CONTROL]
_INSTALLATION = "installation-1"
_FULL_BYTES = 60_000
"""The catalogue is written whole at each change; a larger one is emptied to go on fast."""


class ActivationWorld:
    """The fake activation server.

    Args:
        folder: For its data.
        randomness: Seeded.
    """

    def __init__(self, folder: Path, randomness: random.Random) -> None:
        self.known: dict[str, Sequence[Any]] = {
            "installation_id": [_INSTALLATION, "installation-2"],
            "method": ["RedeemCode", "RenewKey", "CheckKeys", "GetSubscription"],
            "provider_url": ["https://provider.example"],
            # A subscription's key may have every property.
            "sparekey.activation.control.v1.KeyProperties.kind": [
                *(key_pb2.KEY_KIND_SUBSCRIPTION,) * 4,
                *(key_pb2.KEY_KIND_COMMERCIAL, key_pb2.KEY_KIND_TRIAL),
            ],
        }
        self._folder = folder
        self._random = randomness
        self._filled: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        data = self._folder / "fake"
        self._fake = await FakeActivation().start(
            data=data,
            clock=SettableClock(NOW),
            randomness=random.Random(self._random.random()),
        )
        self._path = data / CATALOGUE
        self.watch = FileWatch(self._path)
        self._control_channel = grpc.aio.insecure_channel(
            str(self._fake.control_address), TRANSPORT
        )
        self._channel = grpc.aio.insecure_channel(str(self._fake.address), TRANSPORT)
        self._control: Any = control_pb2_grpc.ControlServiceStub(self._control_channel)
        self._activation: Any = activation_pb2_grpc.ActivationServiceStub(self._channel)
        await self._seed()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        await self._control_channel.close()
        await self._fake.stop()

    def channel(self, method: str) -> grpc.aio.Channel:
        """Of the service that has the method."""
        return self._channel if method in ACTIVATION.methods_by_name else self._control_channel

    async def rest(self) -> None:
        """Nothing goes on by itself here."""

    def compose(self, _svm_id: str) -> None:
        """No agent connects here."""

    async def refill(self) -> None:
        """Begin with a small catalogue again where it was emptied or has grown."""
        if self._filled == self.watch.changes():
            return
        size = self._path.stat().st_size
        if not self._least_bytes <= size <= _FULL_BYTES:
            await self._seed()
        self._filled = dict(self.watch.changes())

    async def _seed(self) -> None:
        await self._control.Reset(control_pb2.ResetRequest())
        now = Timestamp(seconds=int(NOW.timestamp()))
        await self._control.SetClock(control_pb2.SetClockRequest(time=now))
        for number, code in enumerate(CODES):
            await self._control.DefineCode(define_code(code, number))
        serials = []
        for number, code in enumerate(CODES[:4]):
            request = activation_pb2.RedeemCodeRequest(code=code, installation_id=_INSTALLATION)
            await self._activation.RedeemCode(request)
            properties = define_code(code, number).key
            issued = await self._control.IssueKey(control_pb2.IssueKeyRequest(key=properties))
            serials.append(issued.serial)
        listed = await self._control.ListCalls(control_pb2.ListCallsRequest())
        redeemed = [serial for call in listed.calls for serial in call.serials]
        subscriptions = [serial for number, serial in enumerate(serials) if number % 2]
        self.known |= {
            "code": [*CODES, "TEST0-FUZZ0-UNKNO-WN000"],
            "serial": [*serials, *redeemed, *redeemed],
            "serials": [*serials, *redeemed],
            "sparekey.activation.v1.Subscription.serial": [*subscriptions, *redeemed],
        }
        self._least_bytes = self._path.stat().st_size // 2
