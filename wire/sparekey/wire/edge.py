"""The edge between gRPC and a service: decode, check, call, encode, and turn refusals into status.

A servicer is a plain object with one coroutine for each RPC, in snake case,
which takes the request and a `Call`; a server stream is an async generator,
and a two-way stream takes a `Stream` in place of the request. The edge binds it to
its service descriptor at registration, so no interceptor runs at each call.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from sparekey.v1 import error_pb2
from sparekey.wire.callers import Caller, Gate, OpenGate
from sparekey.wire.errors import DETAILS_KEY, CallRefused, invalid_fields
from sparekey.wire.field_rules import violations

MAX_REQUEST_BYTES = 64 * 1024
"""A larger request is refused with MESSAGE_TOO_LARGE, but for those of `REQUEST_BYTES`."""

REQUEST_BYTES: Mapping[str, int] = {
    # Thousands of picked SVMs.
    "sparekey.v1.ActivateRequest": 1024 * 1024,
    "sparekey.v1.RenewRequest": 1024 * 1024,
    # A full report with all its guests and every change that was not told yet.
    "sparekey.v1.ConnectRequest": 1024 * 1024,
    # It comes from anyone.
    "sparekey.v1.EnrollRequest": 16 * 1024,
}
"""The most bytes of requests with another limit, by their full name."""

DEFAULT_DEADLINE_SECONDS = 120.0
"""The deadline of a call that is answered once and whose client set none."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Call:
    """What a servicer may know of a call besides its request.

    Attributes:
        method: The full name, for example `/sparekey.v1.KeyService/AddKey`.
        caller: Who calls.
        encoded: The request's own bytes; they tell a retry from another request.
        context: The gRPC context, for the streams that need it.
    """

    method: str
    caller: Caller
    encoded: bytes
    context: grpc.aio.ServicerContext[Any, Any]

    @property
    def actor(self) -> str:
        """Who calls, for the history."""
        return self.caller.name


class Stream:
    """A two-way stream: frames are read one by one, and written from any task.

    One coroutine for each stream keeps thousands of idle streams small.
    """

    __slots__ = ("_context", "_request_class", "_response_class")

    def __init__(
        self,
        request_class: type[Message],
        response_class: type[Message],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        self._request_class = request_class
        self._response_class = response_class
        self._context = context

    async def read(self) -> Message | None:
        """The next frame, or None when the client has sent its last.

        Raises:
            CallRefused: the frame is too large or cannot be decoded.
        """
        return self.decode(await self.receive())

    def receive(self) -> Awaitable[Any]:
        """As `read`, for frames by the thousand: what comes is for `decode`."""
        return self._context.read()

    def decode(self, received: Any) -> Message | None:
        """What was received, as `read` says."""
        if received is grpc.aio.EOF:
            return None
        return _decode(self._request_class, received)

    async def write(self, response: Message) -> None:
        """Hand one frame to the transport."""
        await self._context.write(_encode(self._response_class, response))


def method_name(rpc: str) -> str:
    """The servicer's name for an RPC: `AddKey` is `add_key`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()


def bind(
    service: ServiceDescriptor, servicer: object, gate: Gate | None = None
) -> grpc.GenericRpcHandler:
    """Bind a servicer to its service.

    Args:
        service: The service.
        servicer: What serves it.
        gate: Who lets callers in; without one every caller is the local operator.

    Raises:
        TypeError: the servicer lacks an RPC of the service.
    """
    gate = gate or OpenGate()
    handlers = {}
    for method in service.methods:
        implementation = getattr(servicer, method_name(method.name), None)
        if implementation is None:
            raise TypeError(f"{type(servicer).__name__} has no {method_name(method.name)}")
        handlers[method.name] = _handler(service, method, implementation, gate)
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    service: ServiceDescriptor, method: MethodDescriptor, implementation: Any, gate: Gate
) -> grpc.RpcMethodHandler[Any, Any]:
    name = f"/{service.full_name}/{method.name}"
    request_class = GetMessageClass(method.input_type)
    response_class = GetMessageClass(method.output_type)
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _stream(name, request_class, response_class, implementation, gate)
        )
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _server_stream(name, request_class, response_class, implementation, gate)
        )
    return grpc.unary_unary_rpc_method_handler(
        _unary(name, request_class, response_class, implementation, gate)
    )


def _decode(request_class: type[Message], encoded: bytes) -> Message:
    # Which limit it is costs a look-up, so it is asked of large ones only.
    if len(encoded) > _SMALLEST_LIMIT:
        _refuse_too_large(request_class, len(encoded))
    try:
        return request_class.FromString(encoded)
    except DecodeError:
        raise CallRefused(
            error_pb2.ERROR_REASON_UNDECODABLE_MESSAGE,
            f"the message is not a {request_class.DESCRIPTOR.full_name}; generate the client"
            " anew from the server's .proto files",
        ) from None


_SMALLEST_LIMIT = min(MAX_REQUEST_BYTES, *REQUEST_BYTES.values())


def _refuse_too_large(request_class: type[Message], size: int) -> None:
    most = REQUEST_BYTES.get(request_class.DESCRIPTOR.full_name, MAX_REQUEST_BYTES)
    if size > most:
        raise CallRefused(
            error_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
            f"the message has {size} bytes; at most {most} are accepted, so split the request",
            metadata={"limit": str(most)},
        )


def _encode(response_class: type[Message], response: Message) -> bytes:
    # gRPC would serialize any message, and tell the client of a serializer's fault.
    if not isinstance(response, response_class):
        raise TypeError(
            f"the answer is a {type(response).__name__}, not a {response_class.__name__}"
        )
    return response.SerializeToString()


def _read(request_class: type[Message], encoded: bytes) -> Message:
    request = _decode(request_class, encoded)
    found = violations(request)
    if found:
        raise invalid_fields(found)
    return request


def _unary(
    name: str,
    request_class: type[Message],
    response_class: type[Message],
    implementation: Callable[..., Awaitable[Message]],
    gate: Gate,
) -> Callable[..., Awaitable[bytes]]:
    async def handle(encoded: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        deadline: asyncio.Timeout | None = None
        try:
            # Who is not let in does not cost the reading of what it sent.
            caller = gate.admit(name, context, len(encoded))
            async with gate.turn(caller):
                request = _read(request_class, encoded)
                answering = implementation(request, Call(name, caller, encoded, context))
                if context.time_remaining() is None:
                    async with asyncio.timeout(DEFAULT_DEADLINE_SECONDS) as deadline:
                        return _encode(response_class, await answering)
                return _encode(response_class, await answering)
        except TimeoutError as error:
            # One that is not ours is a fault of the servicer.
            late = deadline is not None and deadline.expired()
            await _abort(name, context, _too_late() if late else error, gate)
            raise AssertionError("abort raises") from error
        except Exception as error:
            await _abort(name, context, error, gate)
            raise AssertionError("abort raises") from error

    return handle


def _server_stream(
    name: str,
    request_class: type[Message],
    response_class: type[Message],
    implementation: Callable[..., AsyncIterator[Message]],
    gate: Gate,
) -> Callable[..., AsyncIterator[bytes]]:
    async def handle(
        encoded: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        try:
            caller = gate.admit(name, context, len(encoded))
            request = _read(request_class, encoded)
            call = Call(name, caller, encoded, context)
            with gate.hold_stream(caller):
                async for response in implementation(request, call):
                    gate.admit_still(caller)
                    yield _encode(response_class, response)
        except Exception as error:  # noqa: BLE001 - no traceback may reach the wire
            await _abort(name, context, error, gate)

    return handle


def _stream(
    name: str,
    request_class: type[Message],
    response_class: type[Message],
    implementation: Callable[..., Awaitable[None]],
    gate: Gate,
) -> Callable[..., Awaitable[None]]:
    async def handle(_frames: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            caller = gate.admit(name, context, 0)
            call = Call(name, caller, b"", context)
            with gate.hold_stream(caller):
                await implementation(Stream(request_class, response_class, context), call)
        except Exception as error:  # noqa: BLE001 - no traceback may reach the wire
            await _abort(name, context, error, gate)

    return handle


async def _abort(
    name: str, context: grpc.aio.ServicerContext[Any, Any], error: Exception, gate: Gate
) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, CallRefused):
        refused = error
        if refused.status_code is not grpc.StatusCode.UNAVAILABLE:
            await gate.hold_refused(context)
    else:
        refused = _hide(name, error)
    status = refused.to_status()
    context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
    await context.abort(refused.status_code, status.message)


def _hide(name: str, error: Exception) -> CallRefused:
    """A fault's details go to the log; the wire gets an id by which to find them."""
    fault_id = secrets.token_hex(6)
    _log.error("a call failed by a fault of ours", rpc=name, fault_id=fault_id, exc_info=error)
    return CallRefused(
        error_pb2.ERROR_REASON_INTERNAL,
        f"the server failed; its log says more under fault {fault_id}",
        metadata={"fault_id": fault_id},
    )


def _too_late() -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_LIMIT_EXCEEDED,
        f"the call took longer than {DEFAULT_DEADLINE_SECONDS:g} seconds; set a later deadline",
    )


def shutting_down() -> CallRefused:
    """The refusal of calls that come while the server stops."""
    return CallRefused(
        error_pb2.ERROR_REASON_SHUTTING_DOWN, "the server is stopping; try again shortly"
    )
