"""What the activation server says to a code or a key."""

from enum import Enum


class Verdict(Enum):
    """The closed set of answers (R79). That a server cannot be reached is not one of them."""

    OK = "OK"
    NOT_FOUND = "NOT_FOUND"
    BLOCKED = "BLOCKED"
    EXPIRED = "EXPIRED"
    ACTIVATION_LIMIT = "ACTIVATION_LIMIT"
    TRIAL_USED = "TRIAL_USED"
    WRONG_PRODUCT = "WRONG_PRODUCT"
