"""Keeping the certificate: enrolling with a join token, then renewing at half of its life."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import grpc
import grpc.aio
import structlog

from sparekey.agent.channels import open_encrypted_channel
from sparekey.agent.credentials import Credentials, is_over
from sparekey.certificates.keys import make_request, new_key
from sparekey.runtime.clock import Clock, SystemClock
from sparekey.runtime.startup import Address
from sparekey.v1 import enrollment_pb2, enrollment_pb2_grpc
from sparekey.wire.errors import read_problem

_log = structlog.get_logger()

_CALL_SECONDS = 20.0
_RETRY_SECONDS = (2.0, 120.0)


class CertificateKeeper:
    """Gets the agent its certificates, for as long as it runs.

    Args:
        credentials: Where they are kept.
        server: Where the agent calls with its certificate.
        enroll_at: Where it calls without one; None where the server has no such port.
        join_token: What it enrolls with; None where it has enrolled before.
        changed: Called after each new certificate.
        clock: The machine's time: a test clock moves no certificate.
        randomness: Spreads tries over time.
    """

    def __init__(
        self,
        credentials: Credentials,
        server: Address,
        *,
        enroll_at: Address | None,
        join_token: str | None,
        changed: Callable[[], None],
        clock: Clock | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        self._credentials = credentials
        self._server = server
        self._enroll_at = enroll_at
        self._join_token = join_token
        self._changed = changed
        self._clock = clock or SystemClock()
        # Spreading tries over time needs no secrecy.
        self._randomness = randomness or random.Random()  # noqa: S311
        # One key for all tries to enroll: a token is spent on it, and the answer may get lost.
        self._enrolling_key = new_key()
        self._log = _log.bind(svm_id=credentials.svm_id)

    async def run(self) -> None:
        """Keep a certificate in force."""
        wait = _RETRY_SECONDS[0]
        while True:
            certified = self._credentials.certified
            if certified is not None and not is_over(certified, self._clock.now()):
                # Whatever a server hands out, it is not asked all the time.
                soonest = self._clock.now() + timedelta(seconds=_RETRY_SECONDS[0] / 2)
                await self._clock.wait_until(max(certified.renew_after, soonest))
            try:
                await self._next()
            except grpc.aio.AioRpcError as error:
                problem = read_problem(error)
                self._log.error("no new certificate", problem=problem.message or problem.code.name)
            except (ValueError, OSError) as error:
                self._log.error("the new certificate cannot be used", problem=str(error))
            else:
                wait = _RETRY_SECONDS[0]
                self._changed()
                continue
            spread = timedelta(seconds=wait * self._randomness.uniform(0.5, 1.0))
            await self._clock.wait_until(self._clock.now() + spread)
            wait = min(wait * 2, _RETRY_SECONDS[1])

    async def _next(self) -> None:
        certified = self._credentials.certified
        if certified is not None and not is_over(certified, self._clock.now()):
            await self._renew()
        elif self._join_token is not None and self._enroll_at is not None:
            await self._enroll(self._enroll_at, self._join_token)
        else:
            raise ValueError(
                "it is over; ask an admin for `sparekey join-token create --svm"
                f" {self._credentials.svm_id}` and start with --join-token-file"
            )

    async def _enroll(self, server: Address, join_token: str) -> None:
        request = enrollment_pb2.EnrollRequest(
            join_token=join_token,
            svm_id=self._credentials.svm_id,
            csr=make_request(self._enrolling_key),
        )
        async with open_encrypted_channel(server, self._credentials.root, None) as channel:
            stub: enrollment_pb2_grpc.EnrollmentServiceAsyncStub
            stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            response = await stub.Enroll(request, timeout=_CALL_SECONDS)
        self._credentials.take(self._enrolling_key, response.certificate.chain.encode())
        self._log.info("enrolled")

    async def _renew(self) -> None:
        assert self._credentials.certified is not None
        key = new_key()
        request = enrollment_pb2.RenewCertificateRequest(csr=make_request(key))
        shown = self._credentials.certified.pem
        async with open_encrypted_channel(self._server, self._credentials.root, shown) as channel:
            stub: enrollment_pb2_grpc.EnrollmentServiceAsyncStub
            stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            response = await stub.RenewCertificate(request, timeout=_CALL_SECONDS)
        self._credentials.take(key, response.certificate.chain.encode())
        self._log.info("the certificate was renewed")
