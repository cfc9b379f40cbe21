"""`sparekey clock`: the test clock of a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from sparekey.testing.v1 import clock_pb2
from sparekey.wire.timestamps import from_duration, from_timestamp, to_timestamp

if TYPE_CHECKING:
    from unit.cli.conftest import CommandLine, FakeServer

TIME = to_timestamp(datetime(2030, 2, 1, 12, tzinfo=UTC))


def test_showing(sparekey: CommandLine) -> None:
    assert sparekey("clock", "show").rows == [["time", "2030-01-01T00:00:00Z"]]
    assert sparekey("clock", "show", "-o", "json").json == {"time": "2030-01-01T00:00:00Z"}


def test_advancing(sparekey: CommandLine, server: FakeServer) -> None:
    response = clock_pb2.AdvanceClockResponse(time=TIME, confirmed_agent_count=3)
    server.answers["AdvanceClock"] = response
    done = sparekey("clock", "advance", "30d12h")
    assert done.rows == [["time", "2030-02-01T12:00:00Z"], ["agents", "3", "have", "confirmed"]]
    assert from_duration(server.request("AdvanceClock").by) == timedelta(days=30, hours=12)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2031-01-01", datetime(2031, 1, 1, tzinfo=UTC)),
        ("2031-01-01T06:00:00", datetime(2031, 1, 1, 6, tzinfo=UTC)),
        ("2031-01-01T06:00:00Z", datetime(2031, 1, 1, 6, tzinfo=UTC)),
        ("2031-01-01T06:00:00+02:00", datetime(2031, 1, 1, 4, tzinfo=UTC)),
    ],
)
def test_setting(sparekey: CommandLine, server: FakeServer, text: str, instant: datetime) -> None:
    server.answers["SetClock"] = clock_pb2.SetClockResponse(time=TIME)
    assert sparekey("clock", "set", text).exit_code == 0
    assert from_timestamp(server.request("SetClock").time) == instant


@pytest.mark.parametrize(
    "words", [("advance", "30"), ("advance", "soon"), ("set", "tomorrow"), ("set", "2031-13-01")]
)
def test_what_is_no_time_is_wrong_usage(sparekey: CommandLine, words: tuple[str, str]) -> None:
    done = sparekey("clock", *words)
    assert done.exit_code == 2
    assert words[1] in done.err
    assert sparekey.server.requests == {}


@pytest.mark.parametrize("command", ["advance", "set"])
def test_the_help_tells_that_the_fake_has_a_time_of_its_own(
    sparekey: CommandLine, command: str
) -> None:
    told = " ".join(sparekey.anywhere("clock", command, "--help").out.split())
    assert "The fake activation server has a time of its own" in told


@pytest.mark.parametrize("words", [("show",), ("advance", "1d"), ("set", "2031-01-01")])
def test_a_server_without_a_test_clock_says_how_to_get_one(
    sparekey: CommandLine, server_without_clock: FakeServer, words: tuple[str, ...]
) -> None:
    done = sparekey.anywhere("--server", str(server_without_clock.address), "clock", *words)
    assert done.exit_code == 1
    assert done.err == "sparekey: the server has no test clock; start it with --test-clock\n"


def test_lists_need_no_test_clock(sparekey: CommandLine, server_without_clock: FakeServer) -> None:
    from sparekey.v1 import fleet_pb2

    svm = fleet_pb2.Svm(svm_id="svm-1")
    server_without_clock.answers["ListSvms"] = fleet_pb2.ListSvmsResponse(svms=[svm])
    done = sparekey.anywhere("--server", str(server_without_clock.address), "svms", "list")
    assert done.exit_code == 0
    assert "svm-1" in done.out
