"""Operators who go on working while everything fails: tasks without end, each retried."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

import grpc
import grpc.aio

from faults.site import Site
from sparekey.licensing.keys import LicenseKey
from sparekey.v1 import key_pb2, key_pb2_grpc, license_pb2, license_pb2_grpc
from sparekey.wire.errors import read_problem
from sparekey.wire.serving import CHANNEL_OPTIONS

_OPERATORS = 4
_LASTING = timedelta(days=1)
_CALL_SECONDS = 3.0
_ANSWER_SECONDS = 90.0
_INTERNAL = "INTERNAL"
_STORAGE = "STORAGE_UNAVAILABLE"
_RETRIED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}
_OPTIONS = (
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 300),
)


class Operators:
    """Starts tasks until told to end.

    Attributes:
        acknowledged: The tasks that the server said it has.
        faults_of_ours: What the server called a fault of its own, or never answered.
        storage_refusals: How many calls were refused since the server could not write.
    """

    def __init__(
        self, site: Site, svm_ids: Sequence[str], clusters: Sequence[str], seed: int
    ) -> None:
        self.acknowledged: list[str] = []
        self.faults_of_ours: list[str] = []
        self.storage_refusals = 0
        self._site = site
        self._svm_ids = svm_ids
        self._numbers = count(1)
        self._clusters = clusters
        self._chance = random.Random(f"operators {seed}")
        self._channel = grpc.aio.insecure_channel(str(site.operators_proxy.address), _OPTIONS)
        self._licenses: license_pb2_grpc.LicenseServiceAsyncStub = (
            license_pb2_grpc.LicenseServiceStub(self._channel)
        )

    async def add_keys(self) -> None:
        """Put the site's keys into the storage."""
        keys: key_pb2_grpc.KeyServiceAsyncStub = key_pb2_grpc.KeyServiceStub(self._channel)
        for key_file in self._site.issue_keys():
            await keys.AddKey(key_pb2.AddKeyRequest(key_file=key_file))

    async def work(self, ended: asyncio.Event, pause: float) -> None:
        """Start one task after another, each resting `pause` seconds, until the event is set."""

        async def one_of_them() -> None:
            while not ended.is_set():
                await self._start_task(next(self._numbers))
                await self._rest(ended, pause)

        await asyncio.gather(*(one_of_them() for _ in range(_OPERATORS)))

    @staticmethod
    async def _rest(ended: asyncio.Event, pause: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await ended.wait()

    async def close(self) -> None:
        """Leave the server."""
        await self._channel.close()

    async def _start_task(self, number: int) -> None:
        renews = self._chance.random() < 0.5
        key = self._pick_key(lasting=renews)
        scope = self._pick_scope()
        request_id = f"task-number-{number}"
        if renews:
            renewal = license_pb2.RenewRequest(
                key_serial=key.serial, scope=scope, request_id=request_id
            )
            await self._call(lambda: self._licenses.Renew(renewal, timeout=_CALL_SECONDS))
        else:
            activation = license_pb2.ActivateRequest(
                key_serial=key.serial, scope=scope, request_id=request_id
            )
            await self._call(lambda: self._licenses.Activate(activation, timeout=_CALL_SECONDS))

    async def _call(
        self,
        call: Callable[[], Awaitable[license_pb2.ActivateResponse | license_pb2.RenewResponse]],
    ) -> None:
        """Call until there is an answer; the request id makes the retries harmless."""
        give_up_at = time.monotonic() + _ANSWER_SECONDS
        while True:
            if time.monotonic() > give_up_at:
                self.faults_of_ours.append(f"no answer within {_ANSWER_SECONDS:g} seconds")
                return
            try:
                answer = await call()
            except grpc.aio.AioRpcError as error:
                problem = read_problem(error)
                if problem.reason == _INTERNAL:
                    self.faults_of_ours.append(problem.message)
                self.storage_refusals += problem.reason == _STORAGE
                if error.code() not in _RETRIED:
                    return  # refused by the rules, for example since the key has ended
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.append(answer.task.task_id)
                return

    def _pick_key(self, *, lasting: bool) -> LicenseKey:
        """Mostly reserve keys that last, and active ones that end meanwhile: for promotions."""
        if self._chance.random() < 0.2:
            return self._chance.choice(self._site.keys)
        now = datetime.now(UTC)
        fitting = [
            key
            for key in self._site.keys
            if key.expires_at is not None
            and (key.expires_at > now + _LASTING if lasting else now < key.expires_at)
        ]
        ending = [key for key in fitting if key.expires_at and key.expires_at < now + _LASTING]
        return self._chance.choice(ending or fitting)

    def _pick_scope(self) -> license_pb2.Scope:
        dice = self._chance.random()
        if dice < 0.05:
            return license_pb2.Scope(all=license_pb2.AllSvms())
        if dice < 0.3:
            return license_pb2.Scope(cluster=self._chance.choice(self._clusters))
        picked = self._chance.sample(self._svm_ids, self._chance.randint(1, 25))
        return license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=picked))
