"""R34, R69, R91: Linux is a server, the unknown stays unknown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.agent.inventory.guest_os import classify_domain, classify_os
from sparekey.licensing.guests import OsClass

SERVERS = [
    "server",
    " Server ",
    "Windows Server 2022",
    "Microsoft Windows Server 2016 (64-bit)",
    "Windows Server 2012 R2 Datacenter",
    "Windows 2012 R2",
    "win2k19",
    "win2022",
    "http://microsoft.com/win/2k22",
    "http://microsoft.com/win/2k12r2",
    "http://microsoft.com/win/2k3",
    "http://microsoft.com/win/2k25",
]
LINUX = [
    "linux",
    "Debian 12",
    "debian12",
    "http://debian.org/debian/12",
    "Ubuntu Desktop 24.04",
    "ubuntu22.04",
    "http://ubuntu.com/ubuntu/22.04",
    "http://redhat.com/rhel/9.2",
    "Red Hat Enterprise Linux 8",
    "http://centos.org/centos-stream/9",
    "http://almalinux.org/almalinux/9",
    "http://rockylinux.org/rocky/9",
    "fedora38",
    "SLES 15 SP4",
    "opensuse15.4",
    "alpinelinux3.17",
    "archlinux",
    "GNU/Linux",
]
DESKTOPS = [
    "desktop",
    "Windows 10",
    "Windows 10 Enterprise 22H2",
    "Microsoft Windows 11 Pro",
    "Windows 7",
    "Windows 8.1",
    "windows xp",
    "win10",
    "win11",
    "http://microsoft.com/win/10",
    "http://microsoft.com/win/11",
    "http://microsoft.com/win/8.1",
    "http://microsoft.com/win/7",
    "http://microsoft.com/win/xp",
    "http://microsoft.com/win/vista",
    "http://apple.com/macosx/10.15",
    "macOS 14",
]
UNKNOWN = [
    "unknown",
    "",
    "Windows",
    "http://microsoft.com/win/2k",
    "winnt4.0",
    "http://freebsd.org/freebsd/13.1",
    "Solaris 11",
    "darwin",
    "my windowsill",
    "SERVERLESS",
    "http://libosinfo.org/unknown",
]


@pytest.mark.parametrize("text", SERVERS)
def test_R69_server_systems(text: str) -> None:
    assert classify_os(text) is OsClass.SERVER


@pytest.mark.parametrize("text", LINUX)
def test_R34_every_linux_is_a_server(text: str) -> None:
    assert classify_os(text) is OsClass.SERVER


@pytest.mark.parametrize("text", DESKTOPS)
def test_R69_desktop_systems(text: str) -> None:
    assert classify_os(text) is OsClass.DESKTOP


@pytest.mark.parametrize("text", UNKNOWN)
def test_R91_what_is_not_recognised_stays_unknown(text: str) -> None:
    assert classify_os(text) is None


DOMAIN = """
<domain type='kvm'>
  <name>guest</name>
  <metadata>{metadata}</metadata>
  <os><type arch='x86_64'>{kind}</type></os>
</domain>
"""
LIBOSINFO = (
    '<libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">'
    '<libosinfo:os id="{}"/></libosinfo:libosinfo>'
)


@pytest.mark.parametrize(
    ("os_id", "kind", "expected"),
    [
        ("http://microsoft.com/win/10", "hvm", OsClass.DESKTOP),
        ("http://microsoft.com/win/2k22", "hvm", OsClass.SERVER),
        ("http://debian.org/debian/12", "hvm", OsClass.SERVER),
        ("http://freebsd.org/freebsd/13.1", "hvm", None),
        (None, "hvm", None),
        (None, "linux", OsClass.SERVER),
        (None, "exe", OsClass.SERVER),
    ],
)
def test_a_domain_is_classified_by_its_metadata_then_its_kind(
    os_id: str | None, kind: str, expected: OsClass | None
) -> None:
    metadata = "" if os_id is None else LIBOSINFO.format(os_id)
    assert classify_domain(DOMAIN.format(metadata=metadata, kind=kind)) is expected


def test_what_is_no_domain_is_unknown() -> None:
    assert classify_domain("") is None
    assert classify_domain("<domain") is None
    assert classify_domain("<other/>") is None


@settings(max_examples=200, deadline=None, database=None)
@given(st.text(max_size=60))
def test_any_text_is_of_some_class_or_none(text: str) -> None:
    assert classify_os(text) in (*OsClass, None)
    assert classify_domain(text) is None
