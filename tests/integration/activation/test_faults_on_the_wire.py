"""Every kind of fault, as a client meets it."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.control.v1.control_pb2_grpc import ControlServiceStub
from sparekey.activation.v1 import activation_pb2
from sparekey.activation.v1.activation_pb2_grpc import ActivationServiceStub
from sparekey.licensing.key_files import InvalidKeyFile, KeyFileProblem, TrustedSigners
from sparekey.wire.errors import read_problem
from sparekey.wire.timestamps import to_duration

OTHER = "TEST0-DDDDD-EEEEE-FFFFF"
UNKNOWN = "0123456789ABCDEF" * 2
Redeem = Callable[..., activation_pb2.RedeemCodeResponse]


@pytest.fixture
def code(control: ControlServiceStub, define: Callable[..., str], key: Callable[..., Any]) -> str:
    return define(control, key(), renewals=1)


@pytest.fixture
def set_fault(control: ControlServiceStub) -> Callable[..., None]:
    """Put one fault in force, for one call of RedeemCode unless it is said otherwise."""

    def make(kind: str, **more: Any) -> None:
        fault: dict[str, Any] = {"method": "RedeemCode", "calls": 1} | more
        number = control_pb2.FaultKind.Value(f"FAULT_KIND_{kind}")
        faults = [control_pb2.Fault(kind=number, **fault)]
        control.SetFaults(control_pb2.SetFaultsRequest(faults=faults, seed=1))

    return make


@pytest.fixture
def redeem(activation: ActivationServiceStub) -> Redeem:
    def call(code: str, timeout: float = 10) -> activation_pb2.RedeemCodeResponse:
        request = activation_pb2.RedeemCodeRequest(code=code, installation_id="here")
        return activation.RedeemCode(request, timeout=timeout)

    return call


def journal(control: ControlServiceStub) -> list[tuple[str, str, str]]:
    """Method, verdict and fault of each call."""
    return [
        (
            call.method,
            activation_pb2.Verdict.Name(call.verdict).removeprefix("VERDICT_"),
            control_pb2.FaultKind.Name(call.fault).removeprefix("FAULT_KIND_"),
        )
        for call in control.ListCalls(control_pb2.ListCallsRequest()).calls
    ]


def check(activation: ActivationServiceStub, *serials: str) -> activation_pb2.CheckKeysResponse:
    return activation.CheckKeys(
        activation_pb2.CheckKeysRequest(serials=serials, installation_id="here")
    )


def test_unavailable_strikes_before_anything_is_done(
    control: ControlServiceStub,
    activation: ActivationServiceStub,
    code: str,
    set_fault: Callable[..., None],
    redeem: Redeem,
) -> None:
    set_fault("UNAVAILABLE", calls=2)
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as failed:
            redeem(code)
        assert read_problem(failed.value).code is grpc.StatusCode.UNAVAILABLE
        check(activation, UNKNOWN)
    assert redeem(code).verdict == activation_pb2.VERDICT_OK
    assert journal(control) == [
        *[
            ("RedeemCode", "UNSPECIFIED", "UNAVAILABLE"),
            ("CheckKeys", "NOT_FOUND", "UNSPECIFIED"),
        ]
        * 2,
        ("RedeemCode", "OK", "UNSPECIFIED"),
    ]


def test_delay_answers_late_and_who_gave_up_finds_the_call_carried_out(
    control: ControlServiceStub, code: str, set_fault: Callable[..., None], redeem: Redeem
) -> None:
    set_fault("DELAY", delay=to_duration(timedelta(seconds=0.3)), calls=2)
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as failed:
        redeem(code, timeout=0.1)
    assert read_problem(failed.value).code is grpc.StatusCode.DEADLINE_EXCEEDED
    (call,) = control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert call.fault == control_pb2.FAULT_KIND_DELAY
    started = time.monotonic()
    answered = redeem(code)
    assert time.monotonic() - started >= 0.3
    assert answered == redeem(code)
    calls = control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert len({tuple(call.serials) for call in calls}) == 1


def test_a_wrong_verdict_is_a_lie_about_a_call_that_was_carried_out(
    control: ControlServiceStub,
    activation: ActivationServiceStub,
    code: str,
    set_fault: Callable[..., None],
    redeem: Redeem,
) -> None:
    set_fault("WRONG_VERDICT", verdict=activation_pb2.VERDICT_BLOCKED, method="")
    lied = redeem(code)
    assert (lied.verdict, lied.key_file) == (activation_pb2.VERDICT_BLOCKED, b"")
    (call,) = control.ListCalls(control_pb2.ListCallsRequest()).calls
    (serial,) = call.serials
    assert check(activation, serial).checks[0].verdict == activation_pb2.VERDICT_OK
    set_fault("WRONG_VERDICT", verdict=activation_pb2.VERDICT_BLOCKED, method="CheckKeys")
    lied_of = check(activation, serial, UNKNOWN).checks
    assert [item.verdict for item in lied_of] == [activation_pb2.VERDICT_BLOCKED] * 2
    assert all(item.HasField("blocked_at") for item in lied_of)
    set_fault("WRONG_VERDICT", verdict=activation_pb2.VERDICT_OK)
    false_ok = redeem(OTHER)
    assert (false_ok.verdict, false_ok.key_file) == (activation_pb2.VERDICT_OK, b"")


def test_a_duplicate_answer_is_that_of_the_call_before(
    control: ControlServiceStub,
    define: Callable[..., str],
    key: Callable[..., Any],
    code: str,
    set_fault: Callable[..., None],
    redeem: Redeem,
) -> None:
    set_fault("DUPLICATE_ANSWER")
    other = define(control, key(), OTHER)
    first = redeem(code)
    assert redeem(other) == first
    own = redeem(other)
    assert own.verdict == activation_pb2.VERDICT_OK
    assert own != first
    faults = [fault for _, _, fault in journal(control)]
    assert faults == ["UNSPECIFIED", "DUPLICATE_ANSWER", "UNSPECIFIED"]


def test_a_cut_connection_loses_the_answer_of_a_call_that_was_carried_out(
    shared: Any, control: ControlServiceStub, code: str, set_fault: Callable[..., None]
) -> None:
    set_fault("CUT_CONNECTION")
    request = activation_pb2.RedeemCodeRequest(code=code, installation_id="here")
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as failed:
        shared.activation.RedeemCode(request, timeout=10)
    problem = read_problem(failed.value)
    # No error of ours: the connection itself was gone, at once.
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "")
    assert time.monotonic() - started < 3
    assert journal(control) == [("RedeemCode", "OK", "CUT_CONNECTION")]
    # On a new channel: the old one may still try the connection that is gone.
    assert shared.activation.RedeemCode(request).verdict == activation_pb2.VERDICT_OK
    calls = control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert calls[0].serials == calls[1].serials


def test_R80_a_bad_signature_is_bad_for_its_reader(
    activation: ActivationServiceStub,
    code: str,
    set_fault: Callable[..., None],
    redeem: Redeem,
    trusted: TrustedSigners,
) -> None:
    set_fault("BAD_SIGNATURE", method="", calls=2)
    check(activation, UNKNOWN)
    redeemed = redeem(code)
    serial = serial_of(redeemed.key_file)
    request = activation_pb2.RenewKeyRequest(serial=serial, installation_id="here")
    renewed = activation.RenewKey(request)
    assert redeemed.verdict == renewed.verdict == activation_pb2.VERDICT_OK
    for key_file in (redeemed.key_file, renewed.key_file):
        with pytest.raises(InvalidKeyFile) as refused:
            trusted.read(key_file)
        assert refused.value.problem is KeyFileProblem.BAD_SIGNATURE
    assert trusted.read(redeem(code).key_file).serial == serial
    assert trusted.read(activation.RenewKey(request).key_file).serial != serial


def serial_of(key_file: bytes) -> str:
    return key_file.split(b'"serial":"')[1].split(b'"')[0].decode()


def test_a_share_is_struck_alike_for_the_same_seed_and_no_faults_heal_everything(
    control: ControlServiceStub,
    activation: ActivationServiceStub,
    set_fault: Callable[..., None],
) -> None:
    def struck() -> list[bool]:
        control.ListCalls(control_pb2.ListCallsRequest(clear=True))
        for _ in range(60):
            with suppress(grpc.RpcError):
                check(activation, UNKNOWN)
        return [fault == "UNAVAILABLE" for _, _, fault in journal(control)]

    runs = []
    for _ in range(2):
        set_fault("UNAVAILABLE", method="", calls=0, percent=30)
        runs.append(struck())
    assert runs[0] == runs[1]
    assert 5 < sum(runs[0]) < 40
    control.SetFaults(control_pb2.SetFaultsRequest())
    assert not any(struck())
