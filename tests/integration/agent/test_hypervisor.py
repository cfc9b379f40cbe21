"""The inventory from libvirt's own test driver, which needs no daemon and no hypervisor."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from sparekey.agent.inventory.hypervisor import HypervisorInventory, read_processors
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.inventory.sources import parse_source
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.runtime.startup import StartupRefused

METADATA = (
    '<metadata><libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/'
    '1.0"><libosinfo:os id="{}"/></libosinfo:libosinfo></metadata>'
)
DOMAIN = """
<domain type='test'>
  <name>{name}</name>
  {metadata}
  <memory>1024</memory>
  <os><type>hvm</type></os>
</domain>
"""
WINDOWS_10 = "http://microsoft.com/win/10"
WINDOWS_SERVER = "http://microsoft.com/win/2k22"
DEBIAN = "http://debian.org/debian/12"


def domain(name: str, os_id: str | None) -> str:
    return DOMAIN.format(name=name, metadata=METADATA.format(os_id) if os_id else "")


def closing(states: AsyncIterator[Inventory]) -> aclosing[AsyncGenerator[Inventory, None]]:
    return aclosing(cast("AsyncGenerator[Inventory, None]", states))


@pytest.fixture
def libvirt() -> Any:
    return pytest.importorskip(
        "libvirt",
        reason="the libvirt binding is missing: apt-get install libvirt-dev pkg-config, then"
        " pip install libvirt-python",
    )


@pytest.fixture
def site(tmp_path: Path, libvirt: Any) -> str:
    guests = [
        ("svm-1", DEBIAN),
        ("db", DEBIAN),
        ("mail", WINDOWS_SERVER),
        ("seat-1", WINDOWS_10),
        ("old", None),
    ]
    path = tmp_path / "site.xml"
    domains = "".join(domain(name, os_id) for name, os_id in guests)
    path.write_text(f"<node>{domains}</node>")
    return f"test://{path}"


@pytest.fixture
def shared(libvirt: Any) -> Iterator[Any]:
    """The test driver's default node, which all connections of a process share."""
    connection = libvirt.open("test:///default")
    yield connection
    for guest in connection.listAllDomains():
        if guest.name() != "test":
            persistent = guest.isPersistent()
            if guest.isActive():
                guest.destroy()
            if persistent:
                guest.undefine()
    connection.close()


async def first(source: Any) -> Inventory:
    async with closing(source.watch()) as states, asyncio.timeout(20):
        return await anext(states)


async def test_R69_active_guests_are_counted_by_class(site: str) -> None:
    inventory = await first(parse_source(f"libvirt:{site}?cluster=site-a"))
    assert inventory.cluster == "site-a"
    assert inventory.guests == GuestMix(servers=3, desktops=1, unknown=1)


async def test_R91_the_svms_own_domain_is_no_guest(site: str) -> None:
    inventory = await first(parse_source(f"libvirt:{site}?except=svm-1"))
    assert inventory.guests == GuestMix(servers=2, desktops=1, unknown=1)


async def test_a_name_that_leaves_out_nothing_is_said(site: str) -> None:
    with structlog.testing.capture_logs() as logs:
        inventory = await first(parse_source(f"libvirt:{site}?except=svm-l"))
    assert inventory.guests.total == 5
    assert [entry["left_out"] for entry in logs] == ["svm-l"]


async def test_R91_two_svms_on_one_host_tell_the_same_host(site: str) -> None:
    one = await first(parse_source("libvirt:test:///default"))
    two = await first(parse_source(f"libvirt:{site}"))
    assert one.host_uuid == two.host_uuid
    assert len(one.host_uuid) == 36
    assert one.host_cpu == HostCpu(processors=2, cores=16)


async def test_guests_that_start_and_stop_are_noticed(shared: Any) -> None:
    source = HypervisorInventory("test:///default", poll_interval=0.02)
    async with closing(source.watch()) as states, asyncio.timeout(20):
        assert (await anext(states)).guests == GuestMix(unknown=1)
        started = shared.createXML(domain("seat-9", WINDOWS_10))
        assert (await anext(states)).guests == GuestMix(desktops=1, unknown=1)
        started.destroy()
        assert (await anext(states)).guests == GuestMix(unknown=1)


async def test_a_guest_that_is_switched_off_is_not_active(shared: Any) -> None:
    shared.defineXML(domain("seat-8", WINDOWS_10))
    assert (await first(HypervisorInventory("test:///default"))).guests == GuestMix(unknown=1)


async def test_a_hypervisor_that_goes_and_comes_back(
    libvirt: Any, shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HypervisorInventory("test:///default", poll_interval=0.02)
    look = HypervisorInventory._read_guests
    gone = asyncio.Event()

    def read_guests(self: HypervisorInventory, binding: Any) -> Any:
        if gone.is_set():
            raise libvirt.libvirtError("the connection was cut")
        return look(self, binding)

    monkeypatch.setattr(HypervisorInventory, "_read_guests", read_guests)
    with structlog.testing.capture_logs() as logs:
        async with closing(source.watch()) as states, asyncio.timeout(20):
            await anext(states)
            gone.set()
            while not logs:  # noqa: ASYNC110 - the log is a list
                await asyncio.sleep(0.01)
            shared.createXML(domain("seat-7", WINDOWS_10))
            gone.clear()
            assert (await anext(states)).guests == GuestMix(desktops=1, unknown=1)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]


async def test_an_unreachable_hypervisor_refuses_the_start(libvirt: Any) -> None:
    with pytest.raises(StartupRefused, match="does not answer"):
        await first(parse_source("libvirt:test:///none/there.xml"))


async def test_a_missing_binding_refuses_the_start_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without_libvirt(name: str, *rest: Any) -> Any:
        if name == "libvirt":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_libvirt)
    with pytest.raises(StartupRefused, match=r"libvirt-dev.*sparekey\[libvirt\]"):
        await first(parse_source("libvirt:test:///default"))


CAPABILITIES = "<capabilities><host>{}</host></capabilities>"


def cpus(*siblings_by_socket: tuple[int, str]) -> str:
    found = "".join(
        f"<cpu id='{number}' socket_id='{socket}' siblings='{siblings}'/>"
        for number, (socket, siblings) in enumerate(siblings_by_socket)
    )
    return CAPABILITIES.format(
        f"<topology><cells><cell><cpus>{found}<cpu id='99'/></cpus></cell></cells></topology>"
    )


def test_R91_hyper_threads_are_not_cores() -> None:
    node = ["x86_64", 1, 8, 1, 1, 1, 8, 1]  # what libvirt tells of a layout that is not plain
    two_sockets = cpus(*[(n % 4 // 2, f"{n % 4},{n % 4 + 4}") for n in range(8)])
    assert read_processors(two_sockets, node) == HostCpu(processors=2, cores=4)


def test_without_a_topology_the_summary_counts() -> None:
    node = ["x86_64", 1, 64, 1, 2, 2, 8, 2]
    assert read_processors(CAPABILITIES.format(""), node) == HostCpu(processors=4, cores=32)
