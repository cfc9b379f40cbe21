"""FakeActivation inside a test's own process."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio
import pytest

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.control.v1.control_pb2_grpc import ControlServiceStub
from sparekey.activation.fake.server import FakeActivation
from sparekey.activation.v1 import activation_pb2
from sparekey.activation.v1.activation_pb2_grpc import ActivationServiceStub
from sparekey.runtime.clock import SettableClock
from sparekey.runtime.startup import Address, StartupRefused
from sparekey.wire.timestamps import from_timestamp, to_timestamp

MakeFake = Callable[[], FakeActivation]


@pytest.fixture
async def make_fake() -> AsyncIterator[Callable[[], FakeActivation]]:
    """Make a fake that is stopped at the end of the test."""
    made: list[FakeActivation] = []

    def make() -> FakeActivation:
        made.append(FakeActivation())
        return made[-1]

    yield make
    for fake in made:
        await fake.stop()


async def test_it_follows_the_clock_of_the_test_unless_it_is_told_to_stand(
    make_fake: MakeFake, tmp_path: Path, at: Callable[[float], datetime]
) -> None:
    clock = SettableClock(at(0))
    fake = await make_fake().start(data=tmp_path, clock=clock, randomness=Random(1))
    async with grpc.aio.insecure_channel(str(fake.control_address)) as channel:
        control: Any = ControlServiceStub(channel)

        async def now() -> datetime:
            return from_timestamp((await control.GetStatus(control_pb2.GetStatusRequest())).time)

        assert await now() == at(0)
        clock.set(at(1))
        assert await now() == at(1)
        await control.SetClock(control_pb2.SetClockRequest(time=to_timestamp(at(9))))
        clock.set(at(2))
        assert await now() == at(9)
        await control.SetClock(control_pb2.SetClockRequest())
        assert await now() == at(2)


async def test_it_can_be_stopped_and_started_again_with_what_it_knew(
    make_fake: MakeFake, tmp_path: Path, key: Callable[..., Any]
) -> None:
    fake = make_fake()
    await fake.stop()
    await fake.start(data=tmp_path)
    with pytest.raises(RuntimeError, match="runs already"):
        await fake.start(data=tmp_path)
    async with grpc.aio.insecure_channel(str(fake.control_address)) as channel:
        control: Any = ControlServiceStub(channel)
        request = control_pb2.DefineCodeRequest(code="TEST0-AAAAA-BBBBB-CCCCC", key=key())
        await control.DefineCode(request)
    address = fake.address
    await fake.stop()
    await fake.stop()
    await fake.start(address, data=tmp_path)
    assert fake.address == address
    assert fake.vendor_keys_path == tmp_path / "vendor-keys.json"
    async with grpc.aio.insecure_channel(str(address)) as channel:
        activation: Any = ActivationServiceStub(channel)
        answer = await activation.RedeemCode(
            activation_pb2.RedeemCodeRequest(code="TEST0-AAAAA-BBBBB-CCCCC", installation_id="here")
        )
        assert answer.verdict == activation_pb2.VERDICT_OK


async def test_what_does_not_start_holds_nothing(make_fake: MakeFake, tmp_path: Path) -> None:
    first = await make_fake().start(data=tmp_path / "first")
    second = make_fake()
    with pytest.raises(StartupRefused, match="taken"):
        await second.start(Address("127.0.0.1", 0), first.address, data=tmp_path / "second")
    with pytest.raises(StartupRefused, match="use a loopback address"):
        await second.start(Address("0.0.0.0", 0), data=tmp_path / "second")
    with pytest.raises(StartupRefused, match="another fake activation server"):
        await second.start(data=tmp_path / "first")
    await second.start(data=tmp_path / "second")


async def test_a_cut_connection_in_one_process_cuts_only_its_own(
    make_fake: MakeFake, tmp_path: Path, key: Callable[..., Any]
) -> None:
    fake = await make_fake().start(data=tmp_path)
    own_connection = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        grpc.aio.insecure_channel(str(fake.control_address)) as control_channel,
        grpc.aio.insecure_channel(str(fake.address), own_connection) as cut_channel,
        grpc.aio.insecure_channel(str(fake.address), own_connection) as other_channel,
    ):
        control: Any = ControlServiceStub(control_channel)
        cut: Any = ActivationServiceStub(cut_channel)
        other: Any = ActivationServiceStub(other_channel)
        code = "TEST0-AAAAA-BBBBB-CCCCC"
        await control.DefineCode(control_pb2.DefineCodeRequest(code=code, key=key()))
        request = activation_pb2.RedeemCodeRequest(code=code, installation_id="here")
        first = await other.RedeemCode(request, timeout=5)
        fault = control_pb2.Fault(kind=control_pb2.FAULT_KIND_CUT_CONNECTION, calls=1)
        await control.SetFaults(control_pb2.SetFaultsRequest(faults=[fault]))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await cut.RedeemCode(request, timeout=5)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await other.RedeemCode(request, timeout=5) == first
        calls = (await control.ListCalls(control_pb2.ListCallsRequest())).calls
        assert [call.verdict for call in calls] == [first.verdict] * 3


async def test_the_same_randomness_gives_the_same_serials(
    make_fake: MakeFake, tmp_path: Path, key: Callable[..., Any]
) -> None:
    serials = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        fake = await make_fake().start(data=tmp_path / name, randomness=Random(seed))
        async with grpc.aio.insecure_channel(str(fake.control_address)) as channel:
            control: Any = ControlServiceStub(channel)
            issued = await control.IssueKey(control_pb2.IssueKeyRequest(key=key()))
        serials.append(issued.serial)
    assert serials[0] == serials[1] != serials[2]
