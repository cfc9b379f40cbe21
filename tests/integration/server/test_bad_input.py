"""Requests that are wrong: each has its typed error, and no table changes for any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from sparekey.licensing.key_files import KeySigner
from sparekey.licensing.keys import LicenseKey
from sparekey.testing.v1 import clock_pb2
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, license_pb2
from sparekey.wire.edge import MAX_REQUEST_BYTES, REQUEST_BYTES
from sparekey.wire.errors import read_problem
from sparekey.wire.field_rules import MAX_PICKED
from sparekey.wire.timestamps import to_duration

from .site import Site, running_site
from .words import refusal_of, scope_of

UNKNOWN_SERIAL = "ABCD-ABCDEF-ABCDEF01"
FLIPS = (0x01, 0x20, 0x80)


@dataclass(frozen=True)
class Stage:
    """A site with something of everything, on which nothing happens by itself."""

    site: Site
    active: LicenseKey
    ended: LicenseKey
    spare: LicenseKey
    task_id: str
    foreign_token: str


async def set_up(site: Site) -> Stage:
    await site.connect("svm-1", cluster="a")
    active, ended, spare = (
        await site.new_key(ends=30),
        await site.new_key(ends=1),
        await site.new_key(ends=60),
    )
    task = await site.ended(site.activate(active, request_id="spent"))
    await site.advance(1)
    await site.disconnect("svm-1")
    page = await site.keys.ListKeys(key_pb2.ListKeysRequest(page_size=1))
    return Stage(site, active, ended, spare, task.task_id, page.next_page_token)


Calling = Callable[[Stage], Awaitable[Any]]

CASES: dict[str, tuple[Calling, str]] = {
    "an unknown key is read": (
        lambda s: s.site.keys.GetKey(key_pb2.GetKeyRequest(serial=UNKNOWN_SERIAL)),
        "KEY_NOT_FOUND",
    ),
    "an unknown key is deleted": (
        lambda s: s.site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=UNKNOWN_SERIAL)),
        "KEY_NOT_FOUND",
    ),
    "an unknown key is activated": (
        lambda s: s.site.activate(UNKNOWN_SERIAL),
        "KEY_NOT_FOUND",
    ),
    "an ended key is activated": (lambda s: s.site.activate(s.ended), "KEY_EXPIRED"),
    "an ended key is a reserve": (lambda s: s.site.renew(s.ended), "KEY_EXPIRED"),
    "an ended key is added": (
        lambda s: s.site.keys.AddKey(
            key_pb2.AddKeyRequest(key_file=s.site.signer.sign(s.site.make_key(ends=1)))
        ),
        "KEY_EXPIRED",
    ),
    "an unknown SVM is read": (lambda s: s.site.svm("nobody"), "SVM_NOT_FOUND"),
    "an unknown SVM is picked": (lambda s: s.site.activate(s.spare, "nobody"), "SVM_NOT_FOUND"),
    "an unknown SVM is excluded": (
        lambda s: s.site.svms.ExcludeSvm(fleet_pb2.ExcludeSvmRequest(svm_id="nobody")),
        "SVM_NOT_FOUND",
    ),
    "an unknown SVM is forgotten": (
        lambda s: s.site.svms.ForgetSvm(fleet_pb2.ForgetSvmRequest(svm_id="nobody")),
        "SVM_NOT_FOUND",
    ),
    "a cluster without SVMs": (lambda s: s.site.renew(s.spare, cluster="none"), "SCOPE_EMPTY"),
    "an unknown task is read": (
        lambda s: s.site.task(license_pb2.Task(task_id="task-0")),
        "TASK_NOT_FOUND",
    ),
    "an unknown task's outcomes": (
        lambda s: s.site.licenses.ListOutcomes(license_pb2.ListOutcomesRequest(task_id="task-0")),
        "TASK_NOT_FOUND",
    ),
    "an unknown task is cancelled": (
        lambda s: s.site.licenses.CancelTask(license_pb2.CancelTaskRequest(task_id="task-0")),
        "TASK_NOT_FOUND",
    ),
    "a finished task is cancelled": (
        lambda s: s.site.licenses.CancelTask(license_pb2.CancelTaskRequest(task_id=s.task_id)),
        "TASK_FINISHED",
    ),
    "a page token from elsewhere": (
        lambda s: s.site.svms.ListSvms(fleet_pb2.ListSvmsRequest(page_token=s.foreign_token)),
        "INVALID_PAGE_TOKEN",
    ),
    "a request id with other content": (
        lambda s: s.site.activate(s.spare, request_id="spent"),
        "REQUEST_ID_REUSED",
    ),
    "a malformed code": (
        lambda s: s.site.keys.AddKey(key_pb2.AddKeyRequest(activation_code="TEST0-1")),
        "MALFORMED_ACTIVATION_CODE",
    ),
    "a code without an activation server": (
        lambda s: s.site.keys.AddKey(
            key_pb2.AddKeyRequest(activation_code="TEST0-AAAAA-BBBBB-CCCCC")
        ),
        "ACTIVATION_SERVER_UNAVAILABLE",
    ),
    "no key file at all": (
        lambda s: s.site.keys.AddKey(key_pb2.AddKeyRequest(key_file=b"{}")),
        "INVALID_KEY_FILE",
    ),
    "a key file that is too large": (
        lambda s: s.site.keys.AddKey(key_pb2.AddKeyRequest(key_file=bytes(4097))),
        "INVALID_KEY_FILE",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_wrong_request_has_its_own_reason_and_changes_nothing(
    site: Site, case: str
) -> None:
    stage = await set_up(site)
    call, reason = CASES[case]
    before = site.dump()
    problem = await refusal_of(call(stage))
    assert problem.reason == reason
    assert problem.message
    assert site.dump() == before


FIELDS: list[tuple[str, Any, list[str]]] = [
    ("keys.AddKey", key_pb2.AddKeyRequest(), ["source"]),
    ("keys.GetKey", key_pb2.GetKeyRequest(), ["serial"]),
    ("keys.GetKey", key_pb2.GetKeyRequest(serial="abcd-abcdef-abcdef01"), ["serial"]),
    ("keys.DeleteKey", key_pb2.DeleteKeyRequest(serial=f"{UNKNOWN_SERIAL}\n"), ["serial"]),
    ("keys.ListKeys", key_pb2.ListKeysRequest(page_size=-1), ["page_size"]),
    ("keys.ListKeys", key_pb2.ListKeysRequest(page_size=1001), ["page_size"]),
    ("keys.RefreshKeys", key_pb2.RefreshKeysRequest(request_id="a b"), ["request_id"]),
    ("keys.RefreshKeys", key_pb2.RefreshKeysRequest(request_id="x" * 65), ["request_id"]),
    ("licenses.Activate", license_pb2.ActivateRequest(), ["key_serial", "scope"]),
    (
        "licenses.Activate",
        license_pb2.ActivateRequest(key_serial=UNKNOWN_SERIAL, scope=license_pb2.Scope()),
        ["scope.selection"],
    ),
    (
        "licenses.Renew",
        license_pb2.RenewRequest(
            key_serial="?",
            scope=scope_of(["UPPER"]),
            wait=to_duration(timedelta(days=91)),
            request_id=" ",
        ),
        ["key_serial", "wait", "request_id", "scope.picked.svm_ids"],
    ),
    (
        "licenses.Renew",
        license_pb2.RenewRequest(
            key_serial=UNKNOWN_SERIAL,
            scope=license_pb2.Scope(picked=license_pb2.PickedSvms()),
            wait=Duration(seconds=1, nanos=-1),
        ),
        ["wait", "scope.picked.svm_ids"],
    ),
    (
        "licenses.Renew",
        license_pb2.RenewRequest(key_serial=UNKNOWN_SERIAL, scope=license_pb2.Scope(cluster="")),
        ["scope.cluster"],
    ),
    (
        "licenses.Activate",
        license_pb2.ActivateRequest(
            key_serial=UNKNOWN_SERIAL, scope=scope_of(f"svm-{n}" for n in range(10_001))
        ),
        ["scope.picked.svm_ids"],
    ),
    (
        "licenses.Activate",
        license_pb2.ActivateRequest(key_serial=UNKNOWN_SERIAL, scope=scope_of(cluster="a\0b")),
        ["scope.cluster"],
    ),
    ("licenses.GetTask", license_pb2.GetTaskRequest(task_id="42"), ["task_id"]),
    (
        "licenses.ListOutcomes",
        license_pb2.ListOutcomesRequest(task_id="task-0", state=77),  # type: ignore[arg-type]
        ["state"],
    ),
    ("svms.GetSvm", fleet_pb2.GetSvmRequest(svm_id="UPPER"), ["svm_id"]),
    ("svms.ForgetSvm", fleet_pb2.ForgetSvmRequest(), ["svm_id"]),
    (
        "events.ListEvents",
        event_pb2.ListEventsRequest(kinds=[1, 77, 78], svm_id="?", task_id="?", key_serial="?"),  # type: ignore[list-item]
        ["svm_id", "key_serial", "task_id", "kinds", "kinds"],
    ),
    ("clock.AdvanceClock", clock_pb2.AdvanceClockRequest(), ["by"]),
    ("clock.AdvanceClock", clock_pb2.AdvanceClockRequest(by=Duration(seconds=-1)), ["by"]),
]


@pytest.mark.parametrize(
    ("rpc", "request_", "fields"), FIELDS, ids=[f"{rpc} {fields}" for rpc, _, fields in FIELDS]
)
async def test_every_field_at_fault_is_named_at_once(
    site: Site, rpc: str, request_: Any, fields: list[str]
) -> None:
    """Values of enums from a newer release among them."""
    before = site.dump()
    service, method = rpc.split(".")
    problem = await refusal_of(getattr(getattr(site, service), method)(request_))
    assert problem.reason == "INVALID_FIELD"
    assert problem.code is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violation.field for violation in problem.violations) == sorted(fields)
    assert all(violation.problem for violation in problem.violations)
    assert site.dump() == before


async def test_R80_a_key_file_with_any_byte_changed_is_refused(site: Site) -> None:
    """Every byte in several ways, cut short and lengthened, by the real call."""
    content = site.signer.sign(site.make_key())
    damaged = [
        content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
        for at in range(len(content))
        for flip in FLIPS
    ]
    damaged += [content[:length] for length in range(0, len(content), 7) if length]
    damaged += [content + b"\n", b" " + content, content * 2, content.replace(b"\n", b"\r\n")]
    before = site.dump()

    async def reason(key_file: bytes) -> str:
        request = key_pb2.AddKeyRequest(key_file=key_file)
        return (await refusal_of(site.keys.AddKey(request))).reason

    for start in range(0, len(damaged), 64):
        reasons = await asyncio.gather(*map(reason, damaged[start : start + 64]))
        assert set(reasons) == {"INVALID_KEY_FILE"}
    assert site.dump() == before
    await site.keys.AddKey(key_pb2.AddKeyRequest(key_file=content))


SERVICES = [
    service
    for file in (key_pb2, license_pb2, fleet_pb2, event_pb2, clock_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
METHODS = [
    (f"/{service.full_name}/{method.name}", method.server_streaming)
    for service in SERVICES
    for method in service.methods
]


async def raw(site: Site, method: str, streaming: bool, content: bytes) -> Any:
    """Send bytes as they are."""
    channel: Any = site.channel
    if streaming:
        return await anext(aiter(channel.unary_stream(method)(content)))
    return await channel.unary_unary(method)(content)


@pytest.mark.parametrize("kind", ["undecodable", "too large"])
async def test_bytes_that_are_no_request_at_every_call(site: Site, kind: str) -> None:
    before = site.dump()
    for method, streaming in METHODS:
        if kind == "undecodable":
            for content in (b"\xff", b"\x0a\x7f", bytes(range(128, 256))):
                problem = await refusal_of(raw(site, method, streaming, content))
                assert problem.reason == "UNDECODABLE_MESSAGE", method
                assert problem.code is grpc.StatusCode.INVALID_ARGUMENT
        else:
            problem = await refusal_of(raw(site, method, streaming, bytes(1024 * 1024 + 1)))
            assert problem.reason == "MESSAGE_TOO_LARGE"
            assert problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert site.dump() == before


async def test_a_message_above_the_transports_own_limit(site: Site) -> None:
    """It is refused before the server sees it, so without a reason of ours; others go on."""
    before = site.dump()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await raw(site, "/sparekey.v1.KeyService/AddKey", False, bytes(4 * 1024 * 1024 + 1))
    problem = read_problem(failed.value)
    assert (problem.code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")
    assert not (await site.keys.ListKeys(key_pb2.ListKeysRequest())).keys
    assert site.dump() == before


async def test_the_largest_message_that_is_allowed_is_read(site: Site) -> None:
    key_file = bytes(MAX_REQUEST_BYTES - 4)
    request = key_pb2.AddKeyRequest(key_file=key_file)
    assert request.ByteSize() == MAX_REQUEST_BYTES
    assert (await refusal_of(site.keys.AddKey(request))).reason == "INVALID_KEY_FILE"


async def test_as_many_svms_as_may_be_picked_fit_into_a_request(site: Site) -> None:
    svm_ids = [f"{number:063}" for number in range(MAX_PICKED)]
    scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svm_ids))
    request = license_pb2.ActivateRequest(key_serial="ABCD-ABCDEF-ABCDEF01", scope=scope)
    assert MAX_REQUEST_BYTES < request.ByteSize() < REQUEST_BYTES["sparekey.v1.ActivateRequest"]
    assert (await refusal_of(site.licenses.Activate(request))).reason == "KEY_NOT_FOUND"


async def test_kinds_are_named_a_few_at_a_time(site: Site) -> None:
    request = event_pb2.ListEventsRequest(kinds=[event_pb2.EVENT_KIND_TASK_STARTED] * 101)
    problem = await refusal_of(site.events.ListEvents(request))
    assert [one.field for one in problem.violations] == ["kinds"]


@pytest.mark.parametrize("cursor", [2**63 - 1, 2**63, 2**64 - 1])
async def test_a_cursor_far_behind_the_history_is_no_fault(site: Site, cursor: int) -> None:
    await site.new_key()
    assert await site.history(after_cursor=cursor) == []
    watch = site.events.WatchEvents(event_pb2.WatchEventsRequest(after_cursor=cursor))
    assert not (await anext(aiter(watch))).events
    watch.cancel()


async def test_unknown_fields_of_a_newer_client_are_passed_over(site: Site) -> None:
    newer = b"\x9a\x06\x02\x08\x01"  # field 99, a message
    answer = await raw(site, "/sparekey.v1.KeyService/ListKeys", False, newer)
    assert key_pb2.ListKeysResponse.FromString(answer) == key_pb2.ListKeysResponse()


async def test_a_call_that_is_not_there(site: Site) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await raw(site, "/sparekey.v1.KeyService/StealKey", False, b"")
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_without_a_test_clock_offers_none(tmp_path: Path, vendor: KeySigner) -> None:
    async with running_site(tmp_path, vendor, test_clock=None) as site:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await site.clock.GetClock(clock_pb2.GetClockRequest())
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
