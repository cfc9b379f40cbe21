"""The inventory from the hypervisor itself, through libvirt.

It is polled, in a thread of its own, rather than followed by lifecycle events. Units are counted
over 30 days (R91), so ten seconds are soon enough; events would need libvirt's process-wide event
loop in a second thread, tell nothing when a guest's metadata is edited, and end with the
connection, so that polling would still be needed to notice its return.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import structlog

from sparekey.agent.inventory.guest_os import classify_domain
from sparekey.agent.inventory.inventory import Inventory
from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.units import Guest
from sparekey.runtime.startup import StartupRefused

POLL_INTERVAL = 10.0
"""Seconds between two looks at the hypervisor."""

_log = structlog.get_logger()


class HypervisorUnreachable(Exception):
    """The hypervisor did not answer; the message is libvirt's."""


class HypervisorInventory:
    """Counts the active guests of a libvirt connection and its host's processors.

    Args:
        uri: The connection, for example `qemu:///system`.
        leave_out: The name of the SVM's own domain, which is not a guest (R91).
        cluster: The cluster's name; libvirt knows of none.
        poll_interval: Seconds between two looks.
    """

    def __init__(
        self,
        uri: str,
        *,
        leave_out: str = "",
        cluster: str = "",
        poll_interval: float = POLL_INTERVAL,
    ) -> None:
        self._uri = uri
        self._leave_out = leave_out
        self._cluster = cluster
        self._poll_interval = poll_interval
        self._connection: Any = None
        self._host: tuple[str, HostCpu] | None = None
        self._missed = False

    async def watch(self) -> AsyncIterator[Inventory]:
        """First the present state, then each change.

        Raises:
            StartupRefused: the binding is missing, or the hypervisor does not answer.
        """
        loop = asyncio.get_running_loop()
        seen: asyncio.Queue[Inventory | StartupRefused] = asyncio.Queue()
        stop = threading.Event()

        def tell(what: Inventory | StartupRefused) -> None:
            try:
                loop.call_soon_threadsafe(seen.put_nowait, what)
            except RuntimeError:  # the loop has ended meanwhile
                stop.set()

        # Daemonic, so that a hypervisor that hangs cannot keep the program from ending.
        threading.Thread(
            target=self._poll, args=(tell, stop), name="hypervisor", daemon=True
        ).start()
        try:
            while True:
                what = await seen.get()
                if isinstance(what, StartupRefused):
                    raise what
                yield what
        finally:
            stop.set()

    def _poll(self, tell: Any, stop: threading.Event) -> None:
        try:
            libvirt = _binding()
            last = self._look(libvirt)
        except StartupRefused as refused:
            tell(refused)
            return
        except HypervisorUnreachable as unreachable:
            tell(
                StartupRefused(
                    f"the hypervisor at {self._uri} does not answer ({unreachable}); start its"
                    " daemon, or give another URI"
                )
            )
            return
        tell(last)
        reachable = True
        while not stop.wait(self._poll_interval):
            try:
                fresh = self._look(libvirt)
            except HypervisorUnreachable as unreachable:
                if reachable:
                    _log.error(
                        "the hypervisor does not answer; the last inventory stays in force",
                        uri=self._uri,
                        error=str(unreachable),
                    )
                reachable = False
                continue
            if not reachable:
                _log.info("the hypervisor answers again", uri=self._uri)
            reachable = True
            if fresh != last:
                last = fresh
                tell(fresh)

    def _look(self, libvirt: Any) -> Inventory:
        try:
            if self._connection is None:
                self._connection = libvirt.openReadOnly(self._uri)
                self._host = None
            # A host's processors do not change under a running hypervisor.
            host_uuid, host_cpu = self._host = self._host or _read_host(self._connection)
            guests, listed = self._read_guests(libvirt)
        except libvirt.libvirtError as error:
            self._connection = None
            raise HypervisorUnreachable(str(error)) from None
        return Inventory(self._cluster, guests, host_uuid, host_cpu, listed)

    def _read_guests(self, libvirt: Any) -> tuple[GuestMix, tuple[Guest, ...]]:
        classes: Counter[OsClass | None] = Counter()
        listed: list[Guest] = []
        domains = self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        self._check_left_out({domain.name() for domain in domains})
        for domain in domains:
            if domain.name() == self._leave_out:
                continue
            try:
                os_class = classify_domain(domain.XMLDesc())
                classes[os_class] += 1
                listed.append(Guest(domain.UUIDString(), os_class))
            except libvirt.libvirtError as error:
                # One that ended since the list was made is no guest any more.
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
        mix = GuestMix(classes[OsClass.SERVER], classes[OsClass.DESKTOP], classes[None])
        # In one order, so that a look that finds the same is the same.
        return mix, tuple(sorted(listed, key=lambda guest: guest.instance_uuid))

    def _check_left_out(self, names: set[str]) -> None:
        """Say once that a mistyped name leaves out nothing."""
        if self._leave_out and self._leave_out not in names and not self._missed:
            self._missed = True
            _log.warning(
                "no active domain has the name that is to be left out; every one is counted",
                left_out=self._leave_out,
            )


def read_processors(capabilities_xml: str, info: list[Any]) -> HostCpu:
    """A host's processors and physical cores (R67).

    The capabilities name each logical processor's socket and, as its siblings, the threads that
    share its core, so hyper-threads are not taken for cores (R91). The node's summary does take
    them so where its layout is not plain; it is used only where the capabilities say nothing.

    Args:
        capabilities_xml: What `getCapabilities` gave.
        info: What `getInfo` gave: model, memory, processors, MHz, nodes, sockets a node, cores a
            socket, threads a core.
    """
    cpus = _capabilities(capabilities_xml).findall("./host/topology/cells/cell/cpus/cpu")
    # A processor that is switched off names neither.
    sockets = {cpu.get("socket_id") for cpu in cpus} - {None}
    cores = {cpu.get("siblings") for cpu in cpus} - {None}
    if sockets and cores:
        return HostCpu(processors=len(sockets), cores=len(cores))
    nodes, sockets_a_node, cores_a_socket = (int(number) for number in info[4:7])
    processors = nodes * sockets_a_node
    return HostCpu(processors=processors, cores=processors * cores_a_socket)


def _read_host(connection: Any) -> tuple[str, HostCpu]:
    capabilities = connection.getCapabilities()
    host_uuid = _capabilities(capabilities).findtext("./host/uuid", "").strip().lower()
    if not host_uuid:
        # The same for every SVM on the host, which is what the UUID is for.
        host_uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, connection.getHostname()))
    return host_uuid, read_processors(capabilities, connection.getInfo())


def _capabilities(capabilities_xml: str) -> ET.Element:
    # It comes from the hypervisor's own library, which wrote it itself.
    return ET.fromstring(capabilities_xml)  # noqa: S314


def _binding() -> Any:
    try:
        import libvirt
    except ImportError:
        raise StartupRefused(
            "an inventory from libvirt needs its Python binding; install the packages libvirt-dev"
            " and pkg-config and then sparekey[libvirt], or use a file as the inventory"
        ) from None
    # Errors are raised; the library would print them on standard error besides.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt
