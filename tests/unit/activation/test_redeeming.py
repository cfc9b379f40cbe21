"""What the catalogue says to codes (R47, R53, R79, R97)."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sparekey.activation.fake.catalogue import Catalogue
from sparekey.activation.fake.records import KeyProperties
from sparekey.activation.fake.signing import Signing
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.keys import KeyKind, KeyOrigin, KeyType

At = Callable[[float], datetime]
Define = Callable[..., str]
Properties = Callable[..., KeyProperties]
OTHER = "TEST0-DDDDD-EEEEE-FFFFF"


def test_R79_a_code_is_redeemed_for_the_key_that_it_was_defined_with(
    catalogue: Catalogue, define: Define, signing: Signing, at: At
) -> None:
    grant = catalogue.redeem(define(), "here", at(0))
    assert grant.verdict is Verdict.OK
    key = signing.read(grant.key_file)
    assert (key.serial, key.origin) == (grant.serial, KeyOrigin.ACTIVATION_CODE)
    assert (key.type, key.kind, key.unit_limit) == (KeyType.SERVER, KeyKind.COMMERCIAL, 100)
    assert (key.not_before, key.expires_at) == (at(0), at(30))


def test_R79_an_unknown_code_is_not_found(catalogue: Catalogue, at: At) -> None:
    assert catalogue.redeem(OTHER, "here", at(0)).verdict is Verdict.NOT_FOUND


@pytest.mark.parametrize("verdict", [Verdict.BLOCKED, Verdict.WRONG_PRODUCT, Verdict.NOT_FOUND])
def test_R79_a_scripted_verdict_is_answered_instead(
    catalogue: Catalogue, define: Define, at: At, verdict: Verdict
) -> None:
    grant = catalogue.redeem(define(verdict=verdict), "here", at(0))
    assert (grant.verdict, grant.key_file) == (verdict, b"")


def test_a_scripted_verdict_reaches_who_holds_the_key_already(
    catalogue: Catalogue, define: Define, at: At
) -> None:
    first = catalogue.redeem(define(renewals=5), "here", at(0))
    code = define(verdict=Verdict.BLOCKED, renewals=5)
    assert catalogue.redeem(code, "here", at(1)).verdict is Verdict.BLOCKED
    assert catalogue.renew(first.serial, "here", at(1)).verdict is Verdict.BLOCKED
    assert catalogue.redeem(define(), "here", at(2)) == first


def test_the_same_installation_gets_the_same_key_and_counts_once(
    catalogue: Catalogue, define: Define, at: At
) -> None:
    code = define(limit=2)
    first = catalogue.redeem(code, "here", at(0))
    assert catalogue.redeem(code, "here", at(5)) == first
    second = catalogue.redeem(code, "there", at(5))
    assert second.verdict is Verdict.OK
    assert second.serial != first.serial
    assert catalogue.redeem(code, "elsewhere", at(5)).verdict is Verdict.ACTIVATION_LIMIT
    assert catalogue.redeem(code, "here", at(400)) == first


def test_a_code_can_be_redeemed_up_to_and_not_at_its_end(
    catalogue: Catalogue, define: Define, at: At
) -> None:
    code = define(redeem_before=at(1), limit=5)
    first = catalogue.redeem(code, "here", at(1 - 1e-9))
    assert first.verdict is Verdict.OK
    assert catalogue.redeem(code, "there", at(1)).verdict is Verdict.EXPIRED
    assert catalogue.redeem(code, "here", at(1)) == first


def test_R53_R97_a_trial_is_once_over_all_trial_codes(
    catalogue: Catalogue, define: Define, properties: Properties, at: At
) -> None:
    trial = properties(KeyKind.TRIAL)
    code, other = define(key=trial, limit=2), define(OTHER, key=trial, limit=2)
    first = catalogue.redeem(code, "here", at(0))
    assert catalogue.redeem(code, "here", at(1)) == first
    assert catalogue.redeem(other, "here", at(1)).verdict is Verdict.TRIAL_USED
    assert catalogue.redeem(other, "there", at(1)).verdict is Verdict.OK
    assert catalogue.redeem(code, "there", at(1)).verdict is Verdict.TRIAL_USED
    commercial = define("TEST0-00000-00000-00001")
    assert catalogue.redeem(commercial, "here", at(1)).verdict is Verdict.OK


def test_R97_an_expired_trial_is_refused_for_good(
    catalogue: Catalogue, define: Define, properties: Properties, at: At
) -> None:
    trial = properties(KeyKind.TRIAL, term=30)
    code, other = define(key=trial), define(OTHER, key=trial)
    first = catalogue.redeem(code, "here", at(0))
    assert catalogue.redeem(code, "here", at(30 - 1e-9)) == first
    for later in (30, 3000):
        assert catalogue.redeem(code, "here", at(later)).verdict is Verdict.EXPIRED
        assert catalogue.redeem(other, "here", at(later)).verdict is Verdict.TRIAL_USED


def test_R72_a_blocked_key_is_blocked_for_its_code_too(
    catalogue: Catalogue, define: Define, at: At
) -> None:
    code = define()
    first = catalogue.redeem(code, "here", at(0))
    catalogue.block(first.serial, at(1))
    assert catalogue.redeem(code, "here", at(2)).verdict is Verdict.BLOCKED
    catalogue.lift_block(first.serial)
    assert catalogue.redeem(code, "here", at(2)) == first


def test_a_preview_answers_alike_and_leaves_nothing(
    catalogue: Catalogue, define: Define, properties: Properties, signing: Signing, at: At
) -> None:
    code = define(key=properties(KeyKind.TRIAL))
    before, changes = copy.deepcopy(catalogue.records), catalogue.changes
    preview = catalogue.redeem(code, "here", at(0), preview=True)
    assert preview.verdict is Verdict.OK
    assert preview == catalogue.redeem(code, "here", at(0), preview=True)
    assert (catalogue.records, catalogue.changes) == (before, changes)
    assert catalogue.check(signing.read(preview.key_file).serial)[0] is Verdict.NOT_FOUND
    # Even the source of serials is where it was: the real key is that of an unasked fake.
    unasked = Catalogue(signing.sign, copy.deepcopy(catalogue._randomness), before)
    first = catalogue.redeem(code, "here", at(0))
    assert first == unasked.redeem(code, "here", at(0))
    # Of what was redeemed it shows the real key; what is refused is refused.
    assert catalogue.redeem(code, "here", at(0), preview=True) == first
    refused = catalogue.redeem(code, "there", at(0), preview=True)
    assert refused.verdict is Verdict.ACTIVATION_LIMIT


def test_a_term_never_leaves_the_calendar(
    catalogue: Catalogue, define: Define, properties: Properties, signing: Signing
) -> None:
    late = datetime.max.replace(tzinfo=UTC)
    code = define(OTHER, key=properties(term=36500), renewals=1)
    grant = catalogue.redeem(code, "here", late.replace(microsecond=0))
    assert signing.read(grant.key_file).expires_at == late
    assert catalogue.renew(grant.serial, "here", late.replace(microsecond=1)).key_file
