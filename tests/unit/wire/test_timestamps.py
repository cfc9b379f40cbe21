"""Instants and spans survive the way through a message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sparekey.v1 import key_pb2
from sparekey.wire.timestamps import (
    from_duration,
    from_timestamp,
    instant_or_none,
    to_duration,
    to_timestamp,
)

HUNDRED_YEARS = timedelta(days=36500)


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_comes_back_to_the_microsecond(instant: datetime) -> None:
    message = to_timestamp(instant)
    assert message is not None
    assert 0 <= message.nanos < 10**9
    assert from_timestamp(message) == instant


@given(st.timedeltas(min_value=-HUNDRED_YEARS, max_value=HUNDRED_YEARS))
def test_a_span_comes_back_to_the_microsecond(span: timedelta) -> None:
    message = to_duration(span)
    assert message.seconds * message.nanos >= 0
    assert from_duration(message) == span


@given(st.integers(0, 999))
def test_what_is_finer_than_a_microsecond_is_cut(nanoseconds: int) -> None:
    assert from_timestamp(Timestamp(seconds=1, nanos=5000 + nanoseconds)) == datetime(
        1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC
    )
    assert from_duration(Duration(nanos=5000 + nanoseconds)) == timedelta(microseconds=5)


def test_an_instant_of_another_zone_is_the_same_instant_in_utc() -> None:
    there = datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    message = to_timestamp(there)
    assert message is not None
    assert from_timestamp(message) == datetime(2030, 1, 1, tzinfo=UTC)
    assert from_timestamp(message).tzinfo is UTC


def test_before_1970_the_nanoseconds_still_count_upwards() -> None:
    assert to_timestamp(datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)) == Timestamp(
        seconds=-1, nanos=500_000_000
    )


def test_none_stays_unset() -> None:
    assert to_timestamp(None) is None
    key = key_pb2.Key(expires_at=to_timestamp(None))
    assert not key.HasField("expires_at")
    assert instant_or_none(key, "expires_at") is None


def test_the_epoch_is_an_instant_and_not_unset() -> None:
    key = key_pb2.Key(expires_at=to_timestamp(datetime(1970, 1, 1, tzinfo=UTC)))
    assert instant_or_none(key, "expires_at") == datetime(1970, 1, 1, tzinfo=UTC)


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        to_timestamp(datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point


def test_beyond_the_year_9999_there_is_no_instant() -> None:
    with pytest.raises(OverflowError):
        from_timestamp(Timestamp(seconds=253402300800))
