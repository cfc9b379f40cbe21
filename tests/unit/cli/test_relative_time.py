"""Instants and spans as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparekey.cli.relative_time import iso, iso_date, parse_instant, parse_span, relative

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(days=30), "in 30 days"),
        (timedelta(days=29, microseconds=1), "in 30 days"),
        (timedelta(days=1), "in 1 day"),
        (timedelta(hours=23, minutes=1), "in 24 hours"),
        (timedelta(hours=1), "in 1 hour"),
        (timedelta(minutes=59, seconds=1), "in 60 minutes"),
        (timedelta(seconds=59), "in a moment"),
        (timedelta(0), "now"),
        (timedelta(seconds=-59), "just now"),
        (timedelta(minutes=-1, seconds=-59), "1 minute ago"),
        (timedelta(hours=-23, minutes=-59), "23 hours ago"),
        (timedelta(days=-1), "1 day ago"),
        (timedelta(days=-9, hours=-23), "9 days ago"),
    ],
)
def test_how_far_an_instant_is(distance: timedelta, words: str) -> None:
    assert relative(NOW + distance, NOW) == words


@given(st.timedeltas(min_value=timedelta(days=1), max_value=timedelta(days=30000)))
def test_R93_days_left_are_rounded_up(left: timedelta) -> None:
    count = int(relative(NOW + left, NOW).split()[1])
    assert timedelta(days=count - 1) < left <= timedelta(days=count)


def test_times_are_utc() -> None:
    there = datetime(2030, 1, 1, 1, 2, 3, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert iso(there) == "2029-12-31T23:02:03Z"
    assert iso_date(there) == "2029-12-31"


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("7d", timedelta(days=7)),
        (" 12h ", timedelta(hours=12)),
        ("90s", timedelta(seconds=90)),
        ("1d12h30m5s", timedelta(days=1, hours=12, minutes=30, seconds=5)),
        ("0s", timedelta(0)),
    ],
)
def test_spans(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    "text", ["", " ", "7", "d", "7 d", "1h1d", "1.5d", "-1d", "7D", "٧d", "1w"]
)
def test_what_is_no_span_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 7d, 12h, 30m, 45s or 1d12h"):
        parse_span(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_read_as_it_is_written(instant: datetime) -> None:
    assert parse_instant(iso(instant)) == instant.replace(microsecond=0)


@pytest.mark.parametrize("text", ["", "soon", "2030-02-30", "1", "0001-01-01T00:00:00+01:00"])
def test_what_is_no_instant_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 2030-01-31 or 2030-01-31T12:00:00Z"):
        parse_instant(text)
