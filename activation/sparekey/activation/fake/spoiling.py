"""Answers as a faulty activation server would give them."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sparekey.activation.fake.messages import VERDICTS, Answer
from sparekey.activation.fake.verdicts import Verdict
from sparekey.activation.v1 import activation_pb2
from sparekey.wire.timestamps import to_timestamp

_A = TypeVar("_A", bound=Answer)


def with_verdict(answer: _A, verdict: Verdict, now: datetime) -> _A:
    """The answer with another verdict, and without what only OK brings.

    A false OK brings nothing: a client must survive an OK without a key too.
    """
    spoiled = type(answer)()
    spoiled.CopyFrom(answer)  # type: ignore[arg-type]  # both are of the one type
    if isinstance(spoiled, activation_pb2.CheckKeysResponse):
        for check in spoiled.checks:
            check.verdict = VERDICTS[verdict]
            check.ClearField("blocked_at")
            if verdict is Verdict.BLOCKED:
                check.blocked_at.CopyFrom(to_timestamp(now))  # type: ignore[arg-type]
        return spoiled
    spoiled.verdict = VERDICTS[verdict]
    if verdict is Verdict.OK:
        return spoiled
    if isinstance(spoiled, activation_pb2.GetSubscriptionResponse):
        spoiled.ClearField("subscription")
    else:
        spoiled.ClearField("key_file")
    return spoiled


def with_bad_signature(answer: _A, forge: Callable[[bytes], bytes]) -> _A:
    """The answer with its key file, where it has one, signed wrongly."""
    with_key = (activation_pb2.RedeemCodeResponse, activation_pb2.RenewKeyResponse)
    if isinstance(answer, with_key) and answer.key_file:
        return type(answer)(verdict=answer.verdict, key_file=forge(answer.key_file))
    return answer
