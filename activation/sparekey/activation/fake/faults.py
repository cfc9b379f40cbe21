"""Which calls are to fail, and how."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from sparekey.activation.fake.verdicts import Verdict

METHODS = ("RedeemCode", "RenewKey", "CheckKeys", "GetSubscription")
"""The RPCs that can be struck."""

KEY_METHODS = ("RedeemCode", "RenewKey")
"""Those of them that answer with a key file."""

MAX_FAULTS = 1000


class FaultKind(Enum):
    """How a call fails; `knobs` has a sentence about each."""

    UNAVAILABLE = "UNAVAILABLE"
    DELAY = "DELAY"
    WRONG_VERDICT = "WRONG_VERDICT"
    DUPLICATE_ANSWER = "DUPLICATE_ANSWER"
    CUT_CONNECTION = "CUT_CONNECTION"
    BAD_SIGNATURE = "BAD_SIGNATURE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    `method` empty means all RPCs that it makes sense for. `calls` is how many it strikes, 0 for
    no end. `percent` is the share of calls that it strikes, 1 to 100. `delay` belongs to DELAY,
    `verdict` to WRONG_VERDICT.
    """

    kind: FaultKind
    method: str = ""
    calls: int = 0
    percent: int = 100
    delay: timedelta = timedelta(0)
    verdict: Verdict | None = None


class FaultPlan:
    """The faults in force. At most one strikes a call: the first that fits and is drawn.

    Args:
        faults: In the order in which they are tried.
        randomness: Where the percentages are drawn from; the same seed strikes the same calls.
    """

    def __init__(self, faults: Sequence[Fault], randomness: random.Random) -> None:
        self._faults = list(faults)
        self._left = [fault.calls for fault in faults]
        self._randomness = randomness

    def strike(self, method: str, *, can_repeat: bool) -> Fault | None:
        """The fault that strikes this call, or None.

        Args:
            method: The RPC.
            can_repeat: Whether it was answered before; else there is no answer to duplicate.
        """
        for position, fault in enumerate(self._faults):
            if not self._fits(position, method, can_repeat) or not self._is_drawn(fault):
                continue
            if fault.calls:
                self._left[position] -= 1
            return fault
        return None

    def _fits(self, position: int, method: str, can_repeat: bool) -> bool:
        fault = self._faults[position]
        if fault.calls and not self._left[position]:
            return False
        if fault.method not in ("", method):
            return False
        match fault.kind:
            case FaultKind.DUPLICATE_ANSWER:
                return can_repeat
            case FaultKind.BAD_SIGNATURE:
                return method in KEY_METHODS
            case _:
                return True

    def _is_drawn(self, fault: Fault) -> bool:
        # No draw for a certain fault: it shall not shift the draws of the others.
        return fault.percent == 100 or self._randomness.randrange(100) < fault.percent


def chaos(percent: int) -> tuple[Fault, ...]:
    """The faults of a fake in chaos mode: that share of all calls is UNAVAILABLE; 0 is none."""
    return (Fault(kind=FaultKind.UNAVAILABLE, percent=percent),) if percent else ()
