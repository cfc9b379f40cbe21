"""The license server put together: what starts in which order, and stops in reverse."""

from __future__ import annotations

import json
import random
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog
from google.protobuf.descriptor import ServiceDescriptor

from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.clock import Clock, SettableClock, SystemClock
from sparekey.runtime.startup import StartupRefused, parse_address, writable_folder
from sparekey.server.access.book import AccessBook
from sparekey.server.access.gate import AccessGate
from sparekey.server.access.limits import Limits
from sparekey.server.activation_client import ActivationClient
from sparekey.server.encryption import refuse_older_tls
from sparekey.server.life.terms import set_block_grace
from sparekey.server.link.agent_link import AgentLink
from sparekey.server.link.sessions import LinkTiming
from sparekey.server.ports import plan_ports
from sparekey.server.scheduler.jobs import Housekeeping, KeyChecks, Renewals, TaskDeadlines
from sparekey.server.scheduler.life_jobs import (
    ClockWatch,
    ExpiryNotices,
    LimitChecks,
    SubscriptionPolls,
)
from sparekey.server.scheduler.scheduler import Job, Scheduler
from sparekey.server.services.access_service import AccessServicer
from sparekey.server.services.agent_service import AgentServicer
from sparekey.server.services.calls import PageTokens
from sparekey.server.services.clock_service import ClockServicer
from sparekey.server.services.enrollment_service import EnrollmentServicer
from sparekey.server.services.event_service import EventServicer
from sparekey.server.services.fleet_service import FleetServicer
from sparekey.server.services.key_service import KeyServicer
from sparekey.server.services.license_service import LicenseServicer
from sparekey.server.services.report_service import ReportServicer
from sparekey.server.settings import ServerSettings
from sparekey.server.store.commits import CommitFeed
from sparekey.server.store.database import open_database, read_identity, sqlite_url
from sparekey.server.store.reader import Reader
from sparekey.server.store.writer import ThreadTarget, Writer
from sparekey.server.store.writer_process import ProcessTarget
from sparekey.testing.v1 import clock_pb2
from sparekey.v1 import (
    access_pb2,
    agent_pb2,
    enrollment_pb2,
    event_pb2,
    fleet_pb2,
    key_pb2,
    license_pb2,
    report_pb2,
)
from sparekey.wire.edge import bind
from sparekey.wire.serving import add_health_and_reflection, make_server

_log = structlog.get_logger()

_GRACE_SECONDS = 2.0
"""How long running calls may take to end when the server stops."""


class LicenseServer:
    """One license server in this process; belongs to the loop that starts it.

    Args:
        settings: How it runs.
        limits: What one caller may use.
    """

    def __init__(self, settings: ServerSettings, limits: Limits | None = None) -> None:
        self.settings = settings
        self._limits = limits or Limits()
        self.clock = _make_clock(settings.test_clock)
        trusted = read_vendor_keys(settings.vendor_keys)
        self._ports = plan_ports(settings)
        activation = (
            parse_address(settings.activation_server) if settings.activation_server else None
        )
        url = settings.database
        if url is None:
            url = sqlite_url(writable_folder(settings.data))
        self._engine = open_database(url)
        identity = read_identity(self._engine)
        self._feed = CommitFeed()
        self._reader = Reader(self._engine)
        target = (
            ProcessTarget(url, settings.log_level, log_json=settings.log_json)
            if settings.writer_process
            else ThreadTarget(self._engine)
        )
        self._writer = Writer(target, self.clock, self._feed)
        book = AccessBook(self._engine, self.clock.now())
        self._gate = AccessGate(
            book,
            self.clock,
            certificate_time=time.time,
            monotonic=time.monotonic,
            encrypted=self._ports.encrypted,
            limits=self._limits,
        )
        self._client = ActivationClient(activation, identity.installation_id)
        self._link = AgentLink(
            self._writer,
            self._reader,
            self.clock,
            self._feed,
            randomness=random.Random(),  # noqa: S311 - spreads load, keeps no secret
            timing=LinkTiming(heartbeat=settings.heartbeat, push_deadline=settings.push_deadline),
        )
        self._feed.listen(book.notice)
        self._feed.listen(lambda commit: self._link.cut(commit, self._gate))
        self._polls = SubscriptionPolls(
            self._reader,
            self._writer,
            self.clock,
            self._client,
            trusted,
            new_task_id,
            settings.subscription_poll_interval,
            randomness=random.Random(),  # noqa: S311 - spreads load, keeps no secret
        )
        key_checks = KeyChecks(
            self._reader, self._writer, self.clock, self._client, settings.key_check_interval
        )
        # The clock is looked at before anything is done by it; subscriptions are asked about
        # before their ends are told.
        jobs: list[Job] = [
            ClockWatch(self._writer, self.clock),
            TaskDeadlines(self._reader, self._writer),
            Renewals(self._reader, self._writer, self.clock, self._client, trusted, new_task_id),
            *((self._polls, key_checks) if activation else ()),
            ExpiryNotices(self._reader, self._writer, self.clock),
            LimitChecks(self._reader, self._writer),
            Housekeeping(self._writer, self.clock),
        ]
        self._scheduler = Scheduler(jobs, self.clock, self._feed)
        servicers = self._servicers(trusted, PageTokens(identity.page_token_secret))
        self._services = [service.full_name for service, _ in servicers]
        self._server = make_server(
            [bind(service, servicer, self._gate) for service, servicer in servicers]
        )
        self.address, self.token_address = self._ports.bind(self._server)

    def _servicers(
        self, trusted: TrustedSigners, tokens: PageTokens
    ) -> list[tuple[ServiceDescriptor, object]]:
        reader, writer, clock, feed = self._reader, self._writer, self.clock, self._feed
        services: list[tuple[ServiceDescriptor, object]] = [
            (
                key_pb2.DESCRIPTOR.services_by_name["KeyService"],
                KeyServicer(reader, writer, clock, self._client, trusted, tokens),
            ),
            (
                license_pb2.DESCRIPTOR.services_by_name["LicenseService"],
                LicenseServicer(reader, writer, clock, feed, tokens, new_task_id, self._polls.ask),
            ),
            (
                fleet_pb2.DESCRIPTOR.services_by_name["FleetService"],
                FleetServicer(reader, writer, clock, feed, self._link.sessions, tokens),
            ),
            (
                event_pb2.DESCRIPTOR.services_by_name["EventService"],
                EventServicer(reader, feed, tokens),
            ),
            (
                report_pb2.DESCRIPTOR.services_by_name["ReportService"],
                ReportServicer(reader, clock, tokens),
            ),
            (
                agent_pb2.DESCRIPTOR.services_by_name["AgentService"],
                AgentServicer(self._link),
            ),
            (
                enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"],
                EnrollmentServicer(
                    writer,
                    self._ports.authority,
                    self.settings.certificate_lifetime,
                    self._limits,
                    time.monotonic,
                ),
            ),
            (
                access_pb2.DESCRIPTOR.services_by_name["AccessService"],
                AccessServicer(reader, writer, clock, tokens),
            ),
        ]
        if isinstance(clock, SettableClock):
            services.append(
                (
                    clock_pb2.DESCRIPTOR.services_by_name["ClockService"],
                    ClockServicer(clock, self._link, self._scheduler, reader, feed),
                )
            )
        return services

    async def start(self) -> None:
        """Start serving; what was due while the server was down is done first."""
        await self._writer.start()
        await self._writer.write(set_block_grace, self.settings.block_grace)
        await self._link.load()
        await self._scheduler.catch_up()
        await add_health_and_reflection(self._server, self._services)
        self._link.start()
        self._scheduler.start()
        await self._server.start()
        if self._ports.encrypted:
            await refuse_older_tls(self.address)
            _log.info("serving", listen=str(self.address), encryption="TLS 1.3")
        else:
            _log.warning(
                "serving without encryption: every caller on this machine is an admin; for"
                " development only",
                listen=str(self.address),
            )

    async def failed(self) -> None:
        """Return if the server cannot go on, by a fault."""
        await self._writer.ended()

    async def stop(self) -> None:
        """Ask agents to come back later, let running calls end, and close the storage."""
        await self._link.stop()
        await self._server.stop(_GRACE_SECONDS)
        await self._scheduler.stop()
        await self._client.close()
        await self._writer.stop()
        self._reader.stop()
        self._engine.dispose()


def new_task_id() -> str:
    """A new task's id."""
    return f"task-{secrets.token_hex(8)}"


def read_vendor_keys(path: Path) -> TrustedSigners:
    """The public keys of those whose key files are trusted.

    Raises:
        StartupRefused: the file cannot be read or is not of the right form.
    """
    try:
        content = json.loads(path.read_text())
        return TrustedSigners.from_text(content)
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        raise StartupRefused(
            f"cannot read the vendor's public keys in {path} ({reason}); name the file with"
            " --vendor-keys"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise StartupRefused(
            f"{path} holds no public keys by signer id ({error}); get the file from your vendor"
        ) from None


def _make_clock(test_clock: str | None) -> Clock:
    if test_clock is None:
        return SystemClock()
    try:
        start = datetime.fromisoformat(test_clock)
    except ValueError:
        raise StartupRefused(
            f"{test_clock!r} is not an instant; write one such as 2030-01-01T00:00:00Z"
        ) from None
    return SettableClock(start if start.tzinfo else start.replace(tzinfo=UTC))
