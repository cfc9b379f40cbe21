"""`sparekey events`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sparekey.v1 import error_pb2, event_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import to_timestamp

if TYPE_CHECKING:
    from unit.cli.conftest import CommandLine, FakeServer

UNAVAILABLE = CallRefused(error_pb2.ERROR_REASON_SHUTTING_DOWN, "the server is stopping")


def event(cursor: int, **values: Any) -> event_pb2.Event:
    defaults: dict[str, Any] = {
        "cursor": cursor,
        "occurred_at": to_timestamp(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(days=cursor)),
        "kind": event_pb2.EVENT_KIND_KEY_ADDED,
        "svm_id": f"svm-{cursor}",
        "message": f"number {cursor}",
    }
    return event_pb2.Event(**(defaults | values))


def watched(*events: event_pb2.Event) -> event_pb2.WatchEventsResponse:
    cursor = events[-1].cursor if events else 0
    return event_pb2.WatchEventsResponse(events=events, cursor=cursor)


@pytest.fixture
def five(server: FakeServer, paged: Callable[..., Any]) -> FakeServer:
    events = [event(cursor) for cursor in range(1, 6)]
    server.answers["ListEvents"] = paged(event_pb2.ListEventsResponse, "events", events)
    return server


def test_the_list_has_every_page(sparekey: CommandLine, five: FakeServer) -> None:
    done = sparekey("events", "list")
    assert [row[0] for row in done.rows] == ["CURSOR", "1", "2", "3", "4", "5"]
    assert done.rows[1] == ["1", "2030-01-02T00:00:00Z", "key", "added", "svm-1", "number", "1"]
    listed = sparekey("events", "list", "-o", "json").json
    assert [each["cursor"] for each in listed] == ["1", "2", "3", "4", "5"]


def test_filters_are_sent_with_every_page(sparekey: CommandLine, five: FakeServer) -> None:
    done = sparekey(
        *("events", "list", "--svm", "svm-1", "--task", "task-7"),
        *("--key", "0001-000001-00000001", "--after", "12"),
        *("--kind", "key-added", "--kind", "KEYRING_CHANGED"),
    )
    assert done.exit_code == 0
    for request in five.requests["ListEvents"]:
        assert (request.svm_id, request.task_id) == ("svm-1", "task-7")
        assert (request.key_serial, request.after_cursor) == ("0001-000001-00000001", 12)
        assert list(request.kinds) == [
            event_pb2.EVENT_KIND_KEY_ADDED,
            event_pb2.EVENT_KIND_KEYRING_CHANGED,
        ]


def test_a_limit(sparekey: CommandLine, five: FakeServer) -> None:
    assert len(sparekey("events", "list", "--limit", "3", "-o", "json").json) == 3
    assert [request.page_size for request in five.requests["ListEvents"]] == [3, 3]


def test_a_kind_that_is_none_lists_those_that_are(sparekey: CommandLine) -> None:
    done = sparekey("events", "follow", "--kind", "nothing")
    assert done.exit_code == 2
    assert "key-added, key-deleted" in done.err


def test_following_prints_a_line_for_each(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["WatchEvents"] = [watched(), watched(event(1), event(2)), watched(event(3))]
    done = sparekey("events", "follow")
    assert done.exit_code == 0
    assert done.out.splitlines() == [
        f"2030-01-0{n + 1}T00:00:00Z  key added  svm-{n}  number {n}" for n in (1, 2, 3)
    ]
    request = server.request("WatchEvents")
    assert (request.from_now, request.after_cursor) == (True, 0)


def test_following_as_json_is_an_object_a_line(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["WatchEvents"] = [watched(event(1, message="x" * 200), event(2))]
    lines = sparekey("events", "follow", "-o", "json").json_lines
    assert [line["cursor"] for line in lines] == ["1", "2"]


@pytest.mark.parametrize("cursor", [0, 40])
def test_following_from_a_cursor(sparekey: CommandLine, server: FakeServer, cursor: int) -> None:
    server.answers["WatchEvents"] = [watched(event(41))]
    sparekey("events", "follow", "--after", str(cursor), "--svm", "svm-41", "--kind", "key-added")
    request = server.request("WatchEvents")
    assert (request.from_now, request.after_cursor) == (False, cursor)
    assert request.svm_id == "svm-41"
    assert list(request.kinds) == [event_pb2.EVENT_KIND_KEY_ADDED]


def test_after_a_restart_it_goes_on_from_where_it_was(
    sparekey: CommandLine, server: FakeServer
) -> None:
    server.answers["WatchEvents"] = [
        [watched(event(1), event(2)), UNAVAILABLE],
        [UNAVAILABLE],
        [watched(event(3))],
    ]
    done = sparekey("events", "follow")
    assert done.exit_code == 0
    assert [row[-1] for row in done.rows] == ["1", "2", "3"]
    first, second, third = server.requests["WatchEvents"]
    assert first.from_now is True
    assert [(each.from_now, each.after_cursor) for each in (second, third)] == [(False, 2)] * 2


def test_a_server_that_stays_away_ends_it(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["WatchEvents"] = [[watched(event(1)), UNAVAILABLE], [UNAVAILABLE]]
    done = sparekey("events", "follow")
    assert done.exit_code == 1
    assert done.err == "sparekey: the server is stopping (SHUTTING_DOWN)\n"


def test_a_long_line_is_not_broken_for_a_pipe(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["WatchEvents"] = [watched(event(1, message="word " * 40 + "end"))]
    assert len(sparekey("events", "follow").out.splitlines()) == 1
