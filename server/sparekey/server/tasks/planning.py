"""What a task does to each SVM of its scope: decided once, for the dry run and the run alike."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sparekey.licensing.advice import Advice
from sparekey.licensing.changes import Transition
from sparekey.licensing.coverage import advise, installation_advice
from sparekey.licensing.instructions import Instruction
from sparekey.licensing.keyring import Keyring, Role, Slot
from sparekey.licensing.keys import KeyKind
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.scopes import OneCluster, PickedSvms, Scope, resolve
from sparekey.licensing.settling import something_due
from sparekey.licensing.subscriptions import in_grace
from sparekey.licensing.tasks import OutcomeState, predict
from sparekey.server.access.clusters import refuse_outside
from sparekey.server.store.instructions import Action, StoredInstruction, load_pending
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.subscriptions import load_subscriptions
from sparekey.server.store.targets import Target, clusters_within, kinds_outside, load_targets
from sparekey.server.store.void_keys import remedies_begun
from sparekey.server.tasks.waiting import foresee
from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """What a task is asked to do.

    Attributes:
        serial: The key.
        role: Whether it is to be the active or the reserve key.
        scope: The SVMs.
        encoded_scope: The scope as its message, for the record.
        wait: How long SVMs that are offline are waited for.
        actor: Who asks.
        task_id: The id that the task gets.
        rerun_of: The task of which this is another run (R61).
        in_grace_too: Whether SVMs under a subscription in its grace are taken, as they are for
            an older task that runs again and for the server's own renewals, not for a new
            task (R52).
        clusters: The clusters upon whose SVMs alone who asks may act; empty for all.
    """

    serial: str
    role: Role
    scope: Scope
    encoded_scope: bytes
    wait: timedelta
    actor: str
    task_id: str
    rerun_of: str = ""
    in_grace_too: bool = False
    clusters: tuple[str, ...] = ()


@dataclass(slots=True)
class Workspace:
    """SVMs with what waits for them and the keys concerned, as one transaction sees them.

    `void` tells of SVMs whose keys are void whether they registered anew; None: not read.
    """

    svms: dict[str, Target] = field(default_factory=dict)
    waiting: dict[str, list[StoredInstruction]] = field(default_factory=dict)
    keys: dict[str, StoredKey] = field(default_factory=dict)
    void: dict[str, bool] | None = None

    def staying_void(self, connection: Connection, role: Role) -> set[str]:
        """The SVMs whose keys are void, and stay so when they get a key in this role (R82)."""
        if self.void is None:
            self.void = remedies_begun(connection)
        cures = role is Role.ACTIVE
        return {svm_id for svm_id, begun in self.void.items() if not (cures and begun)}

    def add(self, connection: Connection, records: Mapping[str, Target]) -> None:
        """Take in SVMs that are not here yet, with what waits for them."""
        new = records.keys() - self.svms.keys()
        self.svms.update((svm_id, records[svm_id]) for svm_id in new)
        loaded = load_pending(connection, new)
        self.waiting.update(loaded)
        named = {stored.serial for one in loaded.values() for stored in one if stored.serial}
        missing = named - self.keys.keys()
        if missing:
            self.keys.update(load_keys(connection, missing))


@dataclass(frozen=True, slots=True)
class SvmPlan:
    """What a task will do on an SVM.

    `state` is APPLIED, UNCHANGED or REFUSED: how it will end by the rules. `keyring` is what it
    leads to; the installation instants in it may be those of another SVM with the same keys.
    """

    state: OutcomeState
    keyring: Keyring
    reason: Refusal | None = None
    advice: tuple[Advice, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What a task will do on each SVM of its scope, in the order of their ids."""

    svms: Mapping[str, SvmPlan]
    advice: tuple[Advice, ...]


def usable_key(order: TaskOrder, keys: Mapping[str, StoredKey], now: datetime) -> StoredKey:
    """The key of an order.

    Raises:
        CallRefused: it is not in the storage, blocked, or ended (R78).
    """
    stored = keys.get(order.serial)
    metadata = {"serial": order.serial}
    if stored is None or not stored.in_storage:
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_NOT_FOUND,
            f"the key storage has no key {order.serial}; add it first",
            metadata=metadata,
        )
    if stored.blocked:
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_BLOCKED,
            f"the key {order.serial} is blocked; choose another",
            metadata=metadata,
        )
    if stored.key.has_expired_at(now):
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_EXPIRED,
            f"the validity of the key {order.serial} is over; choose another",
            metadata=metadata,
        )
    return stored


def gather(connection: Connection, workspace: Workspace, order: TaskOrder) -> list[str]:
    """Bring the SVMs of an order's scope into the workspace; return their ids (R99).

    Raises:
        CallRefused: a picked SVM is unknown, the scope holds none, or who asks may not act upon
            one of them.
    """
    scope = order.scope
    candidates: set[str]
    if isinstance(scope, PickedSvms):
        missing = set(scope.ids) - workspace.svms.keys()
        if missing:
            loaded = load_targets(connection, PickedSvms(tuple(missing)), workspace.keys)
            workspace.add(connection, loaded)
        candidates = set(scope.ids) & workspace.svms.keys()
    else:
        loaded = load_targets(connection, scope, workspace.keys)
        workspace.add(connection, loaded)
        candidates = set(loaded)
    return _select(order, {svm_id: workspace.svms[svm_id].cluster for svm_id in candidates})


def refuse_scope(connection: Connection, order: TaskOrder) -> None:
    """Look at an order's scope alone, ahead of anything that is done for the order.

    Raises:
        CallRefused: as `gather` would refuse it now.
    """
    _select(order, clusters_within(connection, order.scope))


def _select(order: TaskOrder, clusters: Mapping[str, str]) -> list[str]:
    scope = order.scope
    selected, unknown = resolve(
        scope, [(svm_id, cluster or None) for svm_id, cluster in clusters.items()]
    )
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise CallRefused(
            error_pb2.ERROR_REASON_SVM_NOT_FOUND,
            f"the server knows no SVM {shown}; list the SVMs to see their ids",
            metadata={"svm_ids": ",".join(unknown[:100])},
        )
    if not selected:
        where = f"the cluster {scope.name!r}" if isinstance(scope, OneCluster) else "the scope"
        raise CallRefused(
            error_pb2.ERROR_REASON_SCOPE_EMPTY,
            f"{where} holds no SVM; list the SVMs to see what is there",
        )
    refuse_outside(order.clusters, ((svm_id, clusters[svm_id]) for svm_id in selected))
    return selected


@dataclass(slots=True)
class Planner:
    """Works out what giving a key will do on SVM after SVM.

    Thousands of a cluster hold the same keys beside as many guests. Of those that nothing waits
    for, neither an instruction nor an instant that has come, one is worked out for all: when a
    key was installed counts only where a reserve is due.

    Attributes:
        workspace: The SVMs.
        key: The key to give.
        slot: Where it goes.
        now: The present instant.
        void: The SVMs whose keys are void and stay so.
    """

    workspace: Workspace
    key: StoredKey
    slot: Slot
    now: datetime
    void: Collection[str]
    _known: dict[Hashable, SvmPlan] = field(default_factory=dict)

    def plan(self, svm_id: str) -> SvmPlan:
        """What will happen on one SVM."""
        target = self.workspace.svms[svm_id]
        if (
            svm_id in self.void
            or self.workspace.waiting.get(svm_id)
            or something_due(target.keyring, self.now)
        ):
            return self.plan_alone(svm_id)
        # Keys by their identity: of a key that only SVMs know each may tell something else.
        held = [(slot, id(one.key), one.ended_at) for slot, one in target.keyring.slots.items()]
        alike = (target.guests, *held)
        found = self._known.get(alike)
        if found is None:
            found = self._known[alike] = self.plan_alone(svm_id)
        return found

    def plan_alone(self, svm_id: str) -> SvmPlan:
        """What will happen on one SVM, beside all that waits for it (R89)."""
        target = self.workspace.svms[svm_id]
        keyring, key = target.keyring, self.key.key
        if waiting := self.workspace.waiting.get(svm_id):
            new = action_for(key.serial, svm_id, self.slot, None)
            result, keyring = foresee(keyring, waiting, new, self.workspace.keys, self.now)
        else:
            instruction = Instruction(self.slot, key, blocked=self.key.blocked)
            result = predict(keyring, (), instruction, self.now)
            keyring = result.keyring if isinstance(result, Transition) else keyring
        if not isinstance(result, Transition):
            return SvmPlan(OutcomeState.REFUSED, keyring, reason=result)
        state = OutcomeState.APPLIED if result.own_changes else OutcomeState.UNCHANGED
        void = svm_id in self.void
        advice = advise(self.slot, keyring, target.guests, self.now, void=void)
        return SvmPlan(state, keyring, advice=advice)


def plan_task(
    connection: Connection, workspace: Workspace, order: TaskOrder, now: datetime
) -> TaskPlan:
    """What a task will do; it changes nothing.

    Raises:
        CallRefused: the key cannot be used, or the scope is wrong or empty.
    """
    _refuse_key_in_grace(connection, order, workspace.keys, now)
    key = usable_key(order, workspace.keys, now)
    selected = gather(connection, workspace, order)
    slot = Slot(key.key.type, order.role)
    barred = _in_grace(connection, workspace, order, selected, now)
    planner = Planner(workspace, key, slot, now, workspace.staying_void(connection, order.role))
    plans = {
        svm_id: SvmPlan(
            OutcomeState.REFUSED,
            workspace.svms[svm_id].keyring,
            reason=Refusal.SUBSCRIPTION_IN_GRACE,
        )
        if svm_id in barred
        else planner.plan(svm_id)
        for svm_id in selected
    }
    advice: tuple[Advice, ...] = ()
    if not isinstance(order.scope, PickedSvms):
        different = {id(plan): plan for plan in plans.values()}
        elsewhere = kinds_outside(connection, order.scope, now)
        advice = installation_advice((plan.keyring for plan in different.values()), elsewhere)
    return TaskPlan(plans, advice)


def _refuse_key_in_grace(
    connection: Connection, order: TaskOrder, keys: Mapping[str, StoredKey], now: datetime
) -> None:
    """Refuse a new task with a key whose subscription is in its grace (R52)."""
    stored = keys.get(order.serial)
    if order.in_grace_too or stored is None or stored.key.kind is not KeyKind.SUBSCRIPTION:
        return
    if in_grace([order.serial], load_subscriptions(connection, [order.serial]), now):
        raise CallRefused(
            error_pb2.ERROR_REASON_SUBSCRIPTION_IN_GRACE,
            f"the subscription of the key {order.serial} is in its grace period, which takes no"
            " new task; have it renewed, or run an older task again",
            metadata={"serial": order.serial},
        )


def _in_grace(
    connection: Connection,
    workspace: Workspace,
    order: TaskOrder,
    selected: Sequence[str],
    now: datetime,
) -> set[str]:
    """The SVMs that run under a subscription in its grace; none where that is no hindrance.

    To a reserve the subscription itself is the hindrance, whatever its state (R13, R77).
    """
    if order.in_grace_too or order.role is Role.RESERVE:
        return set()
    subscribed = {
        svm_id: serials
        for svm_id in selected
        if (
            serials := [
                held.key.serial
                for held in workspace.svms[svm_id].keyring.actives()
                if held.key.kind is KeyKind.SUBSCRIPTION
            ]
        )
    }
    if not subscribed:
        return set()
    known = load_subscriptions(connection, {one for some in subscribed.values() for one in some})
    return {svm_id for svm_id, serials in subscribed.items() if in_grace(serials, known, now)}


def action_for(serial: str, svm_id: str, slot: Slot, task_id: str | None) -> StoredInstruction:
    """The instruction to hold a key; its version is given when it is put in."""
    return StoredInstruction(svm_id, slot, 0, Action.KEY, serial, task_id)
