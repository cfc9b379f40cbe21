"""The way of a call: into the journal, past the faults, carried out, kept, answered."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

import structlog

from sparekey.activation.fake.connections import cut_connection
from sparekey.activation.fake.faults import Fault, FaultKind
from sparekey.activation.fake.journal import JournaledCall
from sparekey.activation.fake.messages import Answer, verdict_of
from sparekey.activation.fake.spoiling import with_bad_signature, with_verdict
from sparekey.activation.fake.state import FakeState
from sparekey.v1 import error_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused

_A = TypeVar("_A", bound=Answer)
_log = structlog.get_logger()

_CUT_IS_SEEN_AFTER = 5.0
"""Seconds; the core sees a cut connection within milliseconds and then ends the call itself."""


async def answer(
    state: FakeState, entry: JournaledCall, call: Call, carry_out: Callable[[], _A]
) -> _A:
    """Answer a call, or fail it as a fault demands.

    An UNAVAILABLE call is not carried out. Under every other fault it is, and only then is the
    answer delayed, spoiled or lost: so that a client's second try meets what the first one did.
    """
    fault = state.faults.strike(entry.method, can_repeat=entry.method in state.last_answers)
    if fault is not None:
        entry.fault = fault.kind
        if fault.kind is FaultKind.UNAVAILABLE:
            _note(entry)
            raise _unavailable("the activation server is unavailable, as a test demanded")
    given = carry_out()
    entry.verdict = verdict_of(given)
    if fault is not None:
        if fault.kind is FaultKind.CUT_CONNECTION:
            _note(entry)
            await _cut(call)
        given = _spoiled(state, entry, given, fault)
        entry.verdict = verdict_of(given)
        if fault.kind is FaultKind.DELAY:
            # By the machine's time: the fake's own may stand still.
            await asyncio.sleep(fault.delay.total_seconds())
    state.last_answers[entry.method] = given
    _note(entry)
    return given


def _spoiled(state: FakeState, entry: JournaledCall, given: _A, fault: Fault) -> _A:
    match fault.kind:
        case FaultKind.WRONG_VERDICT:
            assert fault.verdict is not None
            return with_verdict(given, fault.verdict, state.clock.now())
        case FaultKind.BAD_SIGNATURE:
            return with_bad_signature(given, state.signing.with_wrong_signature)
        case FaultKind.DUPLICATE_ANSWER:
            # Answers are kept by method, so this one has the method's type.
            return cast("_A", state.last_answers[entry.method])
        case _:
            return given


async def _cut(call: Call) -> None:
    if cut_connection(call.context.peer()):
        await asyncio.sleep(_CUT_IS_SEEN_AFTER)
    raise _unavailable("the connection was to be cut, as a test demanded")


def _unavailable(message: str) -> CallRefused:
    return CallRefused(error_pb2.ERROR_REASON_ACTIVATION_SERVER_UNAVAILABLE, message)


def _note(entry: JournaledCall) -> None:
    _log.info(
        "call",
        number=entry.number,
        rpc=entry.method,
        installation_id=entry.installation_id,
        code_ending=entry.code_ending,
        verdict=None if entry.verdict is None else entry.verdict.value,
        fault=None if entry.fault is None else entry.fault.value,
    )
