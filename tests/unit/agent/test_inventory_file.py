"""The inventory file: strict, clear about what is wrong, and followed as it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import structlog

from sparekey.agent.inventory.file import FileInventory
from sparekey.agent.inventory.file_format import InvalidInventory, read_inventory
from sparekey.agent.inventory.fixed import FixedInventory
from sparekey.agent.inventory.hypervisor import HypervisorInventory
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.inventory.sources import parse_source
from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.units import Guest
from sparekey.runtime.startup import StartupRefused

UUID = "6d0f4c8e-0a51-4f7d-9d2b-5c9a7e3b1f20"
HOST = {"uuid": UUID, "processors": 2, "cores": 32}
COUNTS = {"servers": 3, "desktops": 2, "unknown": 1}
GOOD = {"cluster": "site-a", "host": HOST, "guests": COUNTS}
INVENTORY = Inventory("site-a", GuestMix(3, 2, 1), UUID, HostCpu(2, 32))


def closing(states: AsyncIterator[Inventory]) -> aclosing[AsyncGenerator[Inventory, None]]:
    return aclosing(cast("AsyncGenerator[Inventory, None]", states))


def problem_of(text: str) -> str:
    with pytest.raises(InvalidInventory) as caught:
        read_inventory(text)
    return str(caught.value)


def test_yaml_and_json_with_counts() -> None:
    assert read_inventory(json.dumps(GOOD)) == INVENTORY
    assert (
        read_inventory(
            f"""
            # what runs beside the SVM
            cluster: site-a
            host: {{uuid: {UUID.upper()}, processors: 2, cores: 32}}
            guests: {{servers: 3, desktops: 2, unknown: 1}}
            """
        )
        == INVENTORY
    )


def test_a_list_of_guests_is_counted_by_their_systems() -> None:
    names = ("Debian 12", "Windows Server 2022", "server", "Windows 10", "desktop", "BeOS")
    guests = [{"name": f"vm-{number}", "os": name} for number, name in enumerate(names)]
    assert read_inventory(json.dumps({**GOOD, "guests": guests})) == INVENTORY


def test_what_may_be_left_out() -> None:
    few = read_inventory(json.dumps({"host": HOST, "guests": {}}))
    assert few == Inventory("", GuestMix(), UUID, HostCpu(2, 32))
    # A list without a guest says more than counts of none: that no guest is left.
    none = read_inventory(json.dumps({"host": HOST, "guests": []}))
    assert none == replace(few, guest_list=())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"cloud": 1}, "cloud is not a known field; known are cluster, guests, host"),
        ({"host": {**HOST, "ram": 1}}, "host.ram is not a known field"),
        ({"host": {"uuid": UUID, "cores": 1}}, "host.processors is missing"),
        ({"host": 7}, "host must hold cores, processors, uuid"),
        ({"host": {**HOST, "cores": -1}}, "host.cores must be a whole number from 0 to 1000000"),
        ({"host": {**HOST, "cores": True}}, "host.cores must be a whole number"),
        ({"host": {**HOST, "cores": "2"}}, "host.cores must be a whole number"),
        ({"host": {**HOST, "uuid": "host-1"}}, "host.uuid must be a UUID"),
        ({"host": {**HOST, "uuid": 5}}, "host.uuid must be text"),
        ({"guests": {"servers": 1, "linux": 2}}, "guests.linux is not a known field"),
        ({"guests": {"servers": 1.5}}, "guests.servers must be a whole number"),
        ({"guests": 5}, "guests must be counts"),
        ({"guests": None}, "guests must be counts"),
        ({"guests": [{"name": "a", "os": "x"}, {"name": "b"}]}, "guests[1].os is missing"),
        ({"guests": [{"name": "a", "os": "x", "ip": 1}]}, "guests[0].ip is not a known field"),
        ({"guests": [{"name": 1, "os": "x"}]}, "guests[0].name must be text"),
        ({"guests": ["a"]}, "guests[0] must hold excluded, name, os, uuid"),
        ({"cluster": 5}, "cluster must be text; put it in quotation marks"),
        ({"cluster": "x" * 101}, "cluster must be 1 to 100 printable characters"),
        ({"cluster": "a\nb"}, "cluster must be 1 to 100 printable characters"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_place(
    change: dict[str, object], problem: str
) -> None:
    assert problem in problem_of(json.dumps({**GOOD, **change}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it must hold cluster, guests, host"),
        ("[]", "it must hold cluster, guests, host"),
        ("host: {", "it is neither YAML nor JSON (line 1, column"),
        ("host: 1\nhost: 2", "host stands 2 times in one place (line 1)"),
        ("!!python/object/apply:os.system [true]", "it is neither YAML nor JSON"),
        ("\x00", "it is neither YAML nor JSON"),
        ("a: 2001-99-99", "it is neither YAML nor JSON"),
        ("{a: &a [*a]}", "a is not a known field"),
        ("? [a]\n: b", "it is neither YAML nor JSON"),
        ("[" * 1500, "it is neither YAML nor JSON"),
    ],
)
def test_what_is_no_inventory_is_called_so(text: str, problem: str) -> None:
    assert problem in problem_of(text)


async def test_the_file_is_followed_and_trouble_leaves_the_last_good_state(
    tmp_path: Path,
) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(json.dumps(GOOD))
    with structlog.testing.capture_logs() as logs:
        async with closing(FileInventory(path).watch()) as states, asyncio.timeout(20):
            assert await anext(states) == INVENTORY
            following = asyncio.create_task(anext(states))
            while not logs:
                # Written until it is seen: there is no telling when the watch has begun.
                path.write_text(json.dumps({**GOOD, "cloud": 1}))
                await asyncio.sleep(0.05)
            assert not following.done()
            # As editors and configuration tools do it: a new file in the old one's place.
            fresh = tmp_path / "fresh"
            fresh.write_text(json.dumps({**GOOD, "cluster": "site-b"}))
            fresh.replace(path)
            assert (await following).cluster == "site-b"
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert logs[0]["problem"].startswith("cloud is not a known field")
    assert logs[0]["file"] == str(path)


async def test_a_folder_that_cannot_be_watched_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def awatch(*_paths: object, **_options: object) -> AsyncIterator[None]:
        raise OSError(28, "OS file watch limit reached")
        yield

    monkeypatch.setattr("watchfiles.awatch", awatch)
    monkeypatch.setattr("sparekey.agent.inventory.file._LOOK_AGAIN_AFTER", 0.01)
    path = tmp_path / "inventory.yaml"
    path.write_text(json.dumps(GOOD))
    async with closing(FileInventory(path).watch()) as states, asyncio.timeout(20):
        assert await anext(states) == INVENTORY
        path.write_text(json.dumps({**GOOD, "cluster": "site-b"}))
        assert (await anext(states)).cluster == "site-b"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"\xff", "it is not UTF-8 text"),
        (b"{}", "guests is missing"),
        (b" " * (4 * 1024 * 1024 + 1), "it has more than 4194304 bytes"),
    ],
)
async def test_a_start_without_a_usable_file_is_refused(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "inventory.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupRefused) as caught:
        await anext(FileInventory(path).watch())
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


async def test_a_fixed_inventory_tells_each_watcher_the_newest() -> None:
    source = FixedInventory(INVENTORY)
    async with closing(source.watch()) as one, closing(source.watch()) as two:
        assert await anext(one) == await anext(two) == INVENTORY
        for number in range(5):
            source.set(Inventory("site-a", GuestMix(number), UUID, HostCpu(2, 32)))
        assert (await anext(one)).guests == (await anext(two)).guests == GuestMix(4)
        waiting = asyncio.create_task(anext(one))
        source.set(source.inventory)
        source.set(INVENTORY)
        assert await waiting == INVENTORY


def test_sources_are_named_by_text(tmp_path: Path) -> None:
    assert isinstance(parse_source("file:some/where.yaml"), FileInventory)
    assert isinstance(parse_source("libvirt:qemu:///system"), HypervisorInventory)


@pytest.mark.parametrize(
    ("text", "uri", "left_out", "cluster"),
    [
        ("libvirt:qemu:///system", "qemu:///system", "", ""),
        ("libvirt:test:///default?except=svm-1", "test:///default", "svm-1", ""),
        (
            "libvirt:qemu+unix:///system?socket=/run/v.sock&except=my%20svm&cluster=a",
            "qemu+unix:///system?socket=/run/v.sock",
            "my svm",
            "a",
        ),
    ],
)
def test_a_libvirt_source_keeps_what_is_libvirts(
    text: str, uri: str, left_out: str, cluster: str
) -> None:
    source = parse_source(text)
    assert isinstance(source, HypervisorInventory)
    assert (source._uri, source._leave_out, source._cluster) == (uri, left_out, cluster)


@pytest.mark.parametrize(
    "text", ["", "file:", "libvirt:", "libvirt:nothing", "/some/path", "xml:a"]
)
def test_what_names_no_source_is_refused(text: str) -> None:
    with pytest.raises(StartupRefused, match=r"write"):
        parse_source(text)


def test_R91_guests_with_a_uuid_each_are_listed_one_by_one() -> None:
    first, second = "6d0f4c8e-0a51-4f7d-9d2b-5c9a7e3b1f20", "6d0f4c8e-0a51-4f7d-9d2b-5c9a7e3b1f21"
    head = f"host: {{uuid: {first}, processors: 1, cores: 4}}\nguests:\n"
    listed = (
        f"{head}- {{name: a, os: Debian 12, uuid: {first}}}\n"
        f"- {{name: b, os: Windows 11, uuid: {second}, excluded: true}}\n"
    )
    assert read_inventory(listed).guest_list == (
        Guest(first, OsClass.SERVER),
        Guest(second, OsClass.DESKTOP, counted=False),
    )
    assert read_inventory(f"{head}- {{name: a, os: Debian 12}}\n").guest_list is None
    with pytest.raises(InvalidInventory, match="each has its own"):
        read_inventory(listed.replace(second, first))
