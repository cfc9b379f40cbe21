"""ActivationService over a real socket: every verdict."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.control.v1.control_pb2_grpc import ControlServiceStub
from sparekey.activation.v1 import activation_pb2
from sparekey.activation.v1.activation_pb2_grpc import ActivationServiceStub
from sparekey.licensing.key_files import TrustedSigners
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType
from sparekey.wire.errors import read_problem
from sparekey.wire.timestamps import from_timestamp, to_duration, to_timestamp

At = Callable[[float], datetime]
GoTo = Callable[[float], None]
Key = Callable[..., control_pb2.KeyProperties]
Define = Callable[..., str]
OTHER = "TEST0-DDDDD-EEEEE-FFFFF"
UNKNOWN = "0123456789ABCDEF" * 2


@pytest.fixture
def redeem(activation: ActivationServiceStub) -> Callable[..., Any]:
    """Redeem a code; gives the verdict's name and the key file."""

    def call(code: str, installation: str = "here", validate_only: bool = False) -> Any:
        response = activation.RedeemCode(
            activation_pb2.RedeemCodeRequest(
                code=code, installation_id=installation, validate_only=validate_only
            )
        )
        return activation_pb2.Verdict.Name(response.verdict), response.key_file

    return call


@pytest.fixture
def renew(activation: ActivationServiceStub) -> Callable[..., Any]:
    """Renew a key; gives the verdict's name and the key file."""

    def call(serial: str, installation: str = "here") -> Any:
        response = activation.RenewKey(
            activation_pb2.RenewKeyRequest(serial=serial, installation_id=installation)
        )
        return activation_pb2.Verdict.Name(response.verdict), response.key_file

    return call


def test_R47_R48_a_code_is_exchanged_for_a_signed_key(
    control: ControlServiceStub,
    define: Define,
    key: Key,
    redeem: Callable[..., Any],
    trusted: TrustedSigners,
    at: At,
) -> None:
    verdict, key_file = redeem(define(control, key()))
    assert verdict == "VERDICT_OK"
    signed = trusted.read(key_file)
    assert signed.origin is KeyOrigin.ACTIVATION_CODE
    assert (signed.type, signed.kind) == (KeyType.SERVER, KeyKind.COMMERCIAL)
    assert (signed.edition, signed.unit_limit) == (Edition.STANDARD, 100)
    assert (signed.not_before, signed.expires_at) == (at(0), at(30))


def test_R79_every_verdict(
    control: ControlServiceStub,
    define: Define,
    key: Key,
    redeem: Callable[..., Any],
    go_to: GoTo,
    at: At,
) -> None:
    code = define(control, key(), redeem_before=to_timestamp(at(5)), activation_limit=2)
    assert redeem(OTHER) == ("VERDICT_NOT_FOUND", b"")
    for verdict in (activation_pb2.VERDICT_BLOCKED, activation_pb2.VERDICT_WRONG_PRODUCT):
        define(control, key(), OTHER, verdict=verdict)
        assert redeem(OTHER) == (activation_pb2.Verdict.Name(verdict), b"")
    first = redeem(code)
    assert first[0] == "VERDICT_OK"
    assert redeem(code) == first
    assert redeem(code, "there")[0] == "VERDICT_OK"
    assert redeem(code, "elsewhere") == ("VERDICT_ACTIVATION_LIMIT", b"")
    go_to(5)
    assert redeem(code, "elsewhere") == ("VERDICT_EXPIRED", b"")
    assert redeem(code) == first


def test_R53_R97_a_trial_is_once(
    control: ControlServiceStub,
    define: Define,
    key: Key,
    redeem: Callable[..., Any],
    go_to: GoTo,
) -> None:
    code = define(control, key("TRIAL"), activation_limit=9)
    other = define(control, key("TRIAL"), OTHER, activation_limit=9)
    first = redeem(code)
    assert redeem(code) == first
    assert redeem(other) == ("VERDICT_TRIAL_USED", b"")
    assert redeem(other, "there")[0] == "VERDICT_OK"
    go_to(30)
    assert redeem(code) == ("VERDICT_EXPIRED", b"")
    assert redeem(other) == ("VERDICT_TRIAL_USED", b"")


def test_validate_only_counts_nothing_and_leaves_nothing(
    control: ControlServiceStub,
    activation: ActivationServiceStub,
    define: Define,
    key: Key,
    redeem: Callable[..., Any],
    trusted: TrustedSigners,
) -> None:
    code = define(control, key("TRIAL"))
    preview = redeem(code, validate_only=True)
    assert preview[0] == "VERDICT_OK"
    assert redeem(code, validate_only=True) == preview
    serial = trusted.read(preview[1]).serial
    checked = activation.CheckKeys(
        activation_pb2.CheckKeysRequest(serials=[serial], installation_id="here")
    )
    assert checked.checks[0].verdict == activation_pb2.VERDICT_NOT_FOUND
    assert redeem(code, "there")[0] == "VERDICT_OK"
    assert redeem(code, validate_only=True) == ("VERDICT_ACTIVATION_LIMIT", b"")
    calls = control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert list(calls[0].serials) == []


@pytest.mark.parametrize(
    "code",
    ["TEST0", "test0-aaaaa-bbbbb-ccccc", " TEST0-AAAAA-BBBBB-CCCCC", "TEST0-AAAAA-BBBBB-CCC_C"],
)
def test_R79_a_code_not_in_its_plain_form_is_refused_and_the_journal_tells(
    control: ControlServiceStub, define: Define, key: Key, redeem: Callable[..., Any], code: str
) -> None:
    define(control, key())
    with pytest.raises(grpc.RpcError) as refused:
        redeem(code)
    problem = read_problem(refused.value)
    assert (problem.code, problem.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_ACTIVATION_CODE",
    )
    assert code.strip() not in problem.message
    (call,) = control.ListCalls(control_pb2.ListCallsRequest()).calls
    assert (call.method, call.verdict, call.code_ending) == ("RedeemCode", 0, "")


def test_R16_a_key_is_renewed_as_often_as_its_code_allows(
    control: ControlServiceStub,
    define: Define,
    key: Key,
    redeem: Callable[..., Any],
    renew: Callable[..., Any],
    trusted: TrustedSigners,
    go_to: GoTo,
    at: At,
) -> None:
    old = trusted.read(redeem(define(control, key(), renewals=1))[1])
    go_to(30)
    answer = renew(old.serial)
    new = trusted.read(answer[1])
    assert (new.not_before, new.expires_at) == (at(30), at(60))
    assert (new.type, new.kind, new.edition) == (old.type, old.kind, old.edition)
    assert new.unit_limit == old.unit_limit
    go_to(60)
    assert renew(old.serial) == answer
    assert renew(new.serial) == ("VERDICT_EXPIRED", b"")
    assert renew(new.serial, "there") == ("VERDICT_NOT_FOUND", b"")
    assert renew(UNKNOWN) == ("VERDICT_NOT_FOUND", b"")
    control.BlockKey(control_pb2.BlockKeyRequest(serial=new.serial))
    assert renew(new.serial) == ("VERDICT_BLOCKED", b"")
    filed = control.IssueKey(control_pb2.IssueKeyRequest(key=key()))
    assert renew(filed.serial) == ("VERDICT_NOT_FOUND", b"")


def test_R72_checks_come_one_for_each_serial_in_the_order_asked(
    control: ControlServiceStub, activation: ActivationServiceStub, key: Key, go_to: GoTo, at: At
) -> None:
    issued = [control.IssueKey(control_pb2.IssueKeyRequest(key=key())).serial for _ in range(2)]
    go_to(3)
    control.BlockKey(control_pb2.BlockKeyRequest(serial=issued[1]))
    go_to(4)

    def verdicts() -> list[str]:
        asked = [issued[1], UNKNOWN, issued[0], issued[1]]
        response = activation.CheckKeys(
            activation_pb2.CheckKeysRequest(serials=asked, installation_id="here")
        )
        assert [check.serial for check in response.checks] == asked
        for check in response.checks:
            is_blocked = check.verdict == activation_pb2.VERDICT_BLOCKED
            assert check.HasField("blocked_at") is is_blocked
            assert not is_blocked or from_timestamp(check.blocked_at) == at(3)
        names = [activation_pb2.Verdict.Name(check.verdict) for check in response.checks]
        return [name.removeprefix("VERDICT_") for name in names]

    assert verdicts() == ["BLOCKED", "NOT_FOUND", "OK", "BLOCKED"]
    control.BlockKey(control_pb2.BlockKeyRequest(serial=issued[1], lift=True))
    assert verdicts() == ["OK", "NOT_FOUND", "OK", "OK"]


def test_R96_a_subscription_stands_as_the_clock_and_its_provider_say(
    control: ControlServiceStub,
    activation: ActivationServiceStub,
    key: Key,
    trusted: TrustedSigners,
    go_to: GoTo,
    at: At,
) -> None:
    five_days = to_duration(timedelta(days=5))
    properties = key("SUBSCRIPTION", grace=five_days, stops_protection=True)
    issued = control.IssueKey(control_pb2.IssueKeyRequest(key=properties))
    serial = issued.serial
    assert trusted.read(issued.key_file).kind is KeyKind.SUBSCRIPTION

    def subscription() -> activation_pb2.Subscription:
        response = activation.GetSubscription(
            activation_pb2.GetSubscriptionRequest(serial=serial, installation_id="here")
        )
        assert response.verdict == activation_pb2.VERDICT_OK
        return response.subscription

    first = subscription()
    assert first == activation_pb2.Subscription(
        serial=serial,
        state=activation_pb2.SUBSCRIPTION_STATE_ACTIVE,
        ends_at=to_timestamp(at(30)),
        grace=five_days,
        stops_protection=True,
    )
    go_to(30)
    assert subscription().state == activation_pb2.SUBSCRIPTION_STATE_GRACE
    go_to(35)
    assert subscription().state == activation_pb2.SUBSCRIPTION_STATE_EXPIRED
    renewed = activation_pb2.Subscription(
        serial=serial,
        state=activation_pb2.SUBSCRIPTION_STATE_ACTIVE,
        ends_at=to_timestamp(at(60)),
        provider_url="https://provider.test/",
    )
    control.ChangeSubscription(control_pb2.ChangeSubscriptionRequest(subscription=renewed))
    answered = subscription()
    assert from_timestamp(answered.ends_at) == at(60)
    assert (answered.state, answered.provider_url) == (renewed.state, renewed.provider_url)
    for state in ("PAUSED", "CANCELLED_SOFT", "CANCELLED_HARD", "PENDING"):
        renewed.state = activation_pb2.SubscriptionState.Value(f"SUBSCRIPTION_STATE_{state}")
        control.ChangeSubscription(control_pb2.ChangeSubscriptionRequest(subscription=renewed))
        assert subscription().state == renewed.state


def test_a_subscription_is_only_that_of_a_known_unblocked_subscription_key(
    control: ControlServiceStub, activation: ActivationServiceStub, key: Key
) -> None:
    plain = control.IssueKey(control_pb2.IssueKeyRequest(key=key())).serial
    unlimited = key("SUBSCRIPTION", None)
    blocked = control.IssueKey(control_pb2.IssueKeyRequest(key=unlimited)).serial
    control.BlockKey(control_pb2.BlockKeyRequest(serial=blocked))
    for serial, verdict in ((plain, "NOT_FOUND"), (UNKNOWN, "NOT_FOUND"), (blocked, "BLOCKED")):
        response = activation.GetSubscription(
            activation_pb2.GetSubscriptionRequest(serial=serial, installation_id="here")
        )
        assert activation_pb2.Verdict.Name(response.verdict) == f"VERDICT_{verdict}"
        assert not response.HasField("subscription")


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("RedeemCode", activation_pb2.RedeemCodeRequest(code=OTHER), "installation_id"),
        (
            "RedeemCode",
            activation_pb2.RedeemCodeRequest(code=OTHER, installation_id="x" * 129),
            "installation_id",
        ),
        (
            "RenewKey",
            activation_pb2.RenewKeyRequest(serial="short", installation_id="here"),
            "serial",
        ),
        ("CheckKeys", activation_pb2.CheckKeysRequest(installation_id="here"), "serials"),
        (
            "CheckKeys",
            activation_pb2.CheckKeysRequest(serials=[UNKNOWN, "x"], installation_id="here"),
            "serials",
        ),
        (
            "CheckKeys",
            activation_pb2.CheckKeysRequest(serials=[UNKNOWN] * 1001, installation_id="here"),
            "serials",
        ),
        (
            "GetSubscription",
            activation_pb2.GetSubscriptionRequest(serial=UNKNOWN, installation_id="a b"),
            "installation_id",
        ),
    ],
)
def test_a_bad_request_is_refused_and_not_in_the_journal(
    control: ControlServiceStub,
    activation: ActivationServiceStub,
    rpc: str,
    request_: Any,
    field: str,
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        getattr(activation, rpc)(request_)
    problem = read_problem(refused.value)
    assert problem.reason == "INVALID_FIELD"
    assert [violation.field for violation in problem.violations] == [field]
    assert list(control.ListCalls(control_pb2.ListCallsRequest()).calls) == []
