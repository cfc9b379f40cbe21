"""Successors of keys (R16, R18, R60, R61), and what is said of blocked ones (R72)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from sparekey.activation.fake.catalogue import Catalogue, NoSubscription, UnknownKey
from sparekey.activation.fake.records import KeyProperties
from sparekey.activation.fake.signing import Signing
from sparekey.activation.fake.subscriptions import Subscription, SubscriptionState
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.keys import KeyKind, KeyOrigin

At = Callable[[float], datetime]
Define = Callable[..., str]
Properties = Callable[..., KeyProperties]
UNKNOWN = "0" * 32


def test_R16_the_successor_adds_one_term_and_leaves_no_gap(
    catalogue: Catalogue, define: Define, signing: Signing, at: At
) -> None:
    old = signing.read(catalogue.redeem(define(renewals=2), "here", at(0)).key_file)
    grant = catalogue.renew(old.serial, "here", at(31))
    new = signing.read(grant.key_file)
    assert (new.not_before, new.expires_at) == (at(30), at(60))
    assert (
        replace(new, serial=old.serial, not_before=old.not_before, expires_at=old.expires_at) == old
    )
    assert new.serial != old.serial
    assert catalogue.renew(old.serial, "here", at(500)) == grant
    early = signing.read(catalogue.renew(new.serial, "here", at(40)).key_file)
    assert (early.not_before, early.expires_at) == (at(40), at(90))
    assert catalogue.renew(early.serial, "here", at(90)).verdict is Verdict.EXPIRED


@pytest.mark.parametrize(("asked", "end"), [(30, 60), (59.9, 60), (60, 90), (61, 91), (1000, 1030)])
def test_a_term_that_is_over_already_is_counted_from_now(
    catalogue: Catalogue, define: Define, signing: Signing, at: At, asked: float, end: float
) -> None:
    old = catalogue.redeem(define(renewals=1), "here", at(0))
    new = signing.read(catalogue.renew(old.serial, "here", at(asked)).key_file)
    assert (new.not_before, new.expires_at) == (at(30), at(end))
    assert new.is_valid_at(at(asked))


def test_keys_without_a_code_and_those_of_others_are_not_found(
    catalogue: Catalogue, define: Define, properties: Properties, at: At
) -> None:
    filed = catalogue.issue(properties(), at(0))
    mine = catalogue.redeem(define(renewals=1), "here", at(0))
    for serial, installation in ((filed.serial, "here"), (mine.serial, "there"), (UNKNOWN, "here")):
        assert catalogue.renew(serial, installation, at(30)).verdict is Verdict.NOT_FOUND


def test_R72_a_blocked_key_has_no_successor_and_a_blocked_successor_is_not_given(
    catalogue: Catalogue, define: Define, signing: Signing, at: At
) -> None:
    old = catalogue.redeem(define(renewals=1), "here", at(0))
    catalogue.block(old.serial, at(1))
    assert catalogue.renew(old.serial, "here", at(30)).verdict is Verdict.BLOCKED
    catalogue.lift_block(old.serial)
    new = catalogue.renew(old.serial, "here", at(30))
    catalogue.block(new.serial, at(31))
    assert catalogue.renew(old.serial, "here", at(32)).verdict is Verdict.BLOCKED


def test_R72_checks_tell_the_first_instant_of_a_block(
    catalogue: Catalogue, properties: Properties, at: At
) -> None:
    serial = catalogue.issue(properties(), at(0)).serial
    assert catalogue.check(serial) == (Verdict.OK, None)
    catalogue.block(serial, at(1))
    catalogue.block(serial, at(2))
    assert catalogue.check(serial) == (Verdict.BLOCKED, at(1))
    catalogue.lift_block(serial)
    catalogue.lift_block(serial)
    assert catalogue.check(serial) == (Verdict.OK, None)
    assert catalogue.check(UNKNOWN) == (Verdict.NOT_FOUND, None)
    with pytest.raises(UnknownKey):
        catalogue.block(UNKNOWN, at(0))


def test_R60_all_keys_of_a_subscription_share_it(
    catalogue: Catalogue, define: Define, properties: Properties, signing: Signing, at: At
) -> None:
    key = properties(KeyKind.SUBSCRIPTION, grace=5)
    old = catalogue.redeem(define(key=key, renewals=1), "here", at(0)).serial
    new = signing.read(catalogue.renew(old, "here", at(32)).key_file)
    assert new.expires_at == at(60)
    for serial in (old, new.serial):
        verdict, subscription = catalogue.subscription(serial)
        assert verdict is Verdict.OK
        assert subscription is not None
        assert subscription.ends_at == at(60)
        assert subscription.state_at(at(32)) is SubscriptionState.ACTIVE
    assert catalogue.renew(new.serial, "here", at(61)).verdict is Verdict.EXPIRED


def test_R61_an_end_that_the_provider_moved_costs_no_renewal(
    catalogue: Catalogue, define: Define, properties: Properties, signing: Signing, at: At
) -> None:
    key = properties(KeyKind.SUBSCRIPTION)
    old = catalogue.redeem(define(key=key), "here", at(0)).serial
    assert catalogue.renew(old, "here", at(30)).verdict is Verdict.EXPIRED
    catalogue.change_subscription(old, Subscription(ends_at=at(100)))
    new = signing.read(catalogue.renew(old, "here", at(31)).key_file)
    assert (new.not_before, new.expires_at) == (at(30), at(100))
    assert catalogue.renew(new.serial, "here", at(99)).verdict is Verdict.EXPIRED
    catalogue.change_subscription(old, Subscription(ends_at=None))
    unlimited = signing.read(catalogue.renew(new.serial, "here", at(99)).key_file)
    assert unlimited.expires_at is None
    assert catalogue.renew(unlimited.serial, "here", at(99)).verdict is Verdict.EXPIRED


def test_R55_an_unlimited_subscription_renews_without_end_until_it_is_ended(
    catalogue: Catalogue, define: Define, properties: Properties, signing: Signing, at: At
) -> None:
    key = properties(KeyKind.SUBSCRIPTION, term=None)
    old = catalogue.redeem(define(key=key, renewals=9), "here", at(0)).serial
    new = signing.read(catalogue.renew(old, "here", at(10)).key_file)
    assert (new.not_before, new.expires_at) == (at(10), None)
    catalogue.change_subscription(old, Subscription(ends_at=at(20)))
    assert catalogue.renew(new.serial, "here", at(15)).verdict is Verdict.EXPIRED


@pytest.mark.parametrize(
    "state",
    [state for state in SubscriptionState if state.name not in ("ACTIVE", "GRACE")],
)
def test_R96_what_its_provider_stopped_is_not_renewed(
    catalogue: Catalogue, define: Define, properties: Properties, at: At, state: SubscriptionState
) -> None:
    key = properties(KeyKind.SUBSCRIPTION)
    old = catalogue.redeem(define(key=key, renewals=9), "here", at(0)).serial
    catalogue.change_subscription(old, Subscription(state=state, ends_at=at(100)))
    assert catalogue.renew(old, "here", at(30)).verdict is Verdict.EXPIRED


def test_subscriptions_are_those_of_known_unblocked_subscription_keys(
    catalogue: Catalogue, properties: Properties, at: At
) -> None:
    plain = catalogue.issue(properties(), at(0)).serial
    subscribed = catalogue.issue(properties(KeyKind.SUBSCRIPTION), at(0)).serial
    assert catalogue.subscription(UNKNOWN) == (Verdict.NOT_FOUND, None)
    assert catalogue.subscription(plain) == (Verdict.NOT_FOUND, None)
    assert catalogue.subscription(subscribed)[0] is Verdict.OK
    catalogue.block(subscribed, at(1))
    assert catalogue.subscription(subscribed) == (Verdict.BLOCKED, None)
    with pytest.raises(NoSubscription):
        catalogue.change_subscription(plain, Subscription())
    with pytest.raises(UnknownKey):
        catalogue.change_subscription(UNKNOWN, Subscription())


def test_R30_an_issued_key_has_a_files_serial(
    catalogue: Catalogue, properties: Properties, signing: Signing, at: At
) -> None:
    grant = catalogue.issue(properties(starts=at(-10), term=5), at(0))
    key = signing.read(grant.key_file)
    assert [len(group) for group in key.serial.split("-")] == [4, 6, 8]
    assert key.origin is KeyOrigin.KEY_FILE
    assert (key.not_before, key.expires_at) == (at(-10), at(-10) + timedelta(days=5))
