"""ControlService over a real socket: the journal, the clock, forgetting, and bad input."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.control.v1.control_pb2 import Fault, KeyProperties
from sparekey.activation.control.v1.control_pb2_grpc import ControlServiceStub
from sparekey.activation.v1 import activation_pb2
from sparekey.activation.v1.activation_pb2_grpc import ActivationServiceStub
from sparekey.licensing.key_files import TrustedSigners
from sparekey.licensing.keys import KeyOrigin
from sparekey.v1 import key_pb2
from sparekey.wire.errors import read_problem
from sparekey.wire.timestamps import from_timestamp, to_duration, to_timestamp

Key = Callable[..., KeyProperties]
CODE = "TEST0-AAAAA-BBBBB-CCCCC"
UNKNOWN = "0123456789ABCDEF" * 2


def test_R30_an_issued_key_is_a_file_with_a_files_serial(
    control: ControlServiceStub, key: Key, trusted: TrustedSigners
) -> None:
    issued = control.IssueKey(control_pb2.IssueKeyRequest(key=key()))
    signed = trusted.read(issued.key_file)
    assert (signed.serial, signed.origin) == (issued.serial, KeyOrigin.KEY_FILE)
    assert [len(group) for group in issued.serial.split("-")] == [4, 6, 8]


def test_the_journal_tells_each_call_and_can_be_cleared(
    control: ControlServiceStub, activation: ActivationServiceStub, key: Key, go_to: Any, at: Any
) -> None:
    control.DefineCode(control_pb2.DefineCodeRequest(code=CODE, key=key()))
    activation.RedeemCode(activation_pb2.RedeemCodeRequest(code=CODE, installation_id="here"))
    go_to(1)
    activation.CheckKeys(
        activation_pb2.CheckKeysRequest(serials=[UNKNOWN] * 2, installation_id="there")
    )
    redeemed, checked = control.ListCalls(control_pb2.ListCallsRequest(clear=True)).calls
    assert redeemed == control_pb2.Call(
        number=1,
        called_at=to_timestamp(at(0)),
        method="RedeemCode",
        installation_id="here",
        serials=redeemed.serials,
        code_ending="CCCCC",
        verdict=activation_pb2.VERDICT_OK,
    )
    assert len(redeemed.serials) == 1
    assert checked == control_pb2.Call(
        number=2,
        called_at=to_timestamp(at(1)),
        method="CheckKeys",
        installation_id="there",
        serials=[UNKNOWN] * 2,
        verdict=activation_pb2.VERDICT_NOT_FOUND,
    )
    assert not control.ListCalls(control_pb2.ListCallsRequest()).calls


def test_R79_no_code_is_in_the_log_the_journal_or_the_folder(
    shared: Any, control: ControlServiceStub, activation: ActivationServiceStub, key: Key
) -> None:
    lower = "  test0-SECRE-tcode-zzzzz "
    code = lower.strip().upper()
    control.DefineCode(control_pb2.DefineCodeRequest(code=lower, key=key()))
    activation.RedeemCode(activation_pb2.RedeemCodeRequest(code=code, installation_id="here"))
    for bad in (lower, code + "-AAAAA", "TEST0SECRETCODEZZZZZ"):
        with pytest.raises(grpc.RpcError):
            activation.RedeemCode(
                activation_pb2.RedeemCodeRequest(code=bad, installation_id="here")
            )
    journal = str(control.ListCalls(control_pb2.ListCallsRequest()))
    files = [path.read_text() for path in Path(shared.facts["data"]).iterdir()]
    for text in (journal, shared.log(), *files):
        assert "SECRE" not in text.upper()
    assert "ZZZZZ" in journal
    assert "ZZZZZ" in shared.log()


def test_the_largest_journal_can_be_received(
    control: ControlServiceStub, activation: ActivationServiceStub
) -> None:
    request = activation_pb2.CheckKeysRequest(serials=[UNKNOWN] * 1000, installation_id="i" * 128)
    for _ in range(52):
        activation.CheckKeys(request)
    calls = control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert [call.number for call in calls] == list(range(3, 53))


def test_the_clock_stands_until_it_is_let_run(control: ControlServiceStub, at: Any) -> None:
    def now() -> datetime:
        return from_timestamp(control.GetStatus(control_pb2.GetStatusRequest()).time)

    assert (now(), now()) == (at(0), at(0))
    control.SetClock(control_pb2.SetClockRequest(time=to_timestamp(at(-400))))
    assert now() == at(-400)
    control.SetClock(control_pb2.SetClockRequest())
    assert abs(now() - datetime.now(UTC)) < timedelta(seconds=10)


def test_the_status_tells_the_public_keys_that_are_pinned(
    shared: Any, control: ControlServiceStub, key: Key
) -> None:
    status = control.GetStatus(control_pb2.GetStatusRequest())
    issued = control.IssueKey(control_pb2.IssueKeyRequest(key=key()))
    told = TrustedSigners.from_text(dict(status.public_keys))
    assert told.read(issued.key_file) == shared.trusted.read(issued.key_file)


def test_a_reset_forgets_all_but_the_signing_key_and_the_clock(
    control: ControlServiceStub,
    activation: ActivationServiceStub,
    key: Key,
    trusted: TrustedSigners,
    at: Any,
) -> None:
    control.DefineCode(control_pb2.DefineCodeRequest(code=CODE, key=key("TRIAL")))
    serial = control.IssueKey(control_pb2.IssueKeyRequest(key=key())).serial
    request = activation_pb2.RedeemCodeRequest(code=CODE, installation_id="here")
    activation.RedeemCode(request)
    faults = [Fault(kind=control_pb2.FAULT_KIND_UNAVAILABLE)]
    control.SetFaults(control_pb2.SetFaultsRequest(faults=faults))
    control.Reset(control_pb2.ResetRequest())
    assert not control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert activation.RedeemCode(request).verdict == activation_pb2.VERDICT_NOT_FOUND
    with pytest.raises(grpc.RpcError) as refused:
        control.BlockKey(control_pb2.BlockKeyRequest(serial=serial))
    assert read_problem(refused.value).reason == "KEY_NOT_FOUND"
    (call,) = control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert (call.number, from_timestamp(call.called_at)) == (1, at(0))
    control.DefineCode(control_pb2.DefineCodeRequest(code=CODE, key=key("TRIAL")))
    assert trusted.read(activation.RedeemCode(request).key_file)


BAD_KEYS: list[tuple[dict[str, Any], list[str]]] = [
    ({"type": 0, "kind": 0, "edition": 0}, ["key.type", "key.kind", "key.edition"]),
    ({"type": 99}, ["key.type"]),
    ({"unit_limit": -1}, ["key.unit_limit"]),
    ({"unit_limit": 10_000_001}, ["key.unit_limit"]),
    ({"term": Duration(seconds=-1)}, ["key.term"]),
    ({"term": Duration()}, ["key.term"]),
    ({"term": Duration(nanos=999)}, ["key.term"]),
    ({"term": Duration(seconds=10**11)}, ["key.term"]),
    ({"term": None}, ["key.term"]),
    ({"grace": Duration(seconds=1)}, ["key.grace"]),
    ({"stops_protection": True}, ["key.stops_protection"]),
    ({"not_before": Timestamp(seconds=-1)}, ["key.not_before"]),
    ({"not_before": Timestamp(seconds=253402300799)}, ["key.not_before"]),
    ({"not_before": Timestamp(seconds=253402300800)}, ["key.not_before"]),
    ({"kind": key_pb2.KEY_KIND_SUBSCRIPTION, "grace": Duration(seconds=-1)}, ["key.grace"]),
]


@pytest.mark.parametrize(("changes", "fields"), BAD_KEYS)
def test_a_key_that_breaks_rules_is_refused_with_every_field(
    control: ControlServiceStub, key: Key, changes: dict[str, Any], fields: list[str]
) -> None:
    good = key()
    plain = {field.name: value for field, value in good.ListFields()}
    bad = KeyProperties(**(plain | changes))
    for call in (
        lambda: control.IssueKey(control_pb2.IssueKeyRequest(key=bad)),
        lambda: control.DefineCode(control_pb2.DefineCodeRequest(code=CODE, key=bad)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        problem = read_problem(refused.value)
        assert (problem.code, problem.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        )
        assert [violation.field for violation in problem.violations] == fields


def subscription(**fields: Any) -> Any:
    state = fields.pop("state", activation_pb2.SUBSCRIPTION_STATE_ACTIVE)
    return control_pb2.ChangeSubscriptionRequest(
        subscription=activation_pb2.Subscription(state=state, **fields)
    )


def fault(**fields: Any) -> Any:
    fields = {"kind": control_pb2.FAULT_KIND_UNAVAILABLE} | fields
    return control_pb2.SetFaultsRequest(faults=[Fault(), Fault(**fields)][1:])


BAD_REQUESTS: list[tuple[str, Any, str, list[str]]] = [
    ("DefineCode", {"code": ""}, "INVALID_FIELD", ["code"]),
    ("DefineCode", {"code": "TEST0-AAAAA"}, "MALFORMED_ACTIVATION_CODE", ["code"]),
    ("DefineCode", {"activation_limit": -1}, "INVALID_FIELD", ["activation_limit"]),
    ("DefineCode", {"renewals": -1}, "INVALID_FIELD", ["renewals"]),
    ("DefineCode", {"verdict": 77}, "INVALID_FIELD", ["verdict"]),
    (
        "DefineCode",
        {"activation_limit": -1, "renewals": -1},
        "INVALID_FIELD",
        ["activation_limit", "renewals"],
    ),
    ("IssueKey", control_pb2.IssueKeyRequest(), "INVALID_FIELD", ["key"]),
    ("BlockKey", control_pb2.BlockKeyRequest(), "INVALID_FIELD", ["serial"]),
    ("BlockKey", control_pb2.BlockKeyRequest(serial="x"), "INVALID_FIELD", ["serial"]),
    ("BlockKey", control_pb2.BlockKeyRequest(serial=UNKNOWN), "KEY_NOT_FOUND", []),
    (
        "ChangeSubscription",
        control_pb2.ChangeSubscriptionRequest(),
        "INVALID_FIELD",
        ["subscription"],
    ),
    (
        "ChangeSubscription",
        subscription(state=0),
        "INVALID_FIELD",
        ["subscription.serial", "subscription.state"],
    ),
    ("ChangeSubscription", subscription(serial=UNKNOWN), "KEY_NOT_FOUND", []),
    (
        "ChangeSubscription",
        subscription(serial=UNKNOWN, grace=Duration(seconds=-5)),
        "INVALID_FIELD",
        ["subscription.grace"],
    ),
    (
        "ChangeSubscription",
        subscription(serial=UNKNOWN, state=activation_pb2.SUBSCRIPTION_STATE_CANCELLED_SOFT),
        "INVALID_FIELD",
        ["subscription.ends_at"],
    ),
    (
        "ChangeSubscription",
        subscription(serial=UNKNOWN, provider_url="x" * 2001),
        "INVALID_FIELD",
        ["subscription.provider_url"],
    ),
    ("SetFaults", fault(kind=0), "INVALID_FIELD", ["faults[0].kind"]),
    ("SetFaults", fault(method="Redeem"), "INVALID_FIELD", ["faults[0].method"]),
    ("SetFaults", fault(percent=101), "INVALID_FIELD", ["faults[0].percent"]),
    ("SetFaults", fault(calls=-1), "INVALID_FIELD", ["faults[0].calls"]),
    ("SetFaults", fault(delay=Duration(seconds=1)), "INVALID_FIELD", ["faults[0].delay"]),
    ("SetFaults", fault(verdict=2), "INVALID_FIELD", ["faults[0].verdict"]),
    (
        "SetFaults",
        fault(kind=control_pb2.FAULT_KIND_DELAY),
        "INVALID_FIELD",
        ["faults[0].delay"],
    ),
    (
        "SetFaults",
        fault(kind=control_pb2.FAULT_KIND_DELAY, delay=Duration(seconds=601)),
        "INVALID_FIELD",
        ["faults[0].delay"],
    ),
    (
        "SetFaults",
        fault(kind=control_pb2.FAULT_KIND_WRONG_VERDICT),
        "INVALID_FIELD",
        ["faults[0].verdict"],
    ),
    (
        "SetFaults",
        fault(kind=control_pb2.FAULT_KIND_BAD_SIGNATURE, method="CheckKeys"),
        "INVALID_FIELD",
        ["faults[0].method"],
    ),
    (
        "SetFaults",
        control_pb2.SetFaultsRequest(
            faults=[Fault(kind=control_pb2.FAULT_KIND_UNAVAILABLE)] * 1001
        ),
        "INVALID_FIELD",
        ["faults"],
    ),
    (
        "SetClock",
        control_pb2.SetClockRequest(time=Timestamp(seconds=-1)),
        "INVALID_FIELD",
        ["time"],
    ),
    (
        "SetClock",
        control_pb2.SetClockRequest(time=Timestamp(nanos=-1)),
        "INVALID_FIELD",
        ["time"],
    ),
    (
        "SetClock",
        control_pb2.SetClockRequest(time=Timestamp(seconds=253402300799)),
        "INVALID_FIELD",
        ["time"],
    ),
]


@pytest.mark.parametrize(("rpc", "request_", "reason", "fields"), BAD_REQUESTS)
def test_malformed_control_input_gets_a_typed_error(
    control: ControlServiceStub,
    key: Key,
    rpc: str,
    request_: Any,
    reason: str,
    fields: list[str],
) -> None:
    if isinstance(request_, dict):
        given: dict[str, Any] = {"code": CODE, "key": key()} | request_
        request_ = control_pb2.DefineCodeRequest(**given)
    with pytest.raises(grpc.RpcError) as refused:
        getattr(control, rpc)(request_)
    problem = read_problem(refused.value)
    assert problem.reason == reason
    assert [violation.field for violation in problem.violations] == fields


def test_R53_a_trial_is_not_renewed_and_a_plain_key_is_no_subscription(
    control: ControlServiceStub, key: Key
) -> None:
    request = control_pb2.DefineCodeRequest(code=CODE, key=key("TRIAL"), renewals=1)
    with pytest.raises(grpc.RpcError, match="R53"):
        control.DefineCode(request)
    serial = control.IssueKey(control_pb2.IssueKeyRequest(key=key())).serial
    with pytest.raises(grpc.RpcError, match="no subscription's key"):
        control.ChangeSubscription(subscription(serial=serial))


def test_what_was_refused_changed_nothing(control: ControlServiceStub, key: Key) -> None:
    faults = [
        Fault(kind=control_pb2.FAULT_KIND_DELAY, delay=to_duration(timedelta(seconds=1))),
        Fault(kind=control_pb2.FAULT_KIND_DELAY),
    ]
    with pytest.raises(grpc.RpcError):
        control.SetFaults(control_pb2.SetFaultsRequest(faults=faults))
    assert control.IssueKey(control_pb2.IssueKeyRequest(key=key())).serial
