"""R96: where a subscription stands."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from sparekey.activation.fake.subscriptions import Subscription, SubscriptionState

At = Callable[[float], datetime]
State = SubscriptionState


@pytest.mark.parametrize(
    ("said", "grace", "day", "stands"),
    [
        (State.ACTIVE, 5, 9.9, State.ACTIVE),
        (State.ACTIVE, 5, 10, State.GRACE),
        (State.ACTIVE, 5, 14.9, State.GRACE),
        (State.ACTIVE, 5, 15, State.EXPIRED),
        (State.ACTIVE, 0, 10, State.EXPIRED),
        (State.PAUSED, 5, 9.9, State.PAUSED),
        (State.PAUSED, 5, 10, State.GRACE),
        (State.PAUSED, 0, 10, State.EXPIRED),
        (State.GRACE, 5, 1, State.GRACE),
        (State.GRACE, 5, 14.9, State.GRACE),
        (State.GRACE, 5, 15, State.EXPIRED),
        (State.CANCELLED_SOFT, 5, 9.9, State.CANCELLED_SOFT),
        (State.CANCELLED_SOFT, 5, 10, State.EXPIRED),
        (State.CANCELLED_HARD, 5, 1, State.CANCELLED_HARD),
        (State.CANCELLED_HARD, 5, 99, State.CANCELLED_HARD),
        (State.PENDING, 5, 99, State.PENDING),
        (State.EXPIRED, 5, 1, State.EXPIRED),
    ],
)
def test_R96_states_over_time(at: At, said: State, grace: float, day: float, stands: State) -> None:
    subscription = Subscription(state=said, ends_at=at(10), grace=timedelta(days=grace))
    assert subscription.state_at(at(day)) is stands


def test_R55_an_unlimited_subscription_stays_as_it_was_said(at: At) -> None:
    for state in SubscriptionState:
        assert Subscription(state=state).state_at(at(36500)) is state


def test_a_subscription_ordered_ahead_is_pending_until_it_begins(at: At) -> None:
    subscription = Subscription(begins_at=at(3), ends_at=at(10))
    assert subscription.state_at(at(2.9)) is State.PENDING
    assert subscription.state_at(at(3)) is State.ACTIVE
    assert subscription.state_at(at(10)) is State.EXPIRED


def test_the_longest_grace_after_the_latest_end_is_counted(at: At) -> None:
    end = datetime.max.replace(tzinfo=at(0).tzinfo)
    subscription = Subscription(ends_at=end, grace=timedelta(days=36500))
    assert subscription.state_at(end) is State.GRACE
