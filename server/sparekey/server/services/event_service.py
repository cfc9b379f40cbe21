"""EventService: the history over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sparekey.server.services.calls import PageTokens, page_size
from sparekey.server.store.commits import CommitFeed, Subscription
from sparekey.server.store.events import EventFilter, last_cursor, page_of_events
from sparekey.server.store.reader import Reader
from sparekey.v1 import event_pb2
from sparekey.wire.edge import Call

_WATCH_PAGE = 1000
_LAST_CURSOR = 2**63 - 1
"""The storage counts no further; no event is behind it."""


class EventServicer:
    """Serves `sparekey.v1.EventService`."""

    def __init__(self, reader: Reader, feed: CommitFeed, tokens: PageTokens) -> None:
        self._reader = reader
        self._feed = feed
        self._tokens = tokens

    async def list_events(
        self, request: event_pb2.ListEventsRequest, call: Call
    ) -> event_pb2.ListEventsResponse:
        """List events, oldest first."""
        wanted = EventFilter(
            request.svm_id, request.key_serial, request.task_id, tuple(request.kinds)
        )
        filters = (wanted.svm_id, wanted.serial, wanted.task_id, list(wanted.kinds))
        position = self._tokens.read(call.method, filters, request.page_token)
        after = max(position[0] if position else 0, min(request.after_cursor, _LAST_CURSOR))
        size = page_size(request.page_size)
        rows = await self._reader.read(page_of_events, wanted, after, size + 1)
        page, token = self._tokens.cut(call.method, filters, rows, size, lambda row: (row.cursor,))
        return event_pb2.ListEventsResponse(events=page, next_page_token=token)

    async def watch_events(
        self, request: event_pb2.WatchEventsRequest, call: Call
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        """Follow the history from a cursor on."""
        wanted = EventFilter(svm_id=request.svm_id, kinds=tuple(request.kinds))
        changes = Subscription()
        stop = self._feed.listen(changes.notify)
        try:
            cursor = min(request.after_cursor, _LAST_CURSOR)
            if request.from_now:
                cursor = await self._reader.read(last_cursor)
            yield event_pb2.WatchEventsResponse(cursor=cursor)
            while True:
                page = await self._reader.read(page_of_events, wanted, cursor, _WATCH_PAGE)
                if page:
                    cursor = page[-1].cursor
                    yield event_pb2.WatchEventsResponse(events=page, cursor=cursor)
                if len(page) < _WATCH_PAGE:
                    while not (await changes.next()).has_events:
                        pass
        finally:
            stop()
