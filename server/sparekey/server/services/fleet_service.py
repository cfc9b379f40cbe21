"""FleetService: the SVMs over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

from google.protobuf.message import Message

from sparekey.runtime.clock import Clock
from sparekey.server.fleet.changes import ChangeSvm, exclude_svms, forget_svms, svm_not_found
from sparekey.server.fleet.messages import svm_message
from sparekey.server.life.terms import Terms, load_terms
from sparekey.server.link.sessions import Sessions
from sparekey.server.services.calls import PageTokens, page_size, retry_of
from sparekey.server.store.commits import CommitFeed, Subscription
from sparekey.server.store.instructions import load_pending
from sparekey.server.store.reader import Connection, Reader
from sparekey.server.store.svms import SvmRecord, load_svms, page_of_svms
from sparekey.server.store.writer import Writer
from sparekey.v1 import fleet_pb2
from sparekey.wire.edge import Call

_WATCH_PAGE = 1000

_Found = tuple[Sequence[SvmRecord], dict[str, int], Terms]


class FleetServicer:
    """Serves `sparekey.v1.FleetService`."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        feed: CommitFeed,
        sessions: Sessions,
        tokens: PageTokens,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._feed = feed
        self._sessions = sessions
        self._tokens = tokens

    async def list_svms(
        self, request: fleet_pb2.ListSvmsRequest, call: Call
    ) -> fleet_pb2.ListSvmsResponse:
        """List SVMs by id."""
        filters = (request.cluster,)
        position = self._tokens.read(call.method, filters, request.page_token)
        size = page_size(request.page_size)
        after = position[0] if position else ""
        rows, waiting, terms = await self._reader.read(_read_page, request.cluster, after, size + 1)
        records, token = self._tokens.cut(
            call.method, filters, rows, size, lambda row: (row.svm_id,)
        )
        return fleet_pb2.ListSvmsResponse(
            svms=self._messages((records, waiting, terms)), next_page_token=token
        )

    async def get_svm(
        self, request: fleet_pb2.GetSvmRequest, call: Call
    ) -> fleet_pb2.GetSvmResponse:
        """Read one SVM."""
        messages = self._messages(await self._reader.read(_read_some, [request.svm_id]))
        if not messages:
            raise svm_not_found(request.svm_id)
        return fleet_pb2.GetSvmResponse(svm=messages[0])

    async def watch_svms(
        self, request: fleet_pb2.WatchSvmsRequest, call: Call
    ) -> AsyncIterator[fleet_pb2.WatchSvmsResponse]:
        """Follow the fleet or one cluster of it."""
        told = _Told(request.cluster)
        changes = Subscription()
        stop = self._feed.listen(changes.notify)
        try:
            after, caught_up = "", False
            while not caught_up:
                found = await self._reader.read(_read_page, request.cluster, after, _WATCH_PAGE)
                caught_up = len(found[0]) < _WATCH_PAGE
                after = found[0][-1].svm_id if found[0] else after
                messages, _ = told.sort(self._messages(found))
                yield fleet_pb2.WatchSvmsResponse(svms=messages, caught_up=caught_up)
            while True:
                commit = await changes.next()
                changed = sorted(commit.svms | commit.instructed)
                for start in range(0, len(changed), _WATCH_PAGE):
                    found = await self._reader.read(
                        _read_some, changed[start : start + _WATCH_PAGE]
                    )
                    messages, left = told.sort(self._messages(found))
                    if messages or left:
                        yield fleet_pb2.WatchSvmsResponse(
                            svms=messages, left_svm_ids=left, caught_up=True
                        )
                if forgotten := told.forget(commit.forgotten):
                    yield fleet_pb2.WatchSvmsResponse(forgotten_svm_ids=forgotten, caught_up=True)
        finally:
            stop()

    async def exclude_svm(self, request: fleet_pb2.ExcludeSvmRequest, call: Call) -> Message:
        """Leave an SVM out of wide tasks, or take it in again."""
        change = self._change(request, call, excluded=not request.include_again)
        return await self._writer.write(exclude_svms, change)

    async def forget_svm(self, request: fleet_pb2.ForgetSvmRequest, call: Call) -> Message:
        """Forget an SVM."""
        return await self._writer.write(forget_svms, self._change(request, call, excluded=None))

    def _change(
        self,
        request: fleet_pb2.ExcludeSvmRequest | fleet_pb2.ForgetSvmRequest,
        call: Call,
        *,
        excluded: bool | None,
    ) -> ChangeSvm:
        return ChangeSvm(
            request.svm_id,
            connected=request.svm_id in self._sessions,
            actor=call.actor,
            retry=retry_of(call, request.request_id),
            validate_only=request.validate_only,
            excluded=excluded,
            clusters=call.caller.clusters,
        )

    def _messages(self, found: _Found) -> list[fleet_pb2.Svm]:
        records, waiting, terms = found
        now = self._clock.now()
        return [
            svm_message(
                record,
                now,
                connected=record.svm_id in self._sessions,
                waiting=waiting.get(record.svm_id, 0),
                terms=terms,
            )
            for record in records
        ]


class _Told:
    """Which SVMs of a cluster a watch has told, so that it can tell which of them are gone from it.

    Of the whole fleet nothing is kept: there every SVM is told, and none leaves.
    """

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._svm_ids: set[str] = set()

    def sort(self, svms: list[fleet_pb2.Svm]) -> tuple[list[fleet_pb2.Svm], list[str]]:
        """Those of some SVMs that are to be told, and the ids of those that left the cluster."""
        if not self._cluster:
            return svms, []
        inside = [svm for svm in svms if svm.cluster == self._cluster]
        left = {svm.svm_id for svm in svms if svm.cluster != self._cluster} & self._svm_ids
        self._svm_ids |= {svm.svm_id for svm in inside}
        self._svm_ids -= left
        return inside, sorted(left)

    def forget(self, svm_ids: Collection[str]) -> list[str]:
        """Those of some SVMs that were forgotten and told before."""
        if not self._cluster:
            return sorted(svm_ids)
        gone = self._svm_ids.intersection(svm_ids)
        self._svm_ids -= gone
        return sorted(gone)


def _read_page(connection: Connection, cluster: str, after: str, size: int) -> _Found:
    records, _keys = page_of_svms(connection, cluster, after, size)
    waiting = _count_waiting(connection, [record.svm_id for record in records])
    return records, waiting, load_terms(connection)


def _read_some(connection: Connection, svm_ids: Collection[str]) -> _Found:
    records = load_svms(connection, svm_ids)
    found = [records[svm_id] for svm_id in sorted(records)]
    return found, _count_waiting(connection, svm_ids), load_terms(connection)


def _count_waiting(connection: Connection, svm_ids: Collection[str]) -> dict[str, int]:
    return {svm_id: len(some) for svm_id, some in load_pending(connection, svm_ids).items()}
