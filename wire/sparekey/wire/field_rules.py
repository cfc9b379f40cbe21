"""The rules that a request's fields must keep, enforced from the descriptors.

A field marked REQUIRED must be set, an enum value must be one that this release
knows, an instant and a span must be in range; the formats that a descriptor
cannot say stand in the table below. Every violation is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sparekey.wire.errors import FieldViolation
from sparekey.wire.timestamps import from_duration

MAX_PAGE_SIZE = 1000
MAX_PICKED = 10_000
MAX_CHECKED = 1000
MAX_SUPPOSED = 100
MAX_KINDS = 100
MAX_CLUSTERS = 100
_Rule = Callable[[Any], str | None]
_Check = Callable[[Message, str], Iterator[FieldViolation]]

SERIAL = re.compile(r"[0-9A-F]{4}-[0-9A-F]{6}-[0-9A-F]{8}|[0-9A-F]{32}")
SVM_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
CLUSTER = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}")
_TOKEN_ID = re.compile(r"(?:token|join)-[0-9a-f]{16}")
_CERTIFICATE_SERIAL = re.compile(r"[0-9A-F]{1,40}")
_OPERATOR_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_TASK_ID = re.compile(r"task-[0-9a-z]{1,40}")


def _pattern(pattern: re.Pattern[str], problem: str) -> _Rule:
    return lambda value: None if pattern.fullmatch(value) else problem


def _between(low: int, high: int, meaning: str) -> _Rule:
    problem = f"must be {low} to {high}{meaning}"
    return lambda value: None if low <= value <= high else problem


def _between_lengths(low: int, high: int, unit: str) -> _Rule:
    problem = f"must have {low} to {high}{unit}"
    return lambda value: None if low <= len(value) <= high else problem


def _span(low: timedelta, high: timedelta, problem: str) -> _Rule:
    def rule(value: Duration) -> str | None:
        return None if low <= from_duration(value) <= high else problem

    return rule


def _svm_ids(value: Any) -> str | None:
    if len(value) > MAX_PICKED:
        return f"holds {len(value)} ids; at most {MAX_PICKED} can be picked, or use a cluster"
    for svm_id in value:
        if not SVM_ID.fullmatch(svm_id):
            return f"{svm_id[:80]!r} is not an SVM id"
    return None


def _serials(value: Any) -> str | None:
    if len(value) > MAX_CHECKED:
        return f"holds {len(value)} serials; ask for at most {MAX_CHECKED} at a time"
    for serial in value:
        if not SERIAL.fullmatch(serial):
            return f"{serial[:80]!r} is not a key's serial"
    return None


def _at_most_supposed(value: Any) -> str | None:
    if len(value) <= MAX_SUPPOSED:
        return None
    return f"holds {len(value)} changes; suppose at most {MAX_SUPPOSED} at a time"


def _clusters(value: Any) -> str | None:
    if len(value) > MAX_CLUSTERS:
        return f"holds {len(value)} clusters; at most {MAX_CLUSTERS} can be named"
    for cluster in value:
        if not CLUSTER.fullmatch(cluster):
            return f"{cluster[:80]!r} is not a cluster's name: 1 to 100 printable characters"
    return None


def _at_most_kinds(value: Any) -> str | None:
    if len(value) <= MAX_KINDS:
        return None
    return f"holds {len(value)} kinds; name at most {MAX_KINDS}, or none for all"


_HORIZON = _span(timedelta(minutes=1), timedelta(days=3660), "must be 1 minute to 10 years")
_serial = _pattern(SERIAL, "is not a key's serial; copy it from the list of keys")
_svm_id = _pattern(SVM_ID, "is not an SVM id: 1 to 63 lower-case letters, digits and hyphens")
_cluster = _pattern(CLUSTER, "is not a cluster's name: 1 to 100 printable characters")
_page_size = _between(0, MAX_PAGE_SIZE, "; 0 means 100")
_request_id = _pattern(_REQUEST_ID, "must be 1 to 64 printable characters without spaces")
_task_id = _pattern(_TASK_ID, "is not a task's id; copy it from the list of tasks")

BY_NAME: dict[str, _Rule] = {
    "serial": _serial,
    "key_serial": _serial,
    "svm_id": _svm_id,
    "task_id": _task_id,
    "cluster": _cluster,
    "page_size": _page_size,
    "request_id": _request_id,
    "svm_ids": _svm_ids,
    "token_id": _pattern(_TOKEN_ID, "is not a token's id; copy it from the list of tokens"),
    "certificate_serial": _pattern(
        _CERTIFICATE_SERIAL, "is not a certificate's serial: 1 to 40 upper-case hex digits"
    ),
}
"""Rules for every field of a name, applied where the field is set."""

BY_FULL_NAME: dict[str, _Rule] = {
    "sparekey.v1.ActivateRequest.wait": _span(
        timedelta(seconds=1), timedelta(days=90), "must be 1 second to 90 days"
    ),
    "sparekey.v1.RunTaskRequest.wait": _span(
        timedelta(seconds=1), timedelta(days=90), "must be 1 second to 90 days"
    ),
    "sparekey.v1.RenewRequest.wait": _span(
        timedelta(seconds=1), timedelta(days=90), "must be 1 second to 90 days"
    ),
    "sparekey.v1.CreateTokenRequest.name": _pattern(
        _OPERATOR_NAME, "must be 1 to 64 letters, digits and . _ @ -"
    ),
    "sparekey.v1.CreateTokenRequest.clusters": _clusters,
    "sparekey.v1.CreateTokenRequest.lifetime": _span(
        timedelta(minutes=1), timedelta(days=400), "must be 1 minute to 400 days"
    ),
    "sparekey.v1.CreateJoinTokenRequest.lifetime": _span(
        timedelta(minutes=1), timedelta(days=30), "must be 1 minute to 30 days"
    ),
    "sparekey.v1.ListEventsRequest.kinds": _at_most_kinds,
    "sparekey.v1.WatchEventsRequest.kinds": _at_most_kinds,
    "sparekey.v1.EnrollRequest.join_token": _between_lengths(1, 200, " characters"),
    "sparekey.v1.EnrollRequest.csr": _between_lengths(1, 8192, " bytes"),
    "sparekey.v1.RenewCertificateRequest.csr": _between_lengths(1, 8192, " bytes"),
    "sparekey.v1.ForecastCoverageRequest.horizon": _HORIZON,
    "sparekey.v1.ForecastCoverageRequest.what_if": _at_most_supposed,
    "sparekey.v1.PlanRenewalRequest.horizon": _HORIZON,
    "sparekey.v1.PlanRenewalRequest.what_if": _at_most_supposed,
    "sparekey.v1.SupposeGuests.servers": _between(0, 1_000_000, " guests"),
    "sparekey.v1.SupposeGuests.desktops": _between(0, 1_000_000, " guests"),
    "sparekey.testing.v1.AdvanceClockRequest.by": _span(
        timedelta(0), timedelta(days=36500), "must not be negative, and at most 100 years"
    ),
    "sparekey.activation.v1.CheckKeysRequest.serials": _serials,
    "sparekey.activation.control.v1.BlockKeyRequest.block_grace": _span(
        timedelta(0), timedelta(days=36500), "must not be negative, and at most 100 years"
    ),
    "sparekey.activation.control.v1.DefineCodeRequest.activation_limit": _between(
        0, 1_000_000, "; 0 means 1"
    ),
    "sparekey.activation.control.v1.DefineCodeRequest.renewals": _between(
        0, 1_000_000, "; 0 means never"
    ),
    "sparekey.activation.control.v1.KeyProperties.unit_limit": _between(0, 10_000_000, " units"),
    "sparekey.activation.control.v1.KeyProperties.term": _span(
        timedelta(microseconds=1),
        timedelta(days=36500),
        "must be more than 0 and at most 100 years",
    ),
    "sparekey.activation.control.v1.Fault.percent": _between(0, 100, "; 0 means 100"),
    "sparekey.activation.control.v1.Fault.calls": _between(0, 1_000_000, "; 0 means all"),
    "sparekey.activation.control.v1.Fault.delay": _span(
        timedelta(0), timedelta(minutes=10), "must be 0 to 10 minutes"
    ),
}
"""Rules for one field of one message, applied where the field is set."""

REQUIRED_ONEOFS: frozenset[str] = frozenset(
    {
        "sparekey.v1.AddKeyRequest.source",
        "sparekey.v1.Scope.selection",
        "sparekey.v1.WhatIf.change",
    }
)


def violations(request: Message) -> list[FieldViolation]:
    """Every violation in a request; empty where it keeps all rules."""
    found: list[FieldViolation] = []
    for check in _checks(request.DESCRIPTOR):
        found.extend(check(request, ""))
    return found


@cache
def _checks(message: Descriptor) -> tuple[_Check, ...]:
    checks: list[_Check] = [
        _oneof_check(oneof) for oneof in message.oneofs if oneof.full_name in REQUIRED_ONEOFS
    ]
    for field in message.fields:
        checks.extend(_field_checks(field))
    return tuple(checks)


def _oneof_check(oneof: Any) -> _Check:
    names = " or ".join(field.name for field in oneof.fields)

    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        if message.WhichOneof(oneof.name) is None:
            yield FieldViolation(path + oneof.name, f"is required: set {names}")

    return check


def _field_checks(field: FieldDescriptor) -> Iterator[_Check]:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    if field_behavior_pb2.REQUIRED in behaviors:
        yield _required(field)
    rule = BY_FULL_NAME.get(field.full_name) or BY_NAME.get(field.name)
    if rule is not None:
        yield _rule_check(field, rule)
    if field.enum_type is not None:
        yield _enum_check(field)
    if field.message_type is not None and not field.message_type.GetOptions().map_entry:
        yield _nested_check(field)


def _is_set(message: Message, field: FieldDescriptor) -> bool:
    if field.has_presence:
        return message.HasField(field.name)
    return bool(getattr(message, field.name))


def _required(field: FieldDescriptor) -> _Check:
    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        if not _is_set(message, field):
            yield FieldViolation(path + field.name, "is required")

    return check


def _rule_check(field: FieldDescriptor, rule: _Rule) -> _Check:
    is_duration = field.message_type is not None and (
        field.message_type.full_name == "google.protobuf.Duration"
    )

    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        if not _is_set(message, field):
            return
        value = getattr(message, field.name)
        if is_duration and _duration_problem(value):
            return  # the nested check says so
        problem = rule(value)
        if problem:
            yield FieldViolation(path + field.name, problem)

    return check


def _enum_check(field: FieldDescriptor) -> _Check:
    enum_type = field.enum_type
    assert enum_type is not None
    known = frozenset(enum_type.values_by_number)

    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        value = getattr(message, field.name)
        for number in value if field.is_repeated else (value,):
            if number not in known:
                yield FieldViolation(
                    path + field.name,
                    f"{number} is not a value of {enum_type.name} that this server knows",
                )

    return check


def _timestamp_problem(value: Timestamp) -> str | None:
    in_range = -62135596800 <= value.seconds <= 253402300799 and 0 <= value.nanos < 10**9
    return None if in_range else "is not an instant within the years 1 to 9999"


def _duration_problem(value: Duration) -> str | None:
    in_range = abs(value.seconds) <= 315576000000 and abs(value.nanos) < 10**9
    same_sign = value.seconds * value.nanos >= 0
    return None if in_range and same_sign else "is not a span of time"


def _nested_check(field: FieldDescriptor) -> _Check:
    well_known: dict[str, Callable[[Any], str | None]] = {
        "google.protobuf.Timestamp": _timestamp_problem,
        "google.protobuf.Duration": _duration_problem,
    }
    assert field.message_type is not None
    special = well_known.get(field.message_type.full_name)

    def nested(message: Message, path: str) -> Iterator[FieldViolation]:
        if special is not None:
            problem = special(message)
            if problem:
                yield FieldViolation(path, problem)
            return
        for check in _checks(message.DESCRIPTOR):
            yield from check(message, path + ".")

    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        if field.is_repeated:
            for index, item in enumerate(getattr(message, field.name)):
                yield from nested(item, f"{path}{field.name}[{index}]")
        elif message.HasField(field.name):
            yield from nested(getattr(message, field.name), path + field.name)

    return check
