"""An SVM's surroundings as one value, and what a source of it must offer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.units import Guest


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an SVM reports of its surroundings.

    Attributes:
        cluster: The cluster's name, 1 to 100 printable characters; empty for none (R99).
        guests: The guests beside the SVM, by class of operating system (R69).
        host_uuid: The hypervisor's UUID, by which two SVMs on it count it once (R91).
        host_cpu: The hypervisor's processors and physical cores (R67).
        guest_list: The guests one by one, so that one which moves is counted once (R91); None
            where the source cannot tell them apart.
    """

    cluster: str
    guests: GuestMix
    host_uuid: str
    host_cpu: HostCpu
    guest_list: tuple[Guest, ...] | None = None


class InventorySource(Protocol):
    """Where an agent learns its inventory from."""

    def watch(self) -> AsyncIterator[Inventory]:
        """First the present state, then each change, until the iterator is closed.

        Trouble after the first state is the source's own to log and to outlast; meanwhile the
        last good state holds.

        Raises:
            StartupRefused: the present state cannot be had.
        """
        ...
