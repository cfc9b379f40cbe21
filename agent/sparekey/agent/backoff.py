"""When to try again: spread at random, so that a whole fleet does not come back at once."""

from __future__ import annotations

import random

from sparekey.agent.timing import Timing


class Backoff:
    """Full jitter over a span that widens with each failure in a row."""

    def __init__(self, timing: Timing, randomness: random.Random) -> None:
        self._timing = timing
        self._randomness = randomness
        self._span = self._narrowest

    def before_first_try(self) -> float:
        """Seconds to wait before the first try of all."""
        return self._randomness.uniform(0, self._timing.first_try_within)

    def after_stream(self, *, lasted: float, at_least: float = 0.0) -> float:
        """Seconds to wait after a stream ended, however it ended.

        Args:
            lasted: For how many seconds the stream worked; long enough and the span is reset.
            at_least: What the server asked for, in seconds; it can only lengthen the wait.
        """
        timing = self._timing
        if lasted >= timing.stable_after:
            self._span = self._narrowest
        wait = self._randomness.uniform(0, self._span)
        # Multiplied up rather than taken to a power, which overflows on an agent left alone
        # for a year.
        self._span = min(timing.backoff_cap, self._span * timing.backoff_factor)
        return max(wait, at_least)

    @property
    def _narrowest(self) -> float:
        return min(self._timing.backoff_base, self._timing.backoff_cap)
