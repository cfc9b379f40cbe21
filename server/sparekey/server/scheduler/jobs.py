"""The kinds of due work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from sparekey.licensing.key_files import InvalidKeyFile, TrustedSigners
from sparekey.licensing.keys import LicenseKey
from sparekey.runtime.clock import Clock
from sparekey.server.activation_client import ActivationClient
from sparekey.server.keys.blocking import MarkBlocked, mark_blocked
from sparekey.server.keys.renewing import EndedKey, Renewal, find_ended, record_renewals
from sparekey.server.store.keys import next_renewal_due, serials_to_check
from sparekey.server.store.reader import Reader
from sparekey.server.store.requests import Retry, forget_answers
from sparekey.server.store.tasks import next_deadline
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.writer import Writer
from sparekey.server.tasks.ending import end_overdue_tasks
from sparekey.wire.errors import CallRefused

_log = structlog.get_logger()

ANSWERS_KEPT = timedelta(days=7)
"""How long a request id protects from a repeated call."""


class TaskDeadlines:
    """Ends tasks whose SVMs did not answer in time."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def next_due(self) -> datetime | None:
        """The next deadline of a running task."""
        return await self._reader.read(next_deadline)

    async def run_due(self) -> None:
        """End the tasks that are overdue."""
        await self._writer.write(end_overdue_tasks, None)


class Renewals:
    """Contacts the activation server when a code-based key has ended (R16, R88)."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        client: ActivationClient,
        trusted: TrustedSigners,
        new_task_id: Callable[[], str],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._client = client
        self._trusted = trusted
        self._new_task_id = new_task_id

    async def next_due(self) -> datetime | None:
        """When the next code-based key in use ends."""
        return await self._reader.read(next_renewal_due)

    async def run_due(self) -> None:
        """Try once for each key that has ended."""
        for ended in await self._reader.read(find_ended, self._clock.now()):
            await self._writer.write(record_renewals, await self._try(ended))

    async def _try(self, ended: EndedKey) -> Renewal:
        successor: tuple[LicenseKey, bytes] | None = None
        problem = ""
        if ended.svm_ids:
            try:
                key_file = await self._client.renew(ended.stored.key.serial)
                successor = (self._trusted.read(key_file), key_file)
            except CallRefused as refused:
                problem = refused.message
            except InvalidKeyFile as invalid:
                problem = f"the activation server sent a key that is not valid ({invalid})"
        return Renewal(ended, successor, problem, self._new_task_id())


class KeyChecks:
    """Asks the activation server at intervals which keys are blocked (R72)."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        client: ActivationClient,
        interval: timedelta,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._client = client
        self._interval = interval
        self._next = clock.now() + interval

    async def next_due(self) -> datetime | None:
        """The next check."""
        return self._next

    async def run_due(self) -> None:
        """Check all keys; an activation server that is not there is asked again next time."""
        self._next = self._clock.now() + self._interval
        serials = await self._reader.read(serials_to_check)
        if not serials:
            return
        try:
            blocked = await self._client.blocked(serials)
        except CallRefused as refused:
            _log.info("keys were not checked", problem=refused.message)
            return
        if blocked:
            request = MarkBlocked(tuple(blocked), "server", Retry(None, b""), graces=dict(blocked))
            await self._writer.write(mark_blocked, request)


class Housekeeping:
    """Forgets answers that no retry will ask for any more."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._next = clock.now() + timedelta(days=1)

    async def next_due(self) -> datetime | None:
        """Once a day."""
        return self._next

    async def run_due(self) -> None:
        """Delete what is old."""
        self._next = self._clock.now() + timedelta(days=1)
        await self._writer.write(forget_old_answers, None)


def forget_old_answers(transaction: Transaction, requests: Sequence[None]) -> list[None]:
    """Delete answers that are older than retries are protected for."""
    forget_answers(transaction.connection, transaction.now - ANSWERS_KEPT)
    return list(requests)
