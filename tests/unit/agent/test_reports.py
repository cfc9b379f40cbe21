"""What the agent says of itself in Hello."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from sparekey.agent.instructions_received import SlotInstruction
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.reports import Reports
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keys import LicenseKey

if TYPE_CHECKING:
    from unit.agent.conftest import Svm

INVENTORY = Inventory("site-a", GuestMix(3, 2, 1), "host-1", HostCpu(2, 32))


def test_the_digest_is_of_what_holds_when_the_stream_opens(
    svm: Svm,
    make_key: Callable[[], LicenseKey],
    active: Callable[[LicenseKey, int], SlotInstruction],
) -> None:
    reports = Reports(svm.keeper, INVENTORY)
    seen = []

    def opens() -> None:
        digest = reports.open_stream()
        # One that never made a digest before has nothing to remember.
        assert digest == Reports(svm.keeper, reports.inventory).open_stream()
        seen.append(digest)

    opens()
    opens()
    reports.inventory = replace(INVENTORY, guests=GuestMix(4, 2, 1))
    opens()
    svm.keeper.follow_push([active(make_key(), 1)])
    opens()
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3
