"""What the agent tells the server about its SVM: whole, or only the sections that changed.

Within a stream each report is the difference to the one before it; the server notices by the
sequence if one did not reach its disk, and asks for a whole one. Between streams the digest in
Hello shows whether both still agree. Where the agent cannot know whether the server has the
report before (after a restart, or when the last stream broke before it was accepted), its next
report is whole by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sparekey.agent.instructions_received import result_message
from sparekey.agent.inventory.inventory import Inventory
from sparekey.agent.keyring_keeper import KeyringKeeper
from sparekey.v1 import agent_pb2, keyring_pb2
from sparekey.wire.licensing_messages import (
    change_message,
    guest_list_message,
    guest_mix_message,
    host_cpu_message,
    keyring_message,
)
from sparekey.wire.report_digest import report_digest
from sparekey.wire.timestamps import to_timestamp


@dataclass(frozen=True, slots=True)
class _Told:
    """What the server knows as of the last frame."""

    inventory: Inventory
    revision: int


class Reports:
    """Composes one agent's reports, over all its streams.

    Args:
        keeper: The keyring's owner.
        inventory: The SVM's surroundings; to be replaced as they change.
    """

    def __init__(self, keeper: KeyringKeeper, inventory: Inventory) -> None:
        self.inventory = inventory
        self._keeper = keeper
        self._sequence = keeper.accepted_sequence
        self._joins_on = False
        self._whole_wanted = False
        self._told = self._present()
        self._digested: tuple[_Told, bytes] | None = None

    @property
    def changed(self) -> bool:
        """Whether there is anything that the server has not been told on this stream."""
        return self._whole_wanted or self._told != self._present()

    def open_stream(self) -> bytes:
        """Start afresh for a new stream; the digest to put into Hello."""
        present = self._present()
        # A report that was sent and not accepted may or may not be on the server's disk.
        self._joins_on = self._joins_on and self._sequence == self._keeper.accepted_sequence
        # The digest says nothing of the guests one by one. Where every report was accepted the
        # server has the last list, or it misses a report and asks for all of it.
        told_list = self._told.inventory.guest_list if self._joins_on else None
        self._told = present
        if told_list != self.inventory.guest_list:
            told_inventory = replace(self.inventory, guest_list=told_list)
            self._told = _Told(told_inventory, present.revision)
        self._whole_wanted = False
        return self._digest()

    def want_whole(self, server_revision: int) -> None:
        """The server asks for a full report, with the changes after its revision."""
        self._whole_wanted = True
        self._told = _Told(self._told.inventory, server_revision)

    def next_report(
        self, results: Sequence[agent_pb2.SlotResult], local_time: datetime | None
    ) -> agent_pb2.Report | None:
        """The report to send now, or None where there is nothing to tell.

        What it tells counts as told: each report that this gives must be sent.

        Args:
            results: How instructions were followed; they go with the keyring that came of them.
            local_time: The SVM's own time, where it is known.
        """
        if not results and not self.changed:
            return None
        whole = self._whole_wanted or not self._joins_on
        told, present = self._told, self._present()
        self._sequence += 1
        keyring = self._keyring()
        report = agent_pb2.Report(
            sequence=self._sequence,
            full=whole,
            results=[*self._older_results(results), *results] if whole else results,
            digest=self._digest(keyring),
            local_time=to_timestamp(local_time),
        )
        before, now = told.inventory, present.inventory
        if whole or before.cluster != now.cluster:
            report.placement.CopyFrom(_placement(now))
        if whole or before.guests != now.guests:
            report.guests.CopyFrom(guest_mix_message(now.guests))
        if whole or (before.host_uuid, before.host_cpu) != (now.host_uuid, now.host_cpu):
            report.host_cpu.CopyFrom(host_cpu_message(now.host_cpu, now.host_uuid))
        listed = now.guest_list
        if listed is not None and (whole or before.guest_list != listed):
            report.guest_list.CopyFrom(guest_list_message(listed))
        if whole or told.revision != present.revision:
            changes = self._keeper.changes_since(told.revision)
            keyring.changes.extend(change_message(one.revision, one.change) for one in changes)
            report.keyring.CopyFrom(keyring)
        self._told, self._joins_on, self._whole_wanted = present, True, False
        return report

    def _present(self) -> _Told:
        return _Told(self.inventory, self._keeper.revision)

    def _digest(self, keyring: keyring_pb2.Keyring | None = None) -> bytes:
        """Of a full report as it would be now; made again only where something has changed."""
        present, inventory = self._present(), self.inventory
        if self._digested is None or self._digested[0] != present:
            digest = report_digest(
                _placement(inventory),
                guest_mix_message(inventory.guests),
                host_cpu_message(inventory.host_cpu, inventory.host_uuid),
                keyring or self._keyring(),
            )
            self._digested = present, digest
        return self._digested[1]

    def _keyring(self) -> keyring_pb2.Keyring:
        return keyring_message(self._keeper.keyring.slots, self._keeper.revision)

    def _older_results(self, results: Sequence[agent_pb2.SlotResult]) -> list[agent_pb2.SlotResult]:
        """The stored results that a report which was lost may have carried."""
        stored = [result_message(result) for result in self._keeper.results.values()]
        return [result for result in stored if result not in results]


def _placement(inventory: Inventory) -> agent_pb2.Placement:
    return agent_pb2.Placement(cluster=inventory.cluster)
