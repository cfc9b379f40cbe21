"""Agents come by their certificates, keep them in force, and lose them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from sparekey.agent.agent import Agent, AgentSettings
from sparekey.agent.credentials import Credentials
from sparekey.agent.enrolling import CertificateKeeper
from sparekey.agent.inventory.fixed import FixedInventory
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.keyring_record import MemoryKeyringStorage
from sparekey.agent.timing import Timing
from sparekey.certificates.authority import rotate_issuing
from sparekey.certificates.keys import make_request, new_key
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.key_files import TrustedSigners
from sparekey.runtime.startup import StartupRefused
from sparekey.server.ports import plan_ports
from sparekey.server.settings import ServerSettings
from sparekey.v1 import (
    access_pb2,
    access_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    event_pb2,
    fleet_pb2,
)
from sparekey.wire.errors import read_problem

from .secure_site import SECONDS, SecureSite, Shown, start_site

LIFETIME = 6.0
QUICK = Timing(first_try_within=0.05, backoff_base=0.05, backoff_cap=0.3)


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureSite]:
    """A site whose certificates for agents last a few seconds."""
    site = start_site(tmp_path_factory.mktemp("brief"), "--certificate-lifetime", str(LIFETIME))
    try:
        yield site
    finally:
        for channel in site.channels:
            channel.close()
        site.program.stop()


async def until(holds: Callable[[], Any], within: float = 15.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "it does not come to hold"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running_agent(
    site: SecureSite, folder: Path, svm_id: str, join_token: str | None
) -> AsyncIterator[tuple[Agent, Credentials]]:
    credentials = Credentials(folder, svm_id, site.folder / "ca" / "root.pem")
    inventory = Inventory(
        cluster="", guests=GuestMix(1, 0, 0), host_uuid="host", host_cpu=HostCpu(1, 4)
    )
    agent = Agent(
        AgentSettings(svm_id=svm_id, server=site.main),
        FixedInventory(inventory),
        MemoryKeyringStorage(),
        TrustedSigners({}),
        timing=QUICK,
        channel_factory=credentials.open_channel,
    )
    keeper = CertificateKeeper(
        credentials,
        site.main,
        enroll_at=site.second,
        join_token=join_token,
        changed=agent.renew_channel,
    )
    keeping = asyncio.create_task(keeper.run())
    running = asyncio.create_task(agent.run())
    try:
        yield agent, credentials
    finally:
        keeping.cancel()
        await agent.stop()
        await asyncio.gather(running, keeping, return_exceptions=True)


def link_state(site: SecureSite, svm_id: str) -> int:
    try:
        request = fleet_pb2.GetSvmRequest(svm_id=svm_id)
        state: int = site.fleet.GetSvm(request, timeout=SECONDS).svm.link_state
    except grpc.RpcError:
        return fleet_pb2.LINK_STATE_UNSPECIFIED
    return state


def is_connected(site: SecureSite, svm_id: str) -> bool:
    return link_state(site, svm_id) == fleet_pb2.LINK_STATE_CONNECTED


def certificates(site: SecureSite, svm_id: str) -> list[access_pb2.Certificate]:
    request = access_pb2.ListCertificatesRequest(svm_id=svm_id)
    return list(site.access.ListCertificates(request, timeout=SECONDS).certificates)


def test_off_loopback_nothing_starts_without_encryption(tmp_path: Path) -> None:
    options: dict[str, Any] = {"listen": "0.0.0.0:7443", "vendor_keys": tmp_path / "keys.json"}
    settings = ServerSettings(**options)
    with pytest.raises(StartupRefused, match="sparekey ca init --folder"):
        plan_ports(settings)


async def test_an_agent_enrolls_and_outlives_its_certificates_and_a_rotation(
    brief: SecureSite, tmp_path: Path
) -> None:
    token = brief.join_token("svm-1")
    async with running_agent(brief, tmp_path, "svm-1", token) as (agent, credentials):
        await until(lambda: is_connected(brief, "svm-1"))
        assert (tmp_path / "identity.pem").stat().st_mode & 0o777 == 0o600
        first = credentials.certified
        assert first is not None
        before = brief.authority.issuing.serial_number
        await asyncio.to_thread(rotate_issuing, brief.folder / "ca", datetime.now(UTC))

        def renewed_by_the_new_one() -> bool:
            now = credentials.certified
            assert now is not None
            issuing = x509.load_pem_x509_certificates(now.pem)[1]
            return issuing.serial_number != before

        # At no time is the agent away for longer than a new connection takes.
        longest = await longest_absence(agent, renewed_by_the_new_one, timedelta(seconds=LIFETIME))
        assert longest < 1.0
        assert len(certificates(brief, "svm-1")) >= 3
        assert datetime.now(UTC) > first.expires_at
        assert is_connected(brief, "svm-1")


async def longest_absence(agent: Agent, holds: Callable[[], bool], at_least: timedelta) -> float:
    """The longest time without a link in seconds, until something holds and a span has passed."""
    started = last = time.monotonic()
    longest = 0.0
    while not holds() or time.monotonic() - started < at_least.total_seconds() + 1:
        assert time.monotonic() - started < 30, "it does not come to hold"
        await asyncio.sleep(0.01)
        if agent.connected.is_set():
            last = time.monotonic()
        longest = max(longest, time.monotonic() - last)
    return longest


async def test_a_banned_agent_is_cut_at_once(site: SecureSite, tmp_path: Path) -> None:
    token = site.join_token()
    async with running_agent(site, tmp_path, "svm-2", token) as (agent, _):
        await until(lambda: is_connected(site, "svm-2"))
        await asyncio.to_thread(site.access.BanSvm, access_pb2.BanSvmRequest(svm_id="svm-2"))
        await until(lambda: not agent.connected.is_set(), within=2)
        await until(lambda: not is_connected(site, "svm-2"))
        lift = access_pb2.BanSvmRequest(svm_id="svm-2", lift=True)
        await asyncio.to_thread(site.access.BanSvm, lift)
        await until(lambda: is_connected(site, "svm-2"))


async def test_a_revoked_agent_is_cut_at_once(site: SecureSite, tmp_path: Path) -> None:
    token = site.join_token()
    async with running_agent(site, tmp_path, "svm-3", token) as (agent, _):
        await until(lambda: is_connected(site, "svm-3"))
        for certificate in certificates(site, "svm-3"):
            serial = certificate.certificate_serial
            await asyncio.to_thread(
                site.access.RevokeCertificate,
                access_pb2.RevokeCertificateRequest(certificate_serial=serial),
            )
        await until(lambda: not agent.connected.is_set(), within=2)
        await until(lambda: not is_connected(site, "svm-3"))
        # Forgotten, it is gone for good.
        forget = fleet_pb2.ForgetSvmRequest(svm_id="svm-3")
        await asyncio.to_thread(site.fleet.ForgetSvm, forget)


def enroll(site: SecureSite, token: str, svm_id: str, key: Any = None) -> str:
    """Enroll; return the reason of the refusal, or nothing."""
    request = enrollment_pb2.EnrollRequest(
        join_token=token, svm_id=svm_id, csr=make_request(key or new_key())
    )
    stub: Any = enrollment_pb2_grpc.EnrollmentServiceStub(site.channel(Shown()))
    try:
        stub.Enroll(request, timeout=SECONDS)
    except grpc.RpcError as error:
        return read_problem(error).reason
    return ""


REFUSED = "JOIN_TOKEN_REFUSED"


def test_a_join_token_serves_one_key_once(site: SecureSite) -> None:
    token, key = site.join_token(), new_key()
    assert enroll(site, token, "svm-once", key) == ""
    # The answer may have been lost: the same key may ask again, another may not.
    assert enroll(site, token, "svm-once", key) == ""
    assert enroll(site, token, "svm-once") == REFUSED
    assert enroll(site, token, "svm-other") == REFUSED


def test_a_join_token_without_a_name_cannot_take_an_svms_identity(site: SecureSite) -> None:
    assert enroll(site, site.join_token(), "svm-taken") == ""
    assert enroll(site, site.join_token(), "svm-taken") == REFUSED
    assert enroll(site, site.join_token("svm-else"), "svm-taken") == REFUSED
    assert enroll(site, site.join_token("svm-taken"), "svm-taken") == ""


def test_enrolling_is_tried_a_few_times_a_minute(site: SecureSite) -> None:
    answers = [enroll(site, "guess", "svm-guessed") for _ in range(12)]
    assert answers[0] == REFUSED
    assert answers[-1] == "LIMIT_EXCEEDED"


def test_events_name_who_did_it(site: SecureSite) -> None:
    shown, _ = site.token("admin", "carol")
    stub: Any = access_pb2_grpc.AccessServiceStub(site.channel(shown))
    ban = access_pb2.BanSvmRequest(svm_id="svm-named")
    stub.BanSvm(ban, timeout=SECONDS, metadata=shown.metadata)
    request = event_pb2.ListEventsRequest(svm_id="svm-named")
    (event,) = site.events.ListEvents(request, timeout=SECONDS).events
    assert (event.kind, event.actor) == (event_pb2.EVENT_KIND_SVM_BANNED, "carol")
