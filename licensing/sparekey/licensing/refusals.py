"""Why a request leaves an SVM's keys as they are."""

from enum import Enum


class Refusal(Enum):
    """The reasons, in no order; R77 orders those that concern a reserve."""

    KEY_NOT_IN_STORAGE = "KEY_NOT_IN_STORAGE"
    KEY_BLOCKED = "KEY_BLOCKED"
    KEY_EXPIRED = "KEY_EXPIRED"
    KEY_NOT_YET_VALID = "KEY_NOT_YET_VALID"
    KIND_NOT_ALLOWED_AS_RESERVE = "KIND_NOT_ALLOWED_AS_RESERVE"
    NO_ACTIVE_KEY = "NO_ACTIVE_KEY"
    ACTIVE_IS_SUBSCRIPTION = "ACTIVE_IS_SUBSCRIPTION"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    EDITION_MISMATCH = "EDITION_MISMATCH"
    RESERVE_NOT_LATER = "RESERVE_NOT_LATER"
    TRIAL_OVER_COMMERCIAL = "TRIAL_OVER_COMMERCIAL"
    INVALID_KEY_FILE = "INVALID_KEY_FILE"
    SLOT_EMPTY = "SLOT_EMPTY"
    SUBSCRIPTION_IN_GRACE = "SUBSCRIPTION_IN_GRACE"


_EXPLANATIONS = {
    Refusal.KEY_NOT_IN_STORAGE: (
        "The key is not in the key storage: add it there by key file or activation code first."
    ),
    Refusal.KEY_BLOCKED: "The key is blocked and can no longer be used: choose another key.",
    Refusal.KEY_EXPIRED: "The key has expired: choose a key that is still valid.",
    Refusal.KEY_NOT_YET_VALID: (
        "The key is not valid yet: activate with it once it has started, "
        "or add it as a reserve if it is a commercial key."
    ),
    Refusal.KIND_NOT_ALLOWED_AS_RESERVE: (
        "A trial or subscription key cannot be a reserve: choose a commercial key."
    ),
    Refusal.NO_ACTIVE_KEY: (
        "The SVM has no active key to follow: activate it first, then add the reserve."
    ),
    Refusal.ACTIVE_IS_SUBSCRIPTION: (
        "The SVM runs under a subscription, which takes no reserve: "
        "renew the subscription, or activate with a commercial key first."
    ),
    Refusal.TYPE_MISMATCH: (
        "The SVM has no active key of the reserve's type: "
        "choose a reserve of the same type as an active key."
    ),
    Refusal.EDITION_MISMATCH: (
        "The reserve's edition differs from the active key's: choose a key of the same edition."
    ),
    Refusal.RESERVE_NOT_LATER: (
        "The reserve does not end later than the active key: choose one that ends later."
    ),
    Refusal.TRIAL_OVER_COMMERCIAL: (
        "A trial key cannot replace a commercial key that is still usable: keep the commercial key."
    ),
    Refusal.INVALID_KEY_FILE: "The key's signed form is not valid: get the key file again.",
    Refusal.SUBSCRIPTION_IN_GRACE: (
        "The SVM runs under a subscription in its grace period, which takes no new task: "
        "have the subscription renewed, or run an older task again."
    ),
    Refusal.SLOT_EMPTY: "There is no key in that slot: look up which keys the SVM holds.",
}


def explain(refusal: Refusal) -> str:
    """One sentence for people: what is wrong, and what to do next."""
    return _EXPLANATIONS[refusal]
