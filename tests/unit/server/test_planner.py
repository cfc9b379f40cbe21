"""Planning for many SVMs: one for all that are alike comes out as each by itself."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import event, given, settings
from hypothesis import strategies as st

from sparekey.licensing.changes import Transition
from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import EMPTY, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.settling import settle
from sparekey.licensing.transitions import add_active, add_reserve, block
from sparekey.server.store.instructions import Action, StoredInstruction
from sparekey.server.store.keys import StoredKey
from sparekey.server.store.targets import Target
from sparekey.server.tasks.planning import Planner, SvmPlan, Workspace

from .world import NOW, make_key

keys_of_few_sorts = st.lists(
    st.tuples(
        st.sampled_from([KeyType.SERVER] * 4 + [KeyType.DESKTOP, KeyType.CORES]),
        st.sampled_from([KeyKind.COMMERCIAL] * 4 + [KeyKind.TRIAL, KeyKind.SUBSCRIPTION]),
        st.sampled_from([Edition.STANDARD] * 3 + [Edition.ENTERPRISE]),
        st.integers(-2, 5),
    ),
    min_size=4,
    max_size=4,
)
days = st.integers(-20, 6)
acts = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["active", "reserve", "reserve", "block"]), days),
    max_size=4,
)
svms = st.lists(
    st.tuples(st.sampled_from(["alike", "alike", "alike", "other"]), acts, st.integers(0, 2), days),
    min_size=2,
    max_size=8,
)


@settings(max_examples=250, deadline=None)
@given(sorts=keys_of_few_sorts, common=acts, svms=svms, role=st.sampled_from(Role))
def test_R89_alike_svms_are_planned_as_each_by_itself(
    sorts: list[tuple[KeyType, KeyKind, Edition, int]],
    common: list[tuple[int, str, int]],
    svms: list[tuple[str, list[tuple[int, str, int]], int, int]],
    role: Role,
) -> None:
    """Keys end before and after now, and clocks of SVMs that were set back leave later marks."""
    keys = [
        make_key(number, type_, kind=kind, edition=edition, ends=ends)
        for number, (type_, kind, edition, ends) in enumerate(sorts)
    ]
    workspace = Workspace(keys={one.serial: StoredKey(one, b"", NOW) for one in keys})
    for number, (sort, own, servers, installed) in enumerate(svms):
        keyring = _held(keys, common if sort == "alike" else own, timedelta(days=installed))
        svm_id = f"svm-{number}"
        workspace.svms[svm_id] = Target(svm_id, "", GuestMix(servers), 0, keyring)
        if sort == "other" and servers == 2:
            slot = Slot(keys[0].type, Role.ACTIVE)
            workspace.waiting[svm_id] = [
                StoredInstruction(svm_id, slot, 1, Action.KEY, keys[0].serial)
            ]
    given_key = StoredKey(keys[-1], b"", NOW)
    slot = Slot(keys[-1].type, role)
    void = {f"svm-{number}" for number, (_, _, servers, _) in enumerate(svms) if servers == 1}
    planner = Planner(workspace, given_key, slot, NOW, void)
    plans = {svm_id: planner.plan(svm_id) for svm_id in workspace.svms}
    for svm_id in workspace.svms:
        assert _told(plans[svm_id]) == _told(planner.plan_alone(svm_id))
    event(f"worked out once for several: {len(set(map(id, plans.values()))) < len(plans)}")


def _held(keys: list[LicenseKey], what: list[tuple[int, str, int]], later: timedelta) -> Keyring:
    """What requests have made of an empty keyring, each at its day by the SVM's own clock."""
    keyring = EMPTY
    for number, act, on in what:
        at = NOW + timedelta(days=on) + later
        result = (
            block(keyring, keys[number].serial, at)
            if act == "block"
            else (add_active if act == "active" else add_reserve)(keyring, keys[number], at)
        )
        if isinstance(result, Transition):
            keyring = result.keyring
    return settle(keyring, NOW + later).keyring


def _told(plan: SvmPlan) -> tuple[object, ...]:
    slots = [
        (slot, held.key, held.ended_at, held.blocked_at)
        for slot, held in plan.keyring.slots.items()
    ]
    return plan.state, plan.reason, plan.advice, slots
