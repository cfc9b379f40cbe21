"""The closed set of errors, and what of each a client gets to see."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.v1 import error_pb2, key_pb2, key_pb2_grpc
from sparekey.v1.error_pb2 import ErrorReason
from sparekey.wire.errors import (
    DETAILS_KEY,
    DOMAIN,
    STATUS_CODES,
    CallProblem,
    CallRefused,
    FieldViolation,
    read_problem,
)

Serve = Callable[[ServiceDescriptor, object], Awaitable[grpc.aio.Channel]]
KEY_SERVICE = key_pb2.DESCRIPTOR.services_by_name["KeyService"]
REASONS = [reason for reason in ErrorReason.values() if reason]
REQUEST = key_pb2.GetKeyRequest(serial="0000-000000-00000000")


class Refusing:
    """A key service that refuses every call in the way that it was told."""

    def __init__(self, refusal: CallRefused) -> None:
        self.refusal = refusal

    async def get_key(self, _request: Any, _call: Any) -> Any:
        raise self.refusal

    add_key = list_keys = delete_key = refresh_keys = get_key


async def problem_of(channel: grpc.aio.Channel) -> CallProblem:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await key_pb2_grpc.KeyServiceStub(channel).GetKey(REQUEST)
    return read_problem(caught.value)


def test_every_reason_has_a_status_code_and_none_is_a_success() -> None:
    assert sorted(STATUS_CODES) == sorted(REASONS)
    assert grpc.StatusCode.OK not in STATUS_CODES.values()
    assert grpc.StatusCode.UNKNOWN not in STATUS_CODES.values()


def test_only_what_passes_by_itself_is_unavailable() -> None:
    assert {r for r, code in STATUS_CODES.items() if code is grpc.StatusCode.UNAVAILABLE} == {
        error_pb2.ERROR_REASON_ACTIVATION_SERVER_UNAVAILABLE,
        error_pb2.ERROR_REASON_SHUTTING_DOWN,
        error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE,
    }


async def test_every_reason_reaches_the_client_with_its_status(served: Serve) -> None:
    servicer = Refusing(CallRefused(error_pb2.ERROR_REASON_INTERNAL, ""))
    channel = await served(KEY_SERVICE, servicer)
    for reason in REASONS:
        servicer.refusal = CallRefused(reason, "no; do something else")
        problem = await problem_of(channel)
        assert problem.code is STATUS_CODES[reason]
        assert problem.reason == ErrorReason.Name(reason).removeprefix("ERROR_REASON_")
        assert problem.message == "no; do something else"


async def test_violations_metadata_and_the_wait_reach_the_client(served: Serve) -> None:
    refusal = CallRefused(
        error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE,
        "the disk is full: make room — then try again",
        violations=[FieldViolation("key.serial", "is odd"), FieldViolation("scope", "is required")],
        metadata={"free_bytes": "0", "folder": "/var/lib/größe"},
        retry_after=timedelta(seconds=2, milliseconds=500),
    )
    problem = await problem_of(await served(KEY_SERVICE, Refusing(refusal)))
    assert problem == CallProblem(
        code=grpc.StatusCode.UNAVAILABLE,
        message=refusal.message,
        reason="STORAGE_UNAVAILABLE",
        violations=refusal.violations,
        metadata=refusal.metadata,
        retry_after=refusal.retry_after,
    )


async def test_where_waiting_does_not_help_no_wait_is_told(served: Serve) -> None:
    refusal = CallRefused(error_pb2.ERROR_REASON_KEY_NOT_FOUND, "no key")
    problem = await problem_of(await served(KEY_SERVICE, Refusing(refusal)))
    assert problem.retry_after is None
    assert problem.violations == ()


def test_details_come_in_one_order_with_our_domain() -> None:
    status = CallRefused(
        error_pb2.ERROR_REASON_INVALID_FIELD,
        "x",
        violations=[FieldViolation("a", "is required")],
        retry_after=timedelta(0),
    ).to_status()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == DOMAIN
    assert [detail.TypeName() for detail in status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "google.rpc.RetryInfo",
    ]


async def test_thousands_of_violations_still_reach_the_client(served: Serve) -> None:
    """Trailing metadata has a limit in every gRPC stack: past it the whole status is lost."""
    found = [FieldViolation(f"faults[{index}].kind", "is required") for index in range(5000)]
    refusal = CallRefused(
        error_pb2.ERROR_REASON_INVALID_FIELD,
        "; ".join(f"{violation.field} {violation.problem}" for violation in found),
        violations=found,
    )
    problem = await problem_of(await served(KEY_SERVICE, Refusing(refusal)))
    assert problem.code is grpc.StatusCode.INVALID_ARGUMENT
    assert problem.reason == "INVALID_FIELD"
    assert problem.violations[0] == found[0]
    assert len(problem.violations) > 10
    assert problem.metadata == {"violation_count": "5000"}


@given(
    message=st.text(max_size=3000),
    field=st.text(max_size=600),
    count=st.integers(0, 300),
    value=st.text(max_size=1000),
)
@settings(max_examples=50)
def test_an_error_stays_below_what_every_grpc_stack_takes(
    message: str, field: str, count: int, value: str
) -> None:
    status = CallRefused(
        error_pb2.ERROR_REASON_INVALID_FIELD,
        message,
        violations=[FieldViolation(field, "is required")] * count,
        metadata={"value": value},
    ).to_status()
    encoded = base64.b64encode(status.SerializeToString())
    assert len(encoded) + len(quote(status.message)) < 8192 - 500


def test_what_fits_is_sent_whole() -> None:
    refusal = CallRefused(
        error_pb2.ERROR_REASON_INVALID_FIELD,
        "é" * 400,
        violations=[FieldViolation(f"picked.svm_ids[{n}]", "is required") for n in range(20)],
    )
    status = refusal.to_status()
    assert status.message == refusal.message
    bad_request = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad_request)
    assert len(bad_request.field_violations) == 20


class Failed(grpc.RpcError):
    """A failed call as a stack or a proxy of another make would hand it over."""

    def __init__(self, details: bytes | str | None) -> None:
        super().__init__()
        self.trailing = () if details is None else ((DETAILS_KEY, details),)

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "failed to connect"

    def trailing_metadata(self) -> Any:
        return self.trailing


def packed(*messages: Any) -> bytes:
    status = status_pb2.Status(code=14, message="failed to connect")
    for message in messages:
        status.details.append(any_pb2.Any())
        status.details[-1].Pack(message)
    encoded: bytes = status.SerializeToString()
    return encoded


BARE = CallProblem(grpc.StatusCode.UNAVAILABLE, "failed to connect")


@pytest.mark.parametrize("details", [None, b"\xff\xff", "text", b"\x00"])
def test_an_error_without_details_of_ours_is_read_by_its_status(
    details: bytes | str | None,
) -> None:
    assert read_problem(Failed(details)) == BARE


def test_a_reason_of_another_domain_is_not_taken_for_ours() -> None:
    foreign = error_details_pb2.ErrorInfo(reason="KEY_NOT_FOUND", domain="proxy.example")
    assert read_problem(Failed(packed(foreign))).reason == ""


def test_a_damaged_detail_does_not_hide_the_status() -> None:
    status = status_pb2.Status(code=14)
    status.details.append(
        any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    )
    assert read_problem(Failed(status.SerializeToString())).code is grpc.StatusCode.UNAVAILABLE


def test_a_wait_beyond_all_measure_is_no_fault_of_the_reader() -> None:
    endless = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2**62))
    assert read_problem(Failed(packed(endless))).code is grpc.StatusCode.UNAVAILABLE


def test_an_error_that_says_nothing_is_unknown() -> None:
    assert read_problem(grpc.RpcError()) == CallProblem(grpc.StatusCode.UNKNOWN, "")
