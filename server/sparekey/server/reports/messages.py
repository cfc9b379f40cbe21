"""Reports as messages, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sparekey.licensing.forecast import Forecast, GapReason, SvmGap
from sparekey.licensing.guests import OsClass
from sparekey.licensing.key_usage import UsageRow
from sparekey.licensing.renewal_plan import PlannedKey, PlannedTask, RenewalPlan
from sparekey.licensing.story import Sentence
from sparekey.licensing.walking import AddGuests, BlockKey, EndKey, WhatIf
from sparekey.server.keys.messages import key_message
from sparekey.server.life.messages import subscription_status
from sparekey.server.reports.gathering import Question
from sparekey.server.store.keys import KeyUse, StoredKey
from sparekey.server.store.subscriptions import StoredSubscription
from sparekey.v1 import license_pb2, report_pb2
from sparekey.wire.field_rules import MAX_PICKED
from sparekey.wire.licensing_messages import EDITIONS, KEY_TYPES, MODES, ROLES
from sparekey.wire.timestamps import from_duration, from_timestamp, to_timestamp

DEFAULT_HORIZON = timedelta(days=90)

_MOST_VOID = 100
"""How many SVMs with void keys a plan names."""

_CLASSES = {
    os_class: report_pb2.GuestClass.Value(f"GUEST_CLASS_{os_class.name}") for os_class in OsClass
}
_REASONS = {reason: report_pb2.GapReason.Value(f"GAP_REASON_{reason.name}") for reason in GapReason}


def read_question(
    request: report_pb2.ForecastCoverageRequest | report_pb2.PlanRenewalRequest, now: datetime
) -> Question:
    """What a forecast or a plan is asked."""
    horizon = from_duration(request.horizon) if request.HasField("horizon") else DEFAULT_HORIZON
    changes = tuple(_read_what_if(one, now) for one in request.what_if)
    return Question(now, horizon, request.cluster, changes)


def _read_what_if(message: report_pb2.WhatIf, now: datetime) -> WhatIf:
    at = max(now, from_timestamp(message.at)) if message.HasField("at") else now
    match message.WhichOneof("change"):
        case "block_key":
            return BlockKey(message.block_key.key_serial, at)
        case "end_key":
            return EndKey(message.end_key.key_serial, at)
        case _:
            guests = message.add_guests
            return AddGuests(guests.svm_id, at, guests.servers, guests.desktops)


def usage_message(
    row: UsageRow, stored: StoredKey, known: StoredSubscription | None, now: datetime
) -> report_pb2.KeyUsage:
    """One key's use."""
    return report_pb2.KeyUsage(
        key=key_message(
            stored,
            KeyUse(row.active_svms, row.reserve_svms),
            units=row.units_used,
            subscription=(
                subscription_status(known.subscription, now, known.polled_at) if known else None
            ),
        ),
        units_used=row.units_used,
        units_over=row.units_over,
        units_reserved=row.units_reserved,
        units_spare=row.spare_units,
        days_left=row.days_left,
    )


def forecast_summary(found: Forecast) -> report_pb2.ForecastSummary:
    """What a forecast says of all SVMs."""
    return report_pb2.ForecastSummary(
        starts_at=to_timestamp(found.now),
        ends_at=to_timestamp(found.until),
        svm_count=found.svms,
        svm_with_gap_count=found.svms_with_gaps(),
        gap_count=len(found.gaps),
        classes=[
            report_pb2.ClassForecast(
                guest_class=_CLASSES[one.os_class],
                svm_count=one.svms,
                guest_count=one.guests,
                first_gap_at=to_timestamp(one.first_gap_at),
            )
            for one in found.summary()
        ],
    )


def gap_message(found: SvmGap) -> report_pb2.CoverageGap:
    """One gap."""
    gap = found.gap
    return report_pb2.CoverageGap(
        svm_id=found.svm_id,
        cluster=found.cluster,
        guest_class=_CLASSES[gap.os_class],
        guest_count=found.guests,
        starts_at=to_timestamp(gap.starts_at),
        ends_at=to_timestamp(gap.ends_at),
        mode=MODES[gap.mode],  # type: ignore[arg-type]
        reason=_REASONS[gap.reason],
        key_serial=gap.serial or "",
        may_renew_itself=gap.may_renew_itself,
    )


def plan_summary(plan: RenewalPlan, svms: int) -> report_pb2.PlanSummary:
    """What a plan comes to."""
    return report_pb2.PlanSummary(
        starts_at=to_timestamp(plan.now),
        ends_at=to_timestamp(plan.until),
        svm_count=svms,
        keys=[_planned_key(number, key) for number, key in enumerate(plan.keys, 1)],
        task_count=sum(len(_parts(task)) for key in plan.keys for task in key.tasks),
        void_svm_count=len(plan.void_svm_ids),
        void_svm_ids=plan.void_svm_ids[:_MOST_VOID],
    )


def _planned_key(number: int, key: PlannedKey) -> report_pb2.PlannedKey:
    return report_pb2.PlannedKey(
        number=number,
        key_serial=key.serial or "",
        type=KEY_TYPES[key.type],  # type: ignore[arg-type]
        edition=EDITIONS[key.edition],  # type: ignore[arg-type]
        units=key.units,
        starts_by=to_timestamp(key.starts_by),
        until=to_timestamp(key.until),
        svm_count=sum(len(task.svm_ids) for task in key.tasks),
        guest_count=sum(task.guests for task in key.tasks),
    )


def planned_tasks(plan: RenewalPlan) -> Iterator[report_pb2.PlannedTask]:
    """The plan's tasks, each with no more SVMs than a task may name."""
    for number, key in enumerate(plan.keys, 1):
        for task in key.tasks:
            for svm_ids in _parts(task):
                yield report_pb2.PlannedTask(
                    key_number=number,
                    key_serial=key.serial or "",
                    role=ROLES[task.role],  # type: ignore[arg-type]
                    scope=license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svm_ids)),
                    svm_count=len(svm_ids),
                    run_from=to_timestamp(task.run_from),
                    run_by=to_timestamp(task.run_by),
                )


def _parts(task: PlannedTask) -> list[tuple[str, ...]]:
    return [
        task.svm_ids[start : start + MAX_PICKED]
        for start in range(0, len(task.svm_ids), MAX_PICKED)
    ]


def sentence_message(sentence: Sentence) -> report_pb2.Sentence:
    """One sentence."""
    return report_pb2.Sentence(
        at=to_timestamp(sentence.at),
        text=sentence.text,
        rules=sentence.rules,
        event_cursor=sentence.cursor,
    )
