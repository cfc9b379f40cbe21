"""An agent that loses the right to be here is told why, over the stream that it has open."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from sparekey.v1 import access_pb2, agent_pb2, agent_pb2_grpc
from sparekey.wire.errors import CallProblem, read_problem

from .secure_site import SECONDS, SecureSite, open_stream

LIMIT = "LIMIT_EXCEEDED"


def how_it_ends(stream: Any) -> CallProblem:
    with pytest.raises(grpc.RpcError) as ended:
        list(stream)
    return read_problem(ended.value)


def test_a_stream_ends_with_the_certificate_that_opened_it(site: SecureSite) -> None:
    lifetime = timedelta(seconds=3)
    over = datetime.now(UTC) + lifetime
    with open_stream(site, "svm-over", site.agent("svm-over", lifetime=lifetime)) as stream:
        assert datetime.now(UTC) < over, "it was open before the certificate ended"
        problem = how_it_ends(stream)
    assert problem.reason == "UNAUTHENTICATED"
    assert problem.code is grpc.StatusCode.UNAUTHENTICATED
    assert "certificate is over; renew it" in problem.message
    # Certificates count whole seconds.
    assert datetime.now(UTC) > over - timedelta(seconds=1)


def ban(site: SecureSite, svm_id: str, _serial: str) -> None:
    site.access.BanSvm(access_pb2.BanSvmRequest(svm_id=svm_id), timeout=SECONDS)


def revoke(site: SecureSite, _svm_id: str, serial: str) -> None:
    request = access_pb2.RevokeCertificateRequest(certificate_serial=serial)
    site.access.RevokeCertificate(request, timeout=SECONDS)


@pytest.mark.parametrize(
    ("take_back", "reason"), [(ban, "SVM_BANNED"), (revoke, "CERTIFICATE_REVOKED")]
)
def test_what_is_taken_back_ends_the_stream_and_says_so(
    site: SecureSite, take_back: Callable[[SecureSite, str, str], None], reason: str
) -> None:
    svm_id = f"svm-{take_back.__name__}"
    shown = site.agent(svm_id)
    with open_stream(site, svm_id, shown) as stream:
        take_back(site, svm_id, shown.serial)
        assert how_it_ends(stream).reason == reason


def test_an_agent_has_so_many_streams_and_no_more(site: SecureSite) -> None:
    """Those that say no Hello count too."""
    stub: Any = agent_pb2_grpc.AgentServiceStub(site.channel(site.agent("svm-hoarding")))
    held: SimpleQueue[agent_pb2.ConnectRequest | None] = SimpleQueue()
    streams = [stub.Connect(iter(held.get, None), timeout=SECONDS) for _ in range(5)]
    with ThreadPoolExecutor(len(streams)) as readers:
        ends = [readers.submit(how_it_ends, stream) for stream in streams]
        first = next(as_completed(ends))
        # The others are let in: they stay until we leave.
        for stream in streams:
            stream.cancel()
            held.put(None)
    assert first.result().reason == LIMIT
    assert [end.result().reason for end in ends].count(LIMIT) == 1
