"""SVMs as messages: what they reported, and what the rules predict since then."""

from __future__ import annotations

from datetime import datetime

from sparekey.licensing.modes import mode_at
from sparekey.licensing.settling import settle
from sparekey.licensing.status import reasons_at, worst_of
from sparekey.server.life.terms import NO_TERMS, Terms
from sparekey.server.store.svms import SvmRecord
from sparekey.v1 import fleet_pb2
from sparekey.wire.licensing_messages import (
    MODES,
    STATUS_REASONS,
    STATUSES,
    guest_mix_message,
    host_cpu_message,
    keyring_message,
)
from sparekey.wire.timestamps import to_timestamp


def svm_message(
    record: SvmRecord,
    now: datetime,
    *,
    connected: bool,
    waiting: int,
    terms: Terms = NO_TERMS,
) -> fleet_pb2.Svm:
    """An SVM as it stands at an instant.

    Args:
        record: The SVM as stored.
        now: The instant.
        connected: Whether its agent's stream is open.
        waiting: How many instructions wait for it.
        terms: What is known of subscriptions, blocked and void keys.
    """
    reasons = reasons_at(
        record.keyring,
        record.guests,
        now,
        last_seen_at=record.last_seen_at,
        connected=connected,
        subscriptions=terms.subscriptions,
        void=record.svm_id in terms.void_svms,
    )
    mode = mode_at(
        record.keyring,
        now,
        block_grace=terms.block_grace,
        subscriptions=terms.subscriptions,
        block_graces=terms.block_graces,
        void=record.svm_id in terms.void_svms,
    )
    settled = settle(record.keyring, now)
    predicted = (
        keyring_message(settled.keyring.slots, record.keyring_revision) if settled.changes else None
    )
    return fleet_pb2.Svm(
        svm_id=record.svm_id,
        cluster=record.cluster,
        link_state=(fleet_pb2.LINK_STATE_CONNECTED if connected else fleet_pb2.LINK_STATE_OFFLINE),
        guests=guest_mix_message(record.guests),
        host_cpu=host_cpu_message(record.host_cpu, record.host_uuid),
        keyring=keyring_message(record.keyring.slots, record.keyring_revision),
        predicted_keyring=predicted,
        mode=MODES[mode],  # type: ignore[arg-type]
        pending_instruction_count=waiting,
        excluded=record.excluded,
        registered_at=to_timestamp(record.registered_at),
        last_seen_at=to_timestamp(record.last_seen_at),
        agent_version=record.agent_version,
        push_stalled=record.push_stalled,
        status=STATUSES[worst_of(reasons)],  # type: ignore[arg-type]
        status_reasons=[STATUS_REASONS[reason] for reason in reasons],  # type: ignore[misc]
    )
