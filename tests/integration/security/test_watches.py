"""What an open stream is worth once its caller may no longer be here."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from sparekey.v1 import access_pb2, event_pb2, event_pb2_grpc
from sparekey.wire.errors import read_problem

from .secure_site import SECONDS, SecureSite


def watch(site: SecureSite, role: str) -> tuple[Any, access_pb2.Token, Any]:
    shown, record = site.token(role, f"{role}-who-watches")
    stub: Any = event_pb2_grpc.EventServiceStub(site.channel(shown))
    return stub, record, shown.metadata


def test_a_watch_tells_nothing_after_its_token_was_revoked(site: SecureSite) -> None:
    stub, record, metadata = watch(site, "viewer")
    request = event_pb2.WatchEventsRequest(from_now=True)
    stream = stub.WatchEvents(request, metadata=metadata, timeout=SECONDS)
    next(stream)
    # The revocation is itself an event, and the first that the watch would tell.
    site.access.RevokeToken(access_pb2.RevokeTokenRequest(token_id=record.token_id))
    with pytest.raises(grpc.RpcError) as ended:
        next(stream)
    assert read_problem(ended.value).reason == "UNAUTHENTICATED"


def test_a_caller_has_so_many_streams_and_no_more(site: SecureSite) -> None:
    stub, _, metadata = watch(site, "operator")
    request = event_pb2.WatchEventsRequest(from_now=True)
    streams = []
    for _ in range(32):
        streams.append(stub.WatchEvents(request, metadata=metadata, timeout=SECONDS))
        next(streams[-1])
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.WatchEvents(request, metadata=metadata, timeout=SECONDS))
    assert read_problem(refused.value).reason == "LIMIT_EXCEEDED"
    # Another caller is not touched by it.
    other, _, others_metadata = watch(site, "viewer")
    next(other.WatchEvents(request, metadata=others_metadata, timeout=SECONDS))
    for stream in streams:
        stream.cancel()
