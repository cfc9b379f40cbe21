"""Every way in which a call can fail: one table from reason to status and sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from sparekey.v1 import error_pb2
from sparekey.v1.error_pb2 import ErrorReason
from sparekey.wire.timestamps import from_duration, to_duration

DOMAIN = "sparekey"
"""The domain of every ErrorInfo."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailing metadata that carries google.rpc.Status."""

# gRPC stacks give up on trailing metadata from 8 KiB on, and the client then
# sees nothing of the error; these keep the whole below that, encoded.
_MAX_MESSAGE_BYTES = 800
_MAX_VALUE_BYTES = 250
_MAX_VIOLATIONS_BYTES = 2000
_PREFIX = "ERROR_REASON_"
_Code = grpc.StatusCode

STATUS_CODES: Mapping[ErrorReason.ValueType, grpc.StatusCode] = {
    error_pb2.ERROR_REASON_INVALID_FIELD: _Code.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_UNDECODABLE_MESSAGE: _Code.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_MESSAGE_TOO_LARGE: _Code.RESOURCE_EXHAUSTED,
    error_pb2.ERROR_REASON_MALFORMED_ACTIVATION_CODE: _Code.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_INVALID_KEY_FILE: _Code.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_KEY_CONFLICT: _Code.ALREADY_EXISTS,
    error_pb2.ERROR_REASON_KEY_NOT_FOUND: _Code.NOT_FOUND,
    error_pb2.ERROR_REASON_KEY_BLOCKED: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_KEY_EXPIRED: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_KEY_IN_USE: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_SVM_NOT_FOUND: _Code.NOT_FOUND,
    error_pb2.ERROR_REASON_SVM_CONNECTED: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_SCOPE_EMPTY: _Code.NOT_FOUND,
    error_pb2.ERROR_REASON_TASK_NOT_FOUND: _Code.NOT_FOUND,
    error_pb2.ERROR_REASON_TASK_FINISHED: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_INVALID_PAGE_TOKEN: _Code.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_REQUEST_ID_REUSED: _Code.ALREADY_EXISTS,
    error_pb2.ERROR_REASON_ACTIVATION_SERVER_UNAVAILABLE: _Code.UNAVAILABLE,
    error_pb2.ERROR_REASON_CODE_NOT_FOUND: _Code.NOT_FOUND,
    error_pb2.ERROR_REASON_CODE_BLOCKED: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_CODE_EXPIRED: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_ACTIVATION_LIMIT: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_TRIAL_USED: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_WRONG_PRODUCT: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_CLOCK_ROLLBACK: _Code.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_CLONED_AGENT: _Code.ALREADY_EXISTS,
    error_pb2.ERROR_REASON_PROTOCOL_VIOLATION: _Code.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_SHUTTING_DOWN: _Code.UNAVAILABLE,
    error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE: _Code.UNAVAILABLE,
    error_pb2.ERROR_REASON_INTERNAL: _Code.INTERNAL,
    error_pb2.ERROR_REASON_NOT_OFFERED: _Code.UNIMPLEMENTED,
    error_pb2.ERROR_REASON_UNAUTHENTICATED: _Code.UNAUTHENTICATED,
    error_pb2.ERROR_REASON_PERMISSION_DENIED: _Code.PERMISSION_DENIED,
    error_pb2.ERROR_REASON_CERTIFICATE_REVOKED: _Code.UNAUTHENTICATED,
    error_pb2.ERROR_REASON_SVM_BANNED: _Code.PERMISSION_DENIED,
    error_pb2.ERROR_REASON_IDENTITY_MISMATCH: _Code.PERMISSION_DENIED,
    error_pb2.ERROR_REASON_JOIN_TOKEN_REFUSED: _Code.UNAUTHENTICATED,
    error_pb2.ERROR_REASON_INVALID_CERTIFICATE_REQUEST: _Code.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_TOKEN_NOT_FOUND: _Code.NOT_FOUND,
    error_pb2.ERROR_REASON_LIMIT_EXCEEDED: _Code.RESOURCE_EXHAUSTED,
    error_pb2.ERROR_REASON_STREAM_REPLACED: _Code.ABORTED,
    error_pb2.ERROR_REASON_AGENT_SILENT: _Code.ABORTED,
    error_pb2.ERROR_REASON_SUBSCRIPTION_IN_GRACE: _Code.FAILED_PRECONDITION,
}
"""The gRPC status code of each reason; a test holds it complete."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks its rule, and what to write there instead."""

    field: str
    problem: str


class CallRefused(Exception):
    """A call is refused whole: nothing was changed and nothing was lost.

    Args:
        reason: One of the closed set of reasons.
        message: One sentence for a person that holds the next step.
        violations: The fields at fault.
        metadata: What is dynamic in the message, for programs.
        retry_after: Set where waiting helps.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        """Carried between processes whole; an exception's own way knows its message only."""
        state = {
            "violations": self.violations,
            "metadata": self.metadata,
            "retry_after": self.retry_after,
        }
        return (CallRefused, (self.reason, self.message), state)

    @property
    def reason_name(self) -> str:
        """The reason as ErrorInfo carries it, for example KEY_NOT_FOUND."""
        return ErrorReason.Name(self.reason).removeprefix(_PREFIX)

    @property
    def status_code(self) -> grpc.StatusCode:
        """The gRPC status code."""
        return STATUS_CODES[self.reason]

    def to_status(self) -> status_pb2.Status:
        """The error as google.rpc.Status with its details.

        What is too long for the wire is cut: the message, values of the metadata,
        and violations past the first few dozen, whose full number is then told in
        the metadata as `violation_count`.
        """
        sent = list(_first_that_fit(self.violations))
        metadata = {key: _cut(value, _MAX_VALUE_BYTES) for key, value in self.metadata.items()}
        if len(sent) < len(self.violations):
            metadata["violation_count"] = str(len(self.violations))
        info = error_details_pb2.ErrorInfo(
            reason=self.reason_name, domain=DOMAIN, metadata=metadata
        )
        details: list[Any] = [info]
        if sent:
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(
                            field=violation.field, description=violation.problem
                        )
                        for violation in sent
                    ]
                )
            )
        if self.retry_after is not None:
            details.append(error_details_pb2.RetryInfo(retry_delay=to_duration(self.retry_after)))
        status = status_pb2.Status(
            code=self.status_code.value[0], message=_cut(self.message, _MAX_MESSAGE_BYTES)
        )
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status


def _cut(text: str, most: int) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most:
        return encoded.decode()
    return encoded[: most - 3].decode("utf-8", "ignore") + "…"


def _first_that_fit(violations: Sequence[FieldViolation]) -> Iterator[FieldViolation]:
    left = _MAX_VIOLATIONS_BYTES
    for violation in violations:
        short = FieldViolation(
            _cut(violation.field, _MAX_VALUE_BYTES), _cut(violation.problem, _MAX_VALUE_BYTES)
        )
        left -= len(short.field.encode()) + len(short.problem.encode()) + 8
        if left < 0:
            return
        yield short


@dataclass(frozen=True, slots=True)
class CallProblem:
    """A failed call as its client sees it.

    `reason` is empty where the error did not come from Sparekey, for example
    when the connection broke.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    violations: tuple[FieldViolation, ...] = ()
    metadata: Mapping[str, str] | None = None
    retry_after: timedelta | None = None


def read_problem(error: grpc.RpcError) -> CallProblem:
    """What a failed call says, read from its status and details."""
    code = error.code() if hasattr(error, "code") else _Code.UNKNOWN
    message = (error.details() if hasattr(error, "details") else None) or ""
    trailing: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else ()
    encoded = next((value for key, value in trailing or () if key == DETAILS_KEY), None)
    if not isinstance(encoded, bytes):
        return CallProblem(code, message)
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after = None
    try:
        for detail in status_pb2.Status.FromString(encoded).details:
            if not detail.Unpack(info) and not detail.Unpack(bad_request) and detail.Unpack(retry):
                retry_after = from_duration(retry.retry_delay)
    except (DecodeError, OverflowError):
        return CallProblem(code, message)
    if info.domain != DOMAIN:
        return CallProblem(code, message, retry_after=retry_after)
    return CallProblem(
        code,
        message,
        reason=info.reason,
        violations=tuple(
            FieldViolation(violation.field, violation.description)
            for violation in bad_request.field_violations
        ),
        metadata=dict(info.metadata),
        retry_after=retry_after,
    )


def invalid_fields(violations: Sequence[FieldViolation]) -> CallRefused:
    """The refusal of a message for its fields; all of them are told at once."""
    return CallRefused(
        error_pb2.ERROR_REASON_INVALID_FIELD,
        "; ".join(f"{one.field} {one.problem}" for one in violations),
        violations=violations,
    )
