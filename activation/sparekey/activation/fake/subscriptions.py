"""A subscription as its provider runs it, and where it stands at an instant (R55-R60, R96)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


class SubscriptionState(Enum):
    """The states of R96."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    GRACE = "GRACE"
    EXPIRED = "EXPIRED"
    CANCELLED_SOFT = "CANCELLED_SOFT"
    CANCELLED_HARD = "CANCELLED_HARD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """The provider's terms.

    `state` is what the provider last said; time does the rest, see `state_at`. `begins_at` is set
    only for one that was ordered ahead. `ends_at` is None for an unlimited one (R55). `grace` is
    zero or more (R58). With `stops_protection` even protection ends with the subscription (R59).
    """

    state: SubscriptionState = SubscriptionState.ACTIVE
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    grace: timedelta = timedelta(0)
    stops_protection: bool = False
    provider_url: str = ""

    def state_at(self, now: datetime) -> SubscriptionState:
        """Where the subscription stands at `now` (R96).

        PENDING, EXPIRED and CANCELLED_HARD stay until the provider changes them. The others end
        at `ends_at` exactly (R81): ACTIVE, PAUSED and GRACE turn to GRACE for the grace period
        and then to EXPIRED; CANCELLED_SOFT has no grace, since nobody means to renew it.
        """
        match self.state:
            case SubscriptionState.PENDING | SubscriptionState.EXPIRED:
                return self.state
            case SubscriptionState.CANCELLED_HARD:
                return self.state
        if self.begins_at is not None and now < self.begins_at:
            return SubscriptionState.PENDING
        if self.ends_at is None or now < self.ends_at:
            return self.state
        if self.state is not SubscriptionState.CANCELLED_SOFT and now - self.ends_at < self.grace:
            return SubscriptionState.GRACE
        return SubscriptionState.EXPIRED
