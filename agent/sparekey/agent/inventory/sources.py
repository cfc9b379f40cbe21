"""The source of an inventory as it is written on the command line."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from sparekey.agent.inventory.file import FileInventory
from sparekey.agent.inventory.hypervisor import HypervisorInventory
from sparekey.agent.inventory.inventory import InventorySource
from sparekey.runtime.startup import StartupRefused


def parse_source(text: str) -> InventorySource:
    """The source that a text names: `file:PATH` or `libvirt:URI`.

    Of a libvirt URI's parameters two are ours and are taken out: `except`, the name of the SVM's
    own domain, and `cluster`, the cluster's name.

    Raises:
        StartupRefused: the text names no source.
    """
    kind, _, rest = text.partition(":")
    if kind == "file" and rest:
        return FileInventory(Path(rest).absolute())
    if kind == "libvirt" and rest:
        return _hypervisor(rest)
    raise StartupRefused(
        f"{text!r} is not a source of an inventory; write file:PATH, or libvirt:URI as in"
        " libvirt:qemu:///system?except=NAME"
    )


def _hypervisor(uri: str) -> InventorySource:
    parts = urlsplit(uri)
    if not parts.scheme:
        raise StartupRefused(
            f"{uri!r} is not a libvirt URI; write for example libvirt:qemu:///system"
        )
    ours = {"except": "", "cluster": ""}
    theirs = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in ours:
            ours[name] = value
        else:
            theirs.append((name, value))
    # Cut by hand, since urlunsplit drops the slashes of an empty host.
    bare, query = uri.partition("?")[0], urlencode(theirs, safe="/")
    return HypervisorInventory(
        f"{bare}?{query}" if query else bare,
        leave_out=ours["except"],
        cluster=ours["cluster"],
    )
