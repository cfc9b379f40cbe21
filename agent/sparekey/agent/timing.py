"""How long the agent waits for what; in one place, so that tests and simulators can shorten it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The link's spans of real time, in seconds; a test clock does not touch them.

    Attributes:
        first_try_within: The first try comes at random within this span of the start.
        backoff_base: The span within which the first retry comes at random.
        backoff_factor: By how much each further failure in a row widens that span; 1 or more.
        backoff_cap: The widest that it gets; also the wait of an agent refused as a clone.
        stable_after: A stream that lasted this long resets the span.
        welcome_within: A server that has not answered Hello by then is given up.
        farewell_within: How long a leaving agent waits for the server to end the stream.
        heartbeat_interval: Used where the server names none.
        heartbeat_share: The part of the interval after which a silent agent speaks, above 0 and
            at most 1; less than 1, so that a slow network does not make it late.
        failures_before_new_channel: Streams that fail in a row before the channel is made anew.
    """

    first_try_within: float = 1.0
    backoff_base: float = 1.0
    backoff_factor: float = 1.6
    backoff_cap: float = 120.0
    stable_after: float = 60.0
    welcome_within: float = 30.0
    farewell_within: float = 2.0
    heartbeat_interval: float = 30.0
    heartbeat_share: float = 0.9
    failures_before_new_channel: int = 3
