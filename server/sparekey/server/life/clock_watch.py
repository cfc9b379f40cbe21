"""Noticing that the server's clock was set back, and refusing activations until it is right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from sparekey.server.store.clock import (
    clock_went_back,
    note_rollback_told,
    raise_high_water,
    rollback_told,
)
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import error_pb2, event_pb2
from sparekey.wire.errors import CallRefused

ACTOR = "server"


def watch_clock(transaction: Transaction, requests: Sequence[None]) -> list[None]:
    """Raise the clock's mark; tell once that the clock is behind it, and once that it is not."""
    connection, now = transaction.connection, transaction.now
    mark, told = clock_went_back(connection, now), rollback_told(connection)
    if mark is not None and not told:
        transaction.add_event(
            event_pb2.EVENT_KIND_CLOCK_ROLLBACK,
            f"The server's clock went back from {mark.isoformat()}; activations are refused until"
            " it is right.",
            actor=ACTOR,
            severity=event_pb2.SEVERITY_CRITICAL,
        )
        note_rollback_told(connection, told=True)
    if mark is None and told:
        transaction.add_event(
            event_pb2.EVENT_KIND_CLOCK_RECOVERED,
            "The server's clock is right again; activations go on.",
            actor=ACTOR,
            severity=event_pb2.SEVERITY_INFO,
        )
        note_rollback_told(connection, told=False)
    raise_high_water(connection, now)
    return list(requests)


def rollback_refusal(connection: Connection, now: datetime) -> CallRefused | None:
    """The refusal of every activation while the clock is behind its mark (R82)."""
    mark = clock_went_back(connection, now)
    if mark is None:
        return None
    return CallRefused(
        error_pb2.ERROR_REASON_CLOCK_ROLLBACK,
        f"the server's clock says {now.isoformat()} but it was at {mark.isoformat()} before; set"
        " it right, then try again",
        metadata={"now": now.isoformat(), "high_water": mark.isoformat()},
    )
