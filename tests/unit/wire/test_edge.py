"""What leaves the edge as single answers, over a real socket: answers, refusals, no fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from sparekey.v1 import key_pb2, key_pb2_grpc
from sparekey.wire import edge
from sparekey.wire.callers import LOCAL_OPERATOR
from sparekey.wire.edge import MAX_REQUEST_BYTES, Call, bind, method_name, shutting_down
from sparekey.wire.errors import CallProblem, read_problem

Serve = Callable[[ServiceDescriptor, object], Awaitable[grpc.aio.Channel]]
KEY_SERVICE = key_pb2.DESCRIPTOR.services_by_name["KeyService"]
GET_KEY = "/sparekey.v1.KeyService/GetKey"
SERIAL = "4A3F-00B2C1-9D8E7F66"
SECRET = "TEST0-ABCDE-12345-ZZ9ZZ"


class Keys:
    """A key service that answers with what `answer` makes of the request."""

    def __init__(self, answer: Callable[[Any, Call], Any]) -> None:
        self.answer = answer

    async def get_key(self, request: Any, call: Call) -> Any:
        return self.answer(request, call)

    add_key = list_keys = delete_key = refresh_keys = get_key


def raising(error: BaseException) -> Callable[[Any, Call], Any]:
    def answer(_request: Any, _call: Call) -> Any:
        raise error

    return answer


async def raw_problem(channel: grpc.aio.Channel, encoded: bytes) -> CallProblem:
    """What a client gets that sends any bytes for GetKey."""
    call: Any = channel.unary_unary(GET_KEY)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(encoded)
    return read_problem(caught.value)


async def get_key_error(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await key_pb2_grpc.KeyServiceStub(channel).GetKey(key_pb2.GetKeyRequest(serial=SERIAL))
    return caught.value


@pytest.mark.parametrize(
    ("rpc", "name"), [("AddKey", "add_key"), ("Renew", "renew"), ("ListSvms", "list_svms")]
)
def test_an_rpc_has_its_servicers_name_in_snake_case(rpc: str, name: str) -> None:
    assert method_name(rpc) == name


def test_a_servicer_that_lacks_an_rpc_cannot_be_bound() -> None:
    class Half:
        async def add_key(self) -> None: ...

    with pytest.raises(TypeError, match="Half has no get_key"):
        bind(KEY_SERVICE, Half())


async def test_the_servicer_gets_the_request_and_learns_of_its_call(served: Serve) -> None:
    calls: list[Call] = []

    def answer(request: Any, call: Call) -> Message:
        calls.append(call)
        return key_pb2.GetKeyResponse(key=key_pb2.Key(serial=request.serial))

    channel = await served(KEY_SERVICE, Keys(answer))
    request = key_pb2.GetKeyRequest(serial=SERIAL)
    response = await key_pb2_grpc.KeyServiceStub(channel).GetKey(request)
    assert response.key.serial == SERIAL
    (call,) = calls
    assert call.method == GET_KEY
    assert call.actor == LOCAL_OPERATOR
    assert call.encoded == request.SerializeToString()


@pytest.mark.parametrize("encoded", [b"\xff", b"\x0a\x7f", b"\x0a\x02\xc3\x28"])
async def test_undecodable_bytes(served: Serve, encoded: bytes) -> None:
    channel = await served(KEY_SERVICE, Keys(raising(AssertionError("must not be called"))))
    problem = await raw_problem(channel, encoded)
    assert problem.code is grpc.StatusCode.INVALID_ARGUMENT
    assert problem.reason == "UNDECODABLE_MESSAGE"
    assert "sparekey.v1.GetKeyRequest" in problem.message


async def test_a_message_over_the_limit_is_refused_with_the_limit(served: Serve) -> None:
    channel = await served(KEY_SERVICE, Keys(raising(AssertionError("must not be called"))))
    problem = await raw_problem(channel, b"\x00" * (MAX_REQUEST_BYTES + 1))
    assert problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert problem.reason == "MESSAGE_TOO_LARGE"
    assert problem.metadata == {"limit": str(MAX_REQUEST_BYTES)}


async def test_a_message_far_over_the_limit_is_stopped_by_the_transport(served: Serve) -> None:
    channel = await served(KEY_SERVICE, Keys(raising(AssertionError("must not be called"))))
    problem = await raw_problem(channel, b"\x00" * (5 * 1024 * 1024))
    assert problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_at_the_limit_is_read(served: Serve) -> None:
    got: list[int] = []

    def answer(request: Any, _call: Call) -> Message:
        got.append(request.ByteSize())
        return key_pb2.AddKeyResponse()

    channel = await served(KEY_SERVICE, Keys(answer))
    request = key_pb2.AddKeyRequest(key_file=b"x" * (MAX_REQUEST_BYTES - 4))
    assert request.ByteSize() == MAX_REQUEST_BYTES
    await key_pb2_grpc.KeyServiceStub(channel).AddKey(request)
    assert got == [MAX_REQUEST_BYTES]


class SlowKeys:
    """A key service that answers when it is let on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.let_on = asyncio.Event()

    async def get_key(self, request: Any, _call: Call) -> Message:
        self.reached.set()
        await self.let_on.wait()
        return key_pb2.GetKeyResponse()

    add_key = list_keys = delete_key = refresh_keys = get_key


async def test_a_call_without_a_deadline_gets_one(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "DEFAULT_DEADLINE_SECONDS", 0.05)
    slow = SlowKeys()
    keys: Any = key_pb2_grpc.KeyServiceStub(await served(KEY_SERVICE, slow))
    request = key_pb2.GetKeyRequest(serial=SERIAL)
    async with asyncio.timeout(10):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await keys.GetKey(request)
    problem = read_problem(caught.value)
    assert (problem.reason, problem.code) == (
        "LIMIT_EXCEEDED",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    assert "set a later deadline" in problem.message
    # One that has its own is held to that one alone.
    slow.reached.clear()
    own = asyncio.ensure_future(keys.GetKey(request, timeout=60))
    await slow.reached.wait()
    await asyncio.sleep(0.2)
    slow.let_on.set()
    assert await own == key_pb2.GetKeyResponse()


async def test_every_violation_is_reported_and_the_servicer_not_called(served: Serve) -> None:
    channel = await served(KEY_SERVICE, Keys(raising(AssertionError("must not be called"))))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await key_pb2_grpc.KeyServiceStub(channel).DeleteKey(
            key_pb2.DeleteKeyRequest(request_id=" ")
        )
    problem = read_problem(caught.value)
    assert problem.reason == "INVALID_FIELD"
    assert [violation.field for violation in problem.violations] == ["serial", "request_id"]
    assert "serial is required; request_id must be" in problem.message


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"the code {SECRET} is odd"),
        KeyError(SECRET),
        ExceptionGroup("several", [ValueError(SECRET)]),
        RecursionError(SECRET),
    ],
)
async def test_of_a_fault_only_an_id_leaves(
    served: Serve, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = await get_key_error(await served(KEY_SERVICE, Keys(raising(error))))
    problem = read_problem(failed)
    assert problem.code is grpc.StatusCode.INTERNAL
    assert problem.reason == "INTERNAL"
    assert problem.metadata is not None
    fault_id = problem.metadata["fault_id"]
    assert len(fault_id) == 12
    on_the_wire = f"{failed.details()} {list(failed.trailing_metadata())}"
    for inside in (SECRET, "ZZ9ZZ", type(error).__name__, "Traceback", "test_edge", "raise "):
        assert inside not in on_the_wire
    logged = capsys.readouterr()
    assert fault_id in logged.out + logged.err


@pytest.mark.parametrize("answer", [None, key_pb2.ListKeysResponse(), "text"])
async def test_an_answer_of_the_wrong_kind_is_a_fault_like_any_other(
    served: Serve, answer: Any
) -> None:
    channel = await served(KEY_SERVICE, Keys(lambda _request, _call: answer))
    failed = await get_key_error(channel)
    assert read_problem(failed).reason == "INTERNAL"
    assert "SerializeToString" not in str(failed.details())


async def test_a_service_goes_on_after_a_fault(served: Serve) -> None:
    servicer = Keys(raising(ValueError()))
    channel = await served(KEY_SERVICE, servicer)
    await get_key_error(channel)
    servicer.answer = lambda _request, _call: key_pb2.GetKeyResponse()
    await key_pb2_grpc.KeyServiceStub(channel).GetKey(key_pb2.GetKeyRequest(serial=SERIAL))


async def test_calls_that_come_while_the_server_stops_are_told_to_try_again(served: Serve) -> None:
    channel = await served(KEY_SERVICE, Keys(raising(shutting_down())))
    problem = read_problem(await get_key_error(channel))
    assert problem.code is grpc.StatusCode.UNAVAILABLE
    assert problem.reason == "SHUTTING_DOWN"
