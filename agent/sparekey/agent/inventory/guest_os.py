"""Which class a guest's operating system is of: server, desktop or unknown (R69).

Every Linux is of the server class (R34). What is not recognised stays unknown: it then counts as
a server, flagged (R91), and no desktop key covers it by mistake.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from sparekey.licensing.guests import OsClass

_EXPLICIT = {"server": OsClass.SERVER, "desktop": OsClass.DESKTOP, "unknown": None}

# One family of systems comes in a server and a desktop line; its ids and names tell them apart by
# year and by number.
_WINDOWS = re.compile(r"\bwin(?:dows)?(?=[\W\d_]|$|nt|xp|vista)")
_WINDOWS_SERVER = re.compile(
    r"\bserver\b"
    r"|\b(?:win(?:dows)?[\W_]?)?2k(?:3|8|12|16|19|22|25)(?:r2)?\b"
    r"|\b(?:win(?:dows)?[\W_]?)?20(?:03|08|12|16|19|22|25)(?:[\W_]?r2)?\b"
)
_WINDOWS_DESKTOP = re.compile(
    r"\bwin(?:dows)?[\W_]*(?:(?:xp|vista|me)\b|(?:9[58]|7|8(?:\.1)?)(?![\d.])|1[01]\b)"
)
# Most names hold the word itself; these do not. A version may follow without a space.
_LINUX = re.compile(
    r"linux|\b(?:debian|ubuntu|fedora|centos|rhel|red ?hat|rocky|opensuse|suse|sle[sd]|gentoo"
    r"|nixos|coreos|flatcar|photon|cirros|slackware|mageia)(?=[\W\d_]|$)"
)
_MAC = re.compile(r"\bmac ?os(?: ?x)?(?=[\W\d_]|$)|\bos x\b")

# The metadata that the hypervisor's own tools write when a guest is made.
_LIBOSINFO = "{http://libosinfo.org/xmlns/libvirt/domain/1.0}os"
# A paravirtual guest of these types runs a Linux kernel by definition.
_LINUX_TYPES = {"linux", "exe"}


def classify_os(text: str) -> OsClass | None:
    """The class of an operating system by its name or libosinfo id; None where unknown.

    For example `server`, `Windows Server 2022`, `http://microsoft.com/win/10`, `ubuntu22.04`.
    """
    name = text.strip().lower()
    if name in _EXPLICIT:
        return _EXPLICIT[name]
    if _WINDOWS.search(name):
        if _WINDOWS_SERVER.search(name):
            return OsClass.SERVER
        return OsClass.DESKTOP if _WINDOWS_DESKTOP.search(name) else None
    if _LINUX.search(name):
        return OsClass.SERVER
    return OsClass.DESKTOP if _MAC.search(name) else None


def classify_domain(domain_xml: str) -> OsClass | None:
    """The class of a guest by its domain XML: libosinfo's metadata first, then its kind.

    Text that is not XML is of unknown class.
    """
    try:
        # It comes from the hypervisor's own library, which wrote it itself.
        domain = ET.fromstring(domain_xml)  # noqa: S314
    except ET.ParseError:
        return None
    for element in domain.iterfind(f"./metadata//{_LIBOSINFO}"):
        return classify_os(element.get("id", ""))
    kind = domain.findtext("./os/type", "").strip()
    return OsClass.SERVER if kind in _LINUX_TYPES else None
