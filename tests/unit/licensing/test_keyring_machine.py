"""Random walks of a keyring, compared after each step with the slow model of the rules."""

import copy
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from sparekey.licensing.changes import Change, Transition, apply_change
from sparekey.licensing.instructions import Instruction, follow
from sparekey.licensing.keyring import EMPTY, Role, Slot, usable
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.modes import Mode, mode_at
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import next_due, settle
from sparekey.licensing.tasks import predict
from sparekey.licensing.transitions import add_active, add_reserve, block, remove

from .slow_model import PlainKey, SlowModel

START = datetime(2030, 1, 1, tzinfo=UTC)
ROLES = st.sampled_from(["ACTIVE", "RESERVE"])
SELDOM = st.sampled_from([False] * 9 + [True])


def instant(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def hour_of(at: datetime | None) -> int | None:
    return None if at is None else (at - START) // timedelta(hours=1)


def license_key(key: PlainKey) -> LicenseKey:
    return LicenseKey(
        serial=key.serial,
        type=KeyType(key.type),
        kind=KeyKind(key.kind),
        edition=Edition(key.edition),
        origin=KeyOrigin.ACTIVATION_CODE,
        unit_limit=10,
        not_before=instant(key.start),
        expires_at=None if key.end is None else instant(key.end),
    )


def slot_words(slot: Slot) -> str:
    return f"{slot.type.value} {slot.role.value}"


def logged(change: Change) -> tuple[Any, ...]:
    return (
        hour_of(change.at),
        change.kind.value,
        slot_words(change.slot),
        change.serial,
        change.reason.value,
        change.previous_serial,
    )


class KeyringWalk(RuleBasedStateMachine):
    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.model = SlowModel()
        self.keyring = EMPTY
        self.history: tuple[Change, ...] = ()
        self.hour = 0
        self.issued: list[PlainKey] = []
        self.seen: set[str] = set()

    @property
    def now(self) -> datetime:
        return instant(self.hour)

    def take(self, result: Transition | Refusal, refusal: str | None) -> None:
        if isinstance(result, Refusal):
            # Nothing is settled on purpose: the next request meets a keyring of the past.
            assert result.value == refusal
            self.seen.add(refusal)
            return
        assert refusal is None
        self.seen.update(f"{change.kind.value} {change.reason.value}" for change in result.changes)
        self.keyring = result.keyring
        self.history += result.changes

    def use(self, key: PlainKey, role: str, blocked: bool = False) -> PlainKey:
        if key not in self.issued:
            self.issued.append(key)
        if role == "ACTIVE":
            result = add_active(self.keyring, license_key(key), self.now, blocked=blocked)
            self.take(result, self.model.add_active(key, self.hour, blocked))
        elif role == "RESERVE":
            result = add_reserve(self.keyring, license_key(key), self.now, blocked=blocked)
            self.take(result, self.model.add_reserve(key, self.hour, blocked))
        return key

    def new_serial(self) -> str:
        return f"{len(self.issued):032X}"

    @rule(
        target=keys,
        name=st.sampled_from(["SERVER"] * 3 + ["DESKTOP"] * 3 + ["CORES", "PROCESSORS"]),
        kind=st.sampled_from(["COMMERCIAL"] * 3 + ["TRIAL", "SUBSCRIPTION"]),
        edition=st.sampled_from(["STANDARD"] * 3 + ["ENTERPRISE"]),
        start=st.sampled_from([-20, -5, 0, 0, 3]),
        length=st.sampled_from([5, 10, 25, 25, 40]),
        unlimited=st.booleans(),
        role=st.sampled_from(["ACTIVE", "ACTIVE", "ACTIVE", "RESERVE", "STORAGE"]),
    )
    def issue(
        self,
        name: str,
        kind: str,
        edition: str,
        start: int,
        length: int,
        unlimited: bool,
        role: str,
    ) -> PlainKey:
        """A new key of any sort, mostly used at once."""
        start += self.hour
        end = None if kind == "SUBSCRIPTION" and unlimited else start + length
        return self.use(PlainKey(self.new_serial(), name, kind, edition, start, end), role)

    @precondition(lambda self: self.model.active)
    @rule(
        target=keys,
        pick=st.integers(0, 1),
        start=st.sampled_from([-9, -9, 0, 2, 9]),
        longer=st.sampled_from([-1, 0, 1, 7, 7, 20]),
        other_edition=SELDOM,
        role=st.sampled_from(["RESERVE"] * 4 + ["ACTIVE"]),
    )
    def succeed(
        self, pick: int, start: int, longer: int, other_edition: bool, role: str
    ) -> PlainKey:
        """A new commercial key that mostly fits as a reserve of an active key."""
        held = list(self.model.active.values())
        old = held[pick % len(held)].key
        start += self.hour
        end = max((old.end or self.hour) + longer, start + 1)
        swapped = {"STANDARD": "ENTERPRISE", "ENTERPRISE": "STANDARD"}[old.edition]
        edition = swapped if other_edition else old.edition
        key = PlainKey(self.new_serial(), old.type, "COMMERCIAL", edition, start, end)
        return self.use(key, role)

    @rule(key=keys, role=ROLES, blocked=SELDOM)
    def use_again(self, key: PlainKey, role: str, blocked: bool) -> None:
        self.use(key, role, blocked)

    @precondition(lambda self: self.model.active)
    @rule(pick=st.integers(0, 3))
    def take_out(self, pick: int) -> None:
        # The slots that the unsettled keyring shows: some are empty once it is settled.
        slots = sorted(self.keyring.slots)
        slot = slots[pick % len(slots)]
        refusal = self.model.remove(slot.type.value, slot.role.value, self.hour)
        self.take(remove(self.keyring, slot, self.now), refusal)

    @rule(key=keys)
    def disallow(self, key: PlainKey) -> None:
        self.model.block(key.serial, self.hour)
        self.take(block(self.keyring, key.serial, self.now), None)

    @rule(hours=st.sampled_from([1, 2, 4, 10, 25]))
    def wait(self, hours: int) -> None:
        for _ in range(hours):
            self.hour += 1
            self.model.live_through(self.hour)

    @rule()
    def catch_up(self) -> None:
        self.take(settle(self.keyring, self.now), None)

    @rule(planned=st.lists(st.tuples(keys, ROLES, SELDOM), min_size=1, max_size=3))
    def plan(self, planned: list[tuple[PlainKey, str, bool]]) -> None:
        """R89: each instruction is predicted on what those before it will have done."""
        model, keyring = copy.deepcopy(self.model), self.keyring
        pending: list[Instruction] = []
        for key, role, empty in planned:
            slot = Slot(KeyType(key.type), Role(role))
            instruction = Instruction(slot, None if empty else license_key(key))
            predicted = predict(self.keyring, pending, instruction, self.now)
            done = follow(keyring, instruction, self.now)
            if empty:
                refusal = model.remove(key.type, role, self.hour)
            else:
                add = model.add_active if role == "ACTIVE" else model.add_reserve
                refusal = add(key, self.hour, False)
            if isinstance(done, Refusal):
                assert predicted is done
                assert done.value == refusal
            else:
                assert refusal is None
                assert isinstance(predicted, Transition)
                assert predicted.keyring == done.keyring
                assert predicted.own_changes == done.own_changes
                keyring = done.keyring
            pending.append(instruction)

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        settled = settle(self.keyring, self.now)
        ours = {
            slot_words(slot): (
                held.key.serial,
                hour_of(held.installed_at),
                hour_of(held.ended_at),
                hour_of(held.blocked_at),
            )
            for slot, held in settled.keyring.slots.items()
        }
        theirs = {
            f"{name} {role}": (held.key.serial, held.since, held.ended, held.blocked)
            for role, slots in (("ACTIVE", self.model.active), ("RESERVE", self.model.reserve))
            for name, held in slots.items()
        }
        assert ours == theirs
        assert [logged(change) for change in self.history + settled.changes] == self.model.log
        self.nothing_is_broken(settled)

    def nothing_is_broken(self, settled: Transition) -> None:
        keyring = settled.keyring
        assert keyring.problems(self.now) == []
        assert settle(keyring, self.now).changes == ()
        assert len({slot.type.scheme for slot in keyring.slots}) <= 1
        for reserve in keyring.reserves():
            active = keyring.active(reserve.key.type)
            assert active is not None
            assert usable(active, self.now) or not usable(reserve, self.now)
            assert active.key.edition is reserve.key.edition
            assert active.key.expires_at is not None
            assert reserve.key.expires_at is not None
            assert active.key.expires_at < reserve.key.expires_at
        if any(usable(held, self.now) for held in keyring.slots.values()):
            assert mode_at(self.keyring, self.now) is Mode.FULL
        due = next_due(self.keyring, self.now)
        assert due is None or due > self.now
        replayed: dict[Slot, str] = {}
        for change in self.history + settled.changes:
            apply_change(replayed, change)
            assert len({slot.type.scheme for slot in replayed}) <= 1
        assert replayed == keyring.serials()


WALKS, STEPS = 80, 60
TO_BE_SEEN = {
    "KEY_ACTIVATED REQUESTED",
    "KEY_REPLACED REQUESTED",
    "KEY_REMOVED REQUESTED",
    "KEY_REMOVED SCHEME_CHANGED",
    "KEY_EXPIRED EXPIRED",
    "KEY_BLOCKED BLOCKED",
    "RESERVE_ADDED REQUESTED",
    "RESERVE_REPLACED REQUESTED",
    "RESERVE_REMOVED REQUESTED",
    "RESERVE_REMOVED SCHEME_CHANGED",
    "RESERVE_REMOVED RESERVE_ENDS_TOO_EARLY",
    "RESERVE_REMOVED EDITION_CHANGED",
    "RESERVE_REMOVED ACTIVE_NOT_COMMERCIAL",
    "RESERVE_REMOVED ACTIVE_REMOVED",
    "RESERVE_REMOVED BLOCKED",
    "RESERVE_PROMOTED ACTIVE_EXPIRED",
    "RESERVE_PROMOTED ACTIVE_BLOCKED",
    "RESERVE_PROMOTED ACTIVE_REMOVED",
    "KEY_BLOCKED",
    "KEY_EXPIRED",
    "KEY_NOT_YET_VALID",
    "KIND_NOT_ALLOWED_AS_RESERVE",
    "NO_ACTIVE_KEY",
    "ACTIVE_IS_SUBSCRIPTION",
    "TYPE_MISMATCH",
    "EDITION_MISMATCH",
    "RESERVE_NOT_LATER",
    "TRIAL_OVER_COMMERCIAL",
    "SLOT_EMPTY",
}


def step(walk: KeyringWalk, random: Random) -> None:
    """One step of a walk that is more often in the middle of things than Hypothesis is."""
    choices = ["issue", "succeed", "succeed", "succeed", "wait", "wait"]
    choices += random.choice((["again"], ["catch up"], ["take out"], ["block"], ["plan"]))
    choice, recent = random.choice(choices), walk.issued[-6:]
    seldom, role = random.random() < 0.1, random.choice(["ACTIVE", "RESERVE"])
    if choice == "issue" or not walk.issued:
        walk.issue(
            name=random.choice(["SERVER", "SERVER", "DESKTOP", "DESKTOP", "CORES", "PROCESSORS"]),
            kind=random.choice(["COMMERCIAL"] * 4 + ["TRIAL", "SUBSCRIPTION"]),
            edition=random.choice(["STANDARD"] * 4 + ["ENTERPRISE"]),
            start=random.choice([-9, -9, -9, 2]),
            length=random.choice([12, 20, 40]),
            unlimited=random.random() < 0.3,
            role=random.choice(["ACTIVE", "ACTIVE", "RESERVE"]),
        )
    elif choice == "succeed" and walk.model.active:
        walk.succeed(
            pick=random.randint(0, 1),
            start=random.choice([-9, -9, 0, 4, 12]),
            longer=random.choice([-1, 0, 3, 9, 20]),
            other_edition=seldom,
            role=random.choice(["RESERVE", "RESERVE", "RESERVE", "ACTIVE"]),
        )
    elif choice == "wait":
        walk.wait(random.choice([1, 2, 5, 12]))
    elif choice == "again":
        walk.use_again(random.choice(recent), role, seldom)
    elif choice == "take out" and walk.model.active:
        walk.take_out(random.randint(0, 3))
    elif choice == "block":
        walk.disallow(random.choice(recent))
    elif choice == "plan":
        walk.plan([(key, random.choice(["ACTIVE", "RESERVE"]), seldom) for key in recent[-3:]])
    else:
        walk.catch_up()


def test_long_walks_agree_with_the_model_and_meet_every_rule() -> None:
    """The second assertion guards the first: walks that stay near nothing prove nothing."""
    seen: set[str] = set()
    for seed in range(WALKS):
        random, walk = Random(seed), KeyringWalk()
        for _ in range(STEPS):
            step(walk, random)
            walk.everything_is_as_in_the_model()
        seen |= walk.seen
    assert seen == TO_BE_SEEN


TestKeyringWalk = KeyringWalk.TestCase
TestKeyringWalk.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, database=None
)
