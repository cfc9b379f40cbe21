"""Instants and spans of time as the protobuf messages for them, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_timestamp(instant: datetime | None) -> Timestamp | None:
    """The instant as a message; None stays None, which leaves a field unset."""
    if instant is None:
        return None
    span = instant - _EPOCH
    return Timestamp(seconds=span.days * 86_400 + span.seconds, nanos=span.microseconds * 1000)


def from_timestamp(timestamp: Timestamp) -> datetime:
    """The message as an instant in UTC, cut to microseconds.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(0, timestamp.seconds, timestamp.nanos // 1000)


def instant_or_none(message: Message, field: str) -> datetime | None:
    """A message's Timestamp field as an instant, or None where it is unset."""
    return from_timestamp(getattr(message, field)) if message.HasField(field) else None


def to_duration(span: timedelta) -> Duration:
    """The span as a message."""
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def from_duration(duration: Duration) -> timedelta:
    """The message as a span, cut to microseconds."""
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
