"""What a request must hold, found by walking every service of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.v1 import activation_pb2
from sparekey.testing.v1 import clock_pb2
from sparekey.v1 import (
    access_pb2,
    agent_pb2,
    enrollment_pb2,
    event_pb2,
    fleet_pb2,
    key_pb2,
    license_pb2,
    report_pb2,
)
from sparekey.wire import field_rules
from sparekey.wire.field_rules import MAX_PICKED, violations

FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        access_pb2,
        agent_pb2,
        enrollment_pb2,
        event_pb2,
        fleet_pb2,
        key_pb2,
        license_pb2,
        report_pb2,
        clock_pb2,
        activation_pb2,
        control_pb2,
    )
]
REQUESTS: list[Descriptor] = [
    method.input_type
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
]
SERIAL = "4A3F-00B2C1-9D8E7F66"


def is_required(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


def fields_at_fault(request: Message) -> list[str]:
    return [violation.field for violation in violations(request)]


def reachable(message: Descriptor) -> Iterator[FieldDescriptor]:
    """Every field that a request of this type can hold, at any depth."""
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from reachable(field.message_type)


def test_the_contract_was_walked() -> None:
    services = [name for file in FILES for name in file.services_by_name]
    assert sorted(services) == [
        "AccessService",
        "ActivationService",
        "AgentService",
        "ClockService",
        "ControlService",
        "EnrollmentService",
        "EventService",
        "FleetService",
        "KeyService",
        "LicenseService",
        "ReportService",
    ]
    assert len(REQUESTS) > 30


@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda r: r.full_name)
def test_a_request_with_nothing_set_reports_every_required_field_at_once(
    request_type: Descriptor,
) -> None:
    expected = {field.name for field in request_type.fields if is_required(field)}
    expected |= {
        oneof.name
        for oneof in request_type.oneofs
        if oneof.full_name in field_rules.REQUIRED_ONEOFS
    }
    found = violations(GetMessageClass(request_type)())
    assert {violation.field for violation in found} == expected
    assert len(found) == len(expected)
    assert all(violation.problem.startswith("is required") for violation in found)


@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda r: r.full_name)
def test_every_enum_of_a_request_refuses_a_value_from_the_future(
    request_type: Descriptor,
) -> None:
    for field in request_type.fields:
        if field.enum_type is None:
            continue
        value: Any = [0, 9999] if field.is_repeated else 9999
        found = violations(GetMessageClass(request_type)(**{field.name: value}))
        assert [v.problem for v in found if v.field == field.name] == [
            f"9999 is not a value of {field.enum_type.name} that this server knows"
        ]


def test_the_tables_name_only_fields_that_requests_have() -> None:
    fields = [field for request_type in REQUESTS for field in reachable(request_type)]
    assert field_rules.BY_NAME.keys() <= {field.name for field in fields}
    assert field_rules.BY_FULL_NAME.keys() <= {field.full_name for field in fields}
    oneofs = {
        oneof.full_name
        for message in {field.containing_type for field in fields}
        if message is not None
        for oneof in message.oneofs
    }
    assert oneofs >= field_rules.REQUIRED_ONEOFS


def test_output_only_fields_are_in_no_request() -> None:
    for request_type in REQUESTS:
        for field in reachable(request_type):
            behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
            assert field_behavior_pb2.OUTPUT_ONLY not in behaviors, field.full_name


def test_the_fields_of_nested_messages_are_named_by_their_path() -> None:
    picked = license_pb2.PickedSvms()
    assert fields_at_fault(
        license_pb2.RenewRequest(scope=license_pb2.Scope(picked=picked), request_id="a b")
    ) == ["key_serial", "scope.picked.svm_ids", "request_id"]
    faults = [control_pb2.Fault(kind=control_pb2.FAULT_KIND_DELAY), control_pb2.Fault(percent=101)]
    assert fields_at_fault(control_pb2.SetFaultsRequest(faults=faults)) == [
        "faults[1].kind",
        "faults[1].percent",
    ]
    assert fields_at_fault(
        control_pb2.DefineCodeRequest(code="x", key=control_pb2.KeyProperties())
    ) == ["key.type", "key.kind", "key.edition"]


def test_an_empty_scope_says_what_to_set() -> None:
    request = license_pb2.ActivateRequest(key_serial=SERIAL, scope=license_pb2.Scope())
    (found,) = violations(request)
    assert found.field == "scope.selection"
    assert found.problem == "is required: set all or cluster or picked"


@pytest.mark.parametrize(
    "request_message",
    [
        key_pb2.GetKeyRequest(serial=SERIAL),
        key_pb2.GetKeyRequest(serial="0123456789ABCDEF0123456789ABCDEF"),
        key_pb2.AddKeyRequest(key_file=b"{}", request_id="a" * 64),
        key_pb2.AddKeyRequest(activation_code=""),
        key_pb2.ListKeysRequest(page_size=1000),
        fleet_pb2.GetSvmRequest(svm_id="a"),
        fleet_pb2.GetSvmRequest(svm_id="a" * 63),
        fleet_pb2.ListSvmsRequest(cluster="Ost 1 – Prüfung"),
        license_pb2.GetTaskRequest(task_id="task-01hzx"),
        license_pb2.ActivateRequest(
            key_serial=SERIAL,
            scope=license_pb2.Scope(all=license_pb2.AllSvms()),
            wait=Duration(seconds=1),
        ),
        license_pb2.RenewRequest(
            key_serial=SERIAL,
            scope=license_pb2.Scope(cluster="east"),
            wait=Duration(seconds=90 * 86400),
        ),
        event_pb2.ListEventsRequest(kinds=[event_pb2.EVENT_KIND_KEY_ADDED]),
        clock_pb2.AdvanceClockRequest(by=Duration()),
        clock_pb2.SetClockRequest(time=Timestamp(seconds=253402300799, nanos=999_999_999)),
        control_pb2.SetClockRequest(),
    ],
    ids=lambda request_message: type(request_message).__name__,
)
def test_a_sound_request_passes(request_message: Message) -> None:
    assert violations(request_message) == []


@pytest.mark.parametrize(
    "serial",
    [
        "4a3f-00b2c1-9d8e7f66",
        SERIAL + "\n",
        " " + SERIAL,
        "4A3F00B2C19D8E7F66",
        "0" * 31,
        "0" * 33,
        "TEST0-ABCDE-12345-ZZ9ZZ",
        "٠" * 32,
    ],
)
def test_R30_only_the_two_shapes_are_serials(serial: str) -> None:
    assert fields_at_fault(key_pb2.GetKeyRequest(serial=serial)) == ["serial"]
    assert "key_serial" in fields_at_fault(license_pb2.RenewRequest(key_serial=serial))


@pytest.mark.parametrize("svm_id", ["-a", "a-", "A", "a" * 64, "a_b", "a.b", "a\n", "ä"])
def test_ids_of_svms(svm_id: str) -> None:
    assert fields_at_fault(fleet_pb2.GetSvmRequest(svm_id=svm_id)) == ["svm_id"]
    scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=["good", svm_id]))
    request = license_pb2.ActivateRequest(key_serial=SERIAL, scope=scope)
    assert fields_at_fault(request) == ["scope.picked.svm_ids"]


def test_R50_no_more_svms_can_be_picked_than_a_task_takes() -> None:
    def request(count: int) -> Message:
        svm_ids = [f"svm-{number}" for number in range(count)]
        scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svm_ids))
        return license_pb2.ActivateRequest(key_serial=SERIAL, scope=scope)

    assert fields_at_fault(request(MAX_PICKED)) == []
    (found,) = violations(request(MAX_PICKED + 1))
    assert found.field == "scope.picked.svm_ids"
    assert "use a cluster" in found.problem


def test_a_check_takes_no_more_keys_than_the_contract_says() -> None:
    def request(count: int) -> Message:
        return activation_pb2.CheckKeysRequest(serials=[SERIAL] * count, installation_id="i-1")

    assert fields_at_fault(request(1000)) == []
    assert fields_at_fault(request(1001)) == ["serials"]
    wrong = activation_pb2.CheckKeysRequest(serials=[SERIAL, "x"], installation_id="i-1")
    assert fields_at_fault(wrong) == ["serials"]


@pytest.mark.parametrize("field", ["activation_limit", "renewals"])
def test_counts_of_the_fake_are_not_negative(field: str) -> None:
    key = control_pb2.KeyProperties(
        type=key_pb2.KEY_TYPE_SERVER,
        kind=key_pb2.KEY_KIND_COMMERCIAL,
        edition=key_pb2.EDITION_STANDARD,
    )
    values: dict[str, Any] = {field: -1}
    request = control_pb2.DefineCodeRequest(code="x", key=key, **values)
    assert fields_at_fault(request) == [field]


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (key_pb2.ListKeysRequest(page_size=-1), "page_size"),
        (key_pb2.ListKeysRequest(page_size=1001), "page_size"),
        (key_pb2.AddKeyRequest(key_file=b"x", request_id="a" * 65), "request_id"),
        (key_pb2.AddKeyRequest(key_file=b"x", request_id="ä"), "request_id"),
        (fleet_pb2.ListSvmsRequest(cluster="a\x1b[31mb"), "cluster"),
        (fleet_pb2.ListSvmsRequest(cluster="a" * 101), "cluster"),
        (license_pb2.GetTaskRequest(task_id="42"), "task_id"),
        (license_pb2.GetTaskRequest(task_id="task-" + "a" * 41), "task_id"),
        (clock_pb2.AdvanceClockRequest(by=Duration(seconds=-1)), "by"),
        (clock_pb2.AdvanceClockRequest(by=Duration(nanos=-1)), "by"),
    ],
)
def test_formats(request_message: Message, field: str) -> None:
    assert fields_at_fault(request_message) == [field]


@pytest.mark.parametrize("wait", [timedelta(0), timedelta(milliseconds=999), timedelta(days=91)])
def test_the_wait_of_a_task_is_bounded(wait: timedelta) -> None:
    duration = Duration()
    duration.FromTimedelta(wait)
    scope = license_pb2.Scope(cluster="east")
    for request_class in (license_pb2.ActivateRequest, license_pb2.RenewRequest):
        request = request_class(key_serial=SERIAL, scope=scope, wait=duration)
        assert fields_at_fault(request) == ["wait"]


@pytest.mark.parametrize(
    "duration",
    [
        Duration(seconds=2**62),
        Duration(seconds=-(2**63)),
        Duration(nanos=10**9),
        Duration(seconds=1, nanos=-1),
        Duration(seconds=-1, nanos=1),
    ],
)
def test_what_is_no_span_is_reported_once_and_breaks_nothing(duration: Duration) -> None:
    (found,) = violations(clock_pb2.AdvanceClockRequest(by=duration))
    assert (found.field, found.problem) == ("by", "is not a span of time")


@pytest.mark.parametrize(
    "timestamp",
    [
        Timestamp(seconds=253402300800),
        Timestamp(seconds=-62135596801),
        Timestamp(nanos=-1),
        Timestamp(nanos=10**9),
        Timestamp(seconds=2**63 - 1),
    ],
)
def test_what_is_no_instant_is_reported(timestamp: Timestamp) -> None:
    (found,) = violations(clock_pb2.SetClockRequest(time=timestamp))
    assert (found.field, found.problem) == ("time", "is not an instant within the years 1 to 9999")
    subscription = activation_pb2.Subscription(serial=SERIAL, ends_at=timestamp)
    nested = control_pb2.ChangeSubscriptionRequest(subscription=subscription)
    assert fields_at_fault(nested) == ["subscription.ends_at"]


def test_frames_of_a_stream_can_be_checked_too() -> None:
    frame = agent_pb2.ConnectRequest(hello=agent_pb2.Hello(svm_id="Bad"))
    assert fields_at_fault(frame) == ["hello.svm_id", "hello.boot_id"]


def test_more_changes_than_a_forecast_supposes_are_refused() -> None:
    change = report_pb2.WhatIf(block_key=report_pb2.SupposeBlocked(key_serial=SERIAL))
    request = report_pb2.ForecastCoverageRequest(what_if=[change] * 101)
    assert fields_at_fault(request) == ["what_if"]
    del request.what_if[100:]
    assert fields_at_fault(request) == []
