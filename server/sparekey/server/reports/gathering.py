"""What each report needs from the store, read in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sparekey.licensing.forecast import Forecast, SvmSituation, forecast
from sparekey.licensing.key_usage import Holdings, UsageRow, count_holdings, usage_rows
from sparekey.licensing.renewal_plan import RenewalPlan, StorageKey, plan_renewal
from sparekey.licensing.walking import AddGuests, BlockKey, EndKey, WhatIf
from sparekey.server.life.terms import load_terms
from sparekey.server.store.guests import units_in_use
from sparekey.server.store.instructions import load_pending, svms_with_pending
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.situations import SituationReader, storage_keys
from sparekey.server.store.subscriptions import StoredSubscription, load_stored_subscriptions
from sparekey.server.tasks.waiting import project
from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused


@dataclass(frozen=True, slots=True)
class Question:
    """What a forecast or a plan is asked.

    Attributes:
        now: The present instant.
        horizon: How far to look.
        cluster: Only its SVMs; empty means all.
        what_if: Changes to suppose.
    """

    now: datetime
    horizon: timedelta
    cluster: str = ""
    what_if: tuple[WhatIf, ...] = ()

    @property
    def until(self) -> datetime:
        """The first instant that is not looked at."""
        return self.now + self.horizon


def answer_forecast(connection: Connection, question: Question) -> Forecast:
    """The forecast.

    Raises:
        CallRefused: a supposed change names a key or an SVM that is not known.
    """
    reader = SituationReader(connection, question.now)
    svms = _situations(connection, reader, question.cluster, question.now)
    _check(connection, question.what_if, svms, reader.keys)
    return forecast(
        svms, question.now, question.until, question.what_if, load_terms(connection).of_keys
    )


def answer_plan(connection: Connection, question: Question) -> tuple[RenewalPlan, int]:
    """The plan, and how many SVMs were looked at.

    Raises:
        CallRefused: a supposed change names a key or an SVM that is not known.
    """
    reader = SituationReader(connection, question.now)
    everywhere = _situations(connection, reader, "", question.now)
    of_cluster = [svm for svm in everywhere if question.cluster in ("", svm.cluster)]
    _check(connection, question.what_if, of_cluster, reader.keys)
    stored = [one for one in storage_keys(connection) if not one.blocked]
    holdings = _holdings(connection, everywhere, question.now)
    rows = usage_rows([one.key for one in stored], holdings, question.now)
    storage = [StorageKey(row.key, row.spare_units) for row in rows]
    plan = plan_renewal(
        of_cluster,
        storage,
        question.now,
        question.until,
        question.what_if,
        load_terms(connection).of_keys,
    )
    return plan, len(of_cluster)


def answer_usage(
    connection: Connection, now: datetime
) -> tuple[Sequence[UsageRow], dict[str, StoredKey], dict[str, StoredSubscription]]:
    """The rows of the usage report, their keys (in the storage or held), and the subscriptions."""
    reader = SituationReader(connection, now)
    svms = reader.read()
    keys = {one.key.serial: one for one in storage_keys(connection)} | reader.keys
    rows = usage_rows([one.key for one in keys.values()], _holdings(connection, svms, now), now)
    return rows, keys, load_stored_subscriptions(connection)


def _holdings(connection: Connection, svms: Sequence[SvmSituation], now: datetime) -> Holdings:
    """Who holds what; units in use are counted by the guests' identities (R91)."""
    return replace(count_holdings(svms), units_used=units_in_use(connection, now))


def _situations(
    connection: Connection, reader: SituationReader, cluster: str, now: datetime
) -> list[SvmSituation]:
    """The SVMs with their keys as they will be once all that waits for them has come (R89)."""
    svms = reader.read(cluster)
    waiting = load_pending(connection, svms_with_pending(connection))
    if not waiting:
        return svms
    named = {one.serial for some in waiting.values() for one in some if one.serial}
    keys = reader.keys | load_keys(connection, named - reader.keys.keys())
    return [
        replace(svm, keyring=project(svm.keyring, waiting[svm.svm_id], keys, now))
        if svm.svm_id in waiting
        else svm
        for svm in svms
    ]


def _check(
    connection: Connection,
    what_if: Sequence[WhatIf],
    svms: Sequence[SvmSituation],
    keys: dict[str, StoredKey],
) -> None:
    serials = {one.serial for one in what_if if isinstance(one, BlockKey | EndKey)}
    held = {one.key.serial for svm in svms for one in svm.keyring.slots.values()} if serials else ()
    unknown = serials - keys.keys() - set(held)
    for serial in sorted(unknown - load_keys(connection, unknown).keys()):
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_NOT_FOUND,
            f"neither the key storage nor an SVM has the key {serial}; list the keys to see theirs",
            metadata={"serial": serial},
        )
    named = {one.svm_id for one in what_if if isinstance(one, AddGuests)}
    missing = named - {svm.svm_id for svm in svms} if named else ()
    for svm_id in sorted(missing):
        raise CallRefused(
            error_pb2.ERROR_REASON_SVM_NOT_FOUND,
            f"the forecast looks at no SVM {svm_id}; list the SVMs to see their ids and clusters",
            metadata={"svm_ids": svm_id},
        )
