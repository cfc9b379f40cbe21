"""Adding keys by activation code: every verdict, and an activation server that is not there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.v1 import activation_pb2
from sparekey.v1 import event_pb2, key_pb2
from sparekey.wire.timestamps import from_timestamp, to_duration, to_timestamp

from .site import NOW, Site
from .words import outcomes_of, refusal_of

CODE = "TEST0-AAAAA-BBBBB-CCCCC"


def properties(**more: Any) -> control_pb2.KeyProperties:
    values: dict[str, Any] = {
        "type": key_pb2.KEY_TYPE_SERVER,
        "kind": key_pb2.KEY_KIND_COMMERCIAL,
        "edition": key_pb2.EDITION_STANDARD,
        "unit_limit": 100,
        "term": to_duration(timedelta(days=30)),
    }
    return control_pb2.KeyProperties(**(values | more))


async def define(site: Site, code: str = CODE, **more: Any) -> None:
    request = control_pb2.DefineCodeRequest(code=code, key=more.pop("key", properties()), **more)
    await site.control.DefineCode(request)


async def journal(site: Site) -> list[control_pb2.Call]:
    return list((await site.control.ListCalls(control_pb2.ListCallsRequest())).calls)


def by_code(code: str = CODE, **more: Any) -> key_pb2.AddKeyRequest:
    return key_pb2.AddKeyRequest(activation_code=code, **more)


async def test_R31_R48_a_code_is_exchanged_for_a_key(site_with_codes: Site) -> None:
    site = site_with_codes
    await define(site)
    added = await site.keys.AddKey(by_code())
    assert added.key.origin == key_pb2.KEY_ORIGIN_ACTIVATION_CODE
    assert added.key.code_ending == "CCCCC"
    assert from_timestamp(added.key.expires_at) == NOW + timedelta(days=30)
    assert (await site.keys.AddKey(by_code())).already_stored
    await site.connect("svm-1")
    task = await site.ended(site.activate(added.key.serial))
    assert outcomes_of(task) == {"svm-1": "APPLIED"}
    calls = await journal(site)
    assert [(call.method, call.code_ending) for call in calls] == [("RedeemCode", "CCCCC")] * 2
    assert len({call.installation_id for call in calls}) == 1


@pytest.mark.parametrize("written", [CODE.lower(), f"  {CODE} ", f"\t{CODE.title()}\n"])
async def test_R47_R79_a_code_is_trimmed_and_put_in_upper_case(
    site_with_codes: Site, written: str
) -> None:
    await define(site_with_codes)
    added = await site_with_codes.keys.AddKey(by_code(written))
    assert added.key.code_ending == "CCCCC"


@pytest.mark.parametrize(
    "code",
    [
        "TEST0",
        "TEST0-AAAAA-BBBBB",
        "TEST0-AAAAA-BBBBB-CCCCC-DDDDD",
        "TEST0AAAAABBBBBCCCCC",
        "TEST0-AAAAA-BBBBB-CCCC!",
        "TEST0-AAAAA-BBBBB-CCCCÄ",
        "TEST0-AAAAA-BBBBB\u2010CCCCC",
        " ",
    ],
)
async def test_R79_a_malformed_code_never_leaves_the_house(
    site_with_codes: Site, code: str
) -> None:
    site = site_with_codes
    before = site.dump()
    problem = await refusal_of(site.keys.AddKey(by_code(code)))
    assert problem.reason == "MALFORMED_ACTIVATION_CODE"
    assert await journal(site) == []
    assert site.dump() == before


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (activation_pb2.VERDICT_NOT_FOUND, "CODE_NOT_FOUND"),
        (activation_pb2.VERDICT_BLOCKED, "CODE_BLOCKED"),
        (activation_pb2.VERDICT_EXPIRED, "CODE_EXPIRED"),
        (activation_pb2.VERDICT_ACTIVATION_LIMIT, "ACTIVATION_LIMIT"),
        (activation_pb2.VERDICT_TRIAL_USED, "TRIAL_USED"),
        (activation_pb2.VERDICT_WRONG_PRODUCT, "WRONG_PRODUCT"),
    ],
)
async def test_R79_every_verdict_has_its_reason_and_nothing_is_stored(
    site_with_codes: Site, verdict: activation_pb2.Verdict.ValueType, reason: str
) -> None:
    site = site_with_codes
    await define(site, verdict=verdict)
    before = site.dump()
    assert (await refusal_of(site.keys.AddKey(by_code()))).reason == reason
    assert (await refusal_of(site.keys.AddKey(by_code(validate_only=True)))).reason == reason
    assert site.dump() == before


async def test_R53_R79_true_verdicts_of_the_activation_server(site_with_codes: Site) -> None:
    """Unknown, late and a second trial, by the activation server's own rules."""
    site = site_with_codes
    assert (await refusal_of(site.keys.AddKey(by_code()))).reason == "CODE_NOT_FOUND"
    await define(site, redeem_before=to_timestamp(NOW))
    assert (await refusal_of(site.keys.AddKey(by_code()))).reason == "CODE_EXPIRED"
    for code in ("TEST0-AAAAA-AAAAA-AAAAA", "TEST0-AAAAA-AAAAA-BBBBB"):
        await define(site, code, key=properties(kind=key_pb2.KEY_KIND_TRIAL))
    await site.keys.AddKey(by_code("TEST0-AAAAA-AAAAA-AAAAA"))
    second = site.keys.AddKey(by_code("TEST0-AAAAA-AAAAA-BBBBB"))
    assert (await refusal_of(second)).reason == "TRIAL_USED"


async def test_a_dry_run_uses_nothing_up(site_with_codes: Site) -> None:
    site = site_with_codes
    await define(site)
    before = site.dump()
    dry = await site.keys.AddKey(by_code(validate_only=True))
    assert dry.key.code_ending == "CCCCC"
    assert not dry.already_stored
    assert site.dump() == before
    await site.keys.AddKey(by_code())


async def test_R79_an_activation_server_that_is_down_is_no_verdict(site_with_codes: Site) -> None:
    site = site_with_codes
    assert site.fake is not None
    await define(site)
    await site.fake.stop()
    before = site.dump()
    problem = await refusal_of(site.keys.AddKey(by_code()))
    assert problem.reason == "ACTIVATION_SERVER_UNAVAILABLE"
    assert str(site.fake.address) in problem.message
    dry = site.keys.AddKey(by_code(validate_only=True))
    assert (await refusal_of(dry)).reason == "ACTIVATION_SERVER_UNAVAILABLE"
    assert site.dump() == before


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (control_pb2.FAULT_KIND_UNAVAILABLE, "ACTIVATION_SERVER_UNAVAILABLE"),
        (control_pb2.FAULT_KIND_CUT_CONNECTION, "ACTIVATION_SERVER_UNAVAILABLE"),
        (control_pb2.FAULT_KIND_BAD_SIGNATURE, "INVALID_KEY_FILE"),
    ],
)
async def test_R79_a_faulty_activation_server_changes_nothing_and_can_be_asked_again(
    site_with_codes: Site, fault: control_pb2.FaultKind.ValueType, reason: str
) -> None:
    site = site_with_codes
    await define(site)
    faults = control_pb2.SetFaultsRequest(faults=[control_pb2.Fault(kind=fault, calls=1)])
    await site.control.SetFaults(faults)
    before = site.dump()
    assert (await refusal_of(site.keys.AddKey(by_code()))).reason == reason
    assert site.dump() == before
    assert (await site.keys.AddKey(by_code())).key.code_ending == "CCCCC"


async def test_a_retry_of_a_redeemed_code_does_not_ask_again(site_with_codes: Site) -> None:
    site = site_with_codes
    await define(site)
    first = await site.keys.AddKey(by_code(request_id="once"))
    assert await site.keys.AddKey(by_code(request_id="once")) == first
    assert len(await journal(site)) == 1


async def test_R79_neither_storage_nor_history_holds_the_code(site_with_codes: Site) -> None:
    site = site_with_codes
    await define(site)
    await site.keys.AddKey(by_code(request_id="once"))
    assert len(await site.history(event_pb2.EVENT_KIND_KEY_ADDED)) == 1
    content = repr(site.dump()) + repr(site.database.read_bytes())
    assert CODE not in content
    assert "BBBBB" not in content


async def test_R48_without_an_activation_server_codes_cannot_be_used(site: Site) -> None:
    before = site.dump()
    problem = await refusal_of(site.keys.AddKey(by_code()))
    assert problem.reason == "ACTIVATION_SERVER_UNAVAILABLE"
    assert "--activation-server" in problem.message
    assert site.dump() == before
