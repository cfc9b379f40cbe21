"""Keys lose their effect when an SVM's clock is changed, and what gives it back (R54, R82)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine

from sparekey.licensing.forecast import GapReason
from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import LicenseKey
from sparekey.server.fleet.changes import ChangeSvm, forget_svms
from sparekey.server.fleet.messages import svm_message
from sparekey.server.life.terms import load_terms
from sparekey.server.link.clock_skew import SkewBook, SkewChange, note_skews
from sparekey.server.link.reporting import take_hellos
from sparekey.server.reports.explaining import explain_svm
from sparekey.server.reports.gathering import Question, answer_forecast, answer_plan
from sparekey.server.store.clock_skews import load_skews
from sparekey.server.tasks.starting import StartTask, dry_run, start_tasks
from sparekey.v1 import agent_pb2, event_pb2, fleet_pb2, license_pb2
from sparekey.wire.errors import CallRefused

from .world import NO_RETRY, NOW, World, make_key

HOUR = 3600
DAY = 24 * HOUR
KEY, OTHER, LATER = (make_key(number, ends=900 + number) for number in (1, 2, 3))
LIMITED = fleet_pb2.PROTECTION_MODE_LIMITED
KEY_VOID = fleet_pb2.SVM_STATUS_REASON_KEY_VOID
VOIDED, REINSTATED = event_pb2.EVENT_KIND_KEYS_VOIDED, event_pb2.EVENT_KIND_KEYS_REINSTATED


def jump(change: SkewChange | None) -> timedelta | None:
    return change.jump if change is not None else None


def judged(book: SkewBook, *skews: int, own_offset: float = 0) -> list[timedelta | None]:
    """What the book says of one SVM's clock, as often as it speaks."""
    found = []
    for skew in skews:
        change = book.judge("svm-1", skew, own_offset)
        if change is not None:
            book.note(change)
        found.append(jump(change))
    return found


@pytest.mark.parametrize("sign", [1, -1])
def test_R82_a_clock_jumps_if_it_is_moved_by_more_than_a_day(sign: int) -> None:
    no, a_day = timedelta(), timedelta(seconds=sign * (DAY + 1))
    assert judged(SkewBook({}), 0, sign * DAY, sign * DAY) == [None, no, None]
    assert judged(SkewBook({}), 0, sign * (DAY + 1)) == [None, a_day]
    assert judged(SkewBook({"svm-1": sign * DAY}), -sign) == [-a_day]
    assert judged(SkewBook({"svm-1": sign * DAY}), 0) == [no]


def test_R82_a_clock_that_is_off_as_ever_does_not_jump_after_its_svm_was_forgotten(
    void_world: World,
) -> None:
    """Also not at the next start: what the server knows and what is on disk are the same."""
    book = SkewBook(void_world.read(load_skews))
    set_up_anew(void_world)
    book.forget(["svm-1"])
    change = book.judge("svm-1", 2 * DAY, 0)
    assert change is not None
    void_world.write(note_skews, change)
    assert SkewBook(void_world.read(load_skews)).judge("svm-1", 2 * DAY, 0) is None


def test_R82_a_clock_that_drifts_never_jumps() -> None:
    drifting = range(0, 10 * DAY, 20 * 60)
    assert set(judged(SkewBook({}), *drifting)) <= {None, timedelta()}


def test_R82_a_clock_that_was_wrong_by_nobody_knows_how_much_does_not_jump() -> None:
    assert judged(SkewBook({"svm-1": None}), 3 * DAY, 5 * DAY) == [timedelta(), timedelta(days=2)]


def test_R82_the_servers_own_clock_voids_nothing_when_it_is_set() -> None:
    """The SVM's clock goes on; the server's is set back by three days, then forward again."""
    book = SkewBook({})
    assert judged(book, 0) == [None]
    assert judged(book, 3 * DAY, own_offset=-3 * DAY) == [timedelta()]
    assert judged(book, 6 * DAY, own_offset=-3 * DAY) == [timedelta(days=3)]
    assert judged(book, 3 * DAY, own_offset=0) == [timedelta()]


def test_R82_after_a_rest_in_which_the_servers_clock_may_have_been_set_the_first_look_is_free() -> (
    None
):
    book = SkewBook({}, holds=False)
    assert judged(book, 3 * DAY, 6 * DAY) == [timedelta(), timedelta(days=3)]


class PlainSvm:
    """What the rules say of one SVM, in plain words; hours ahead of the true time."""

    def __init__(self) -> None:
        self.ahead = self.seen = 0
        self.known = True
        self.has_key = self.void = self.anew = False


NAMES = st.sampled_from(["svm-1", "svm-2"])


class VoidKeys(RuleBasedStateMachine):
    """Clocks are moved, SVMs are forgotten, come back and are activated, the server starts anew."""

    world: World

    @initialize()
    def begin(self) -> None:
        self.world.clear()
        self.world.svms.clear()
        self.world.add_keys([KEY, OTHER, LATER])
        self.book = SkewBook({})
        self.plain = {"svm-1": PlainSvm(), "svm-2": PlainSvm()}
        self.voided = self.reinstated = 0
        for svm_id in self.plain:
            self.world.add_svm(svm_id, GuestMix(1))

    @rule(name=NAMES, hours=st.sampled_from([-200, -25, -24, -1, 1, 24, 25, 200]))
    def the_svms_clock_is_moved(self, name: str, hours: int) -> None:
        self.plain[name].ahead += hours

    @rule(name=NAMES)
    def the_svm_speaks(self, name: str) -> None:
        if self.plain[name].known:
            self._look(name, holds_key=self.plain[name].has_key)

    @rule(name=NAMES, key=st.sampled_from([KEY, OTHER, LATER]), role=st.sampled_from(Role))
    def an_operator_starts_a_task(self, name: str, key: LicenseKey, role: Role) -> None:
        one = self.plain[name]
        if not one.known:
            return
        self.world.start(self.world.order(key, role, [name]))
        self.world.sync([name])
        if role is Role.ACTIVE:
            one.has_key = True
            self.reinstated += one.anew
            one.void = one.void and not one.anew
            one.anew = False

    @rule(name=NAMES)
    def an_operator_forgets(self, name: str) -> None:
        self.world.write(forget_svms, ChangeSvm(name, False, "operator", NO_RETRY, False))
        self.book.forget([name])
        self.plain[name].known = False

    @rule(name=NAMES)
    def the_svm_connects_anew(self, name: str) -> None:
        one = self.plain[name]
        if one.known:
            return
        self.world.write(take_hellos, agent_pb2.Hello(svm_id=name, boot_id="boot"))
        self._look(name, holds_key=False)
        self.world.sync([name])
        one.known, one.anew = True, one.void

    @rule(name=NAMES)
    def the_keys_are_voided(self, name: str) -> None:
        """A short cut, so that few steps lead to where it matters."""
        self.an_operator_starts_a_task(name, KEY, Role.ACTIVE)
        self.the_svms_clock_is_moved(name, 25)
        self.the_svm_speaks(name)

    @rule(name=NAMES)
    def the_svm_is_set_up_anew(self, name: str) -> None:
        """Another."""
        self.an_operator_forgets(name)
        self.the_svm_connects_anew(name)

    @rule()
    def the_server_starts_anew(self) -> None:
        self.book = SkewBook(self.world.read(load_skews))

    @invariant()
    def both_agree(self) -> None:
        terms = self.world.read(load_terms)
        assert terms.void_svms == {name for name, one in self.plain.items() if one.void}
        for name, one in self.plain.items():
            if one.known:
                record = self.world.record(name)
                shown = svm_message(record, NOW, connected=True, waiting=0, terms=terms)
                full = fleet_pb2.PROTECTION_MODE_FULL if not one.void else LIMITED
                assert shown.mode == (full if one.has_key else fleet_pb2.PROTECTION_MODE_OFF)
                assert (KEY_VOID in shown.status_reasons) == (one.void and one.has_key)
        kinds = [event.kind for event in self.world.events()]
        told = (kinds.count(VOIDED), kinds.count(REINSTATED))
        assert told == (self.voided, self.reinstated)

    def _look(self, name: str, *, holds_key: bool) -> None:
        one = self.plain[name]
        change = self.book.judge(name, one.ahead * HOUR, 0)
        if change is not None:
            self.world.write(note_skews, change)
            self.book.note(change)
        if holds_key and abs(one.ahead - one.seen) > 24 and not one.void:
            one.void, self.voided = True, self.voided + 1
        one.seen = one.ahead


def test_R54_R82_void_keys_come_and_go_as_a_plain_model_says(shared_engine: Engine) -> None:
    class OnOneDatabase(VoidKeys):
        world = World(shared_engine)

    run_state_machine_as_test(
        OnOneDatabase,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def void_world(engine: Engine) -> World:
    """One SVM with void keys beside one that is well."""
    world = World(engine)
    world.add_keys([KEY])
    for svm_id in ("svm-1", "svm-2"):
        world.add_svm(svm_id, GuestMix(3))
    world.start(world.order(KEY, Role.ACTIVE))
    world.sync(["svm-1", "svm-2"])
    world.write(note_skews, SkewChange("svm-1", timedelta(days=2), timedelta(days=2)))
    return world


def test_R82_void_keys_are_told_as_critical_with_what_to_do(void_world: World) -> None:
    (told,) = (event for event in void_world.events() if event.kind == VOIDED)
    assert (told.svm_id, told.severity) == ("svm-1", event_pb2.SEVERITY_CRITICAL)
    assert told.message == (
        "The SVM's clock was set on by 2 days, so its keys are void and it gets no updates. Set"
        " the clock right, forget the SVM, let it connect again, and activate it."
    )


def test_R82_a_forecast_tells_void_keys_and_a_plan_what_no_key_helps(void_world: World) -> None:
    question = Question(NOW, timedelta(days=30))
    (gap,) = void_world.read(answer_forecast, question).gaps
    assert (gap.svm_id, gap.guests, gap.gap.ends_at) == ("svm-1", 3, None)
    assert gap.gap.reason is GapReason.KEY_VOID
    plan, _ = void_world.read(answer_plan, question)
    assert (plan.keys, plan.void_svm_ids) == ((), ("svm-1",))


def test_R82_an_svm_with_void_keys_is_explained(void_world: World) -> None:
    told = void_world.read(explain_svm, "svm-1", NOW)
    present = " ".join(sentence.text for sentence in told.present)
    assert "svm-1 is in LIMITED mode" in present
    assert "Its keys are void" in present
    assert "since its keys are void" in present
    assert told.story[-1].rules == ("R54", "R82")
    assert told.outlook[0].text.startswith("Nothing changes")


def set_up_anew(world: World) -> None:
    world.write(forget_svms, ChangeSvm("svm-1", False, "operator", NO_RETRY, False))
    world.sync(["svm-1"])


def test_R82_connecting_anew_and_activation_with_the_same_key_give_void_keys_their_effect_back(
    void_world: World,
) -> None:
    set_up_anew(void_world)
    assert void_world.read(load_terms).void_svms == {"svm-1"}
    task = void_world.start(void_world.order(KEY, Role.ACTIVE, ["svm-1"]))
    assert isinstance(task, license_pb2.Task)
    assert task.state == license_pb2.TASK_STATE_SUCCEEDED
    assert void_world.read(load_terms).void_svms == set()
    assert void_world.events()[-1].kind == event_pb2.EVENT_KIND_TASK_FINISHED
    assert REINSTATED in [event.kind for event in void_world.events()]


def test_R82_a_reserve_key_is_no_activation(void_world: World) -> None:
    set_up_anew(void_world)
    void_world.add_keys([LATER])
    void_world.start(void_world.order(LATER, Role.RESERVE, ["svm-1"]))
    void_world.sync(["svm-1"])
    assert len(void_world.record("svm-1").keyring.slots) == 2
    assert void_world.read(load_terms).void_svms == {"svm-1"}


def advised(task: license_pb2.Task | CallRefused) -> set[str]:
    """The SVMs whose outcomes advise of void keys."""
    assert isinstance(task, license_pb2.Task)
    return {one.svm_id for one in task.outcomes if license_pb2.ADVICE_KEYS_VOID in one.advice}


def test_R82_a_task_that_does_not_end_the_void_says_so(void_world: World) -> None:
    void_world.add_keys([OTHER, LATER])
    for key, role in ((KEY, Role.ACTIVE), (OTHER, Role.ACTIVE), (LATER, Role.RESERVE)):
        order = void_world.order(key, role)
        assert advised(void_world.read(dry_run, order, NOW)) == {"svm-1"}
        assert advised(void_world.start(order)) == {"svm-1"}
        void_world.sync(["svm-1", "svm-2"])
    set_up_anew(void_world)
    assert advised(void_world.start(void_world.order(LATER, Role.RESERVE))) == {"svm-1"}
    assert advised(void_world.start(void_world.order(OTHER, Role.ACTIVE))) == set()
    assert advised(void_world.start(void_world.order(LATER, Role.RESERVE))) == set()


def test_R82_in_one_batch_an_activation_ends_the_advice_for_those_behind_it(
    void_world: World,
) -> None:
    set_up_anew(void_world)
    void_world.add_keys([LATER])
    requests = [
        StartTask(void_world.order(key, role, ["svm-1"]), NO_RETRY, license_pb2.ActivateResponse)
        for key, role in ((KEY, Role.ACTIVE), (LATER, Role.RESERVE))
    ]
    tasks = [answer.task for answer in void_world.write(start_tasks, *requests)]
    assert [advised(task) for task in tasks] == [set(), set()]


def test_R82_activation_alone_does_not_give_void_keys_their_effect_back(void_world: World) -> None:
    void_world.add_keys([OTHER])
    void_world.start(void_world.order(OTHER, Role.ACTIVE, ["svm-1"]))
    void_world.sync(["svm-1"])
    assert void_world.read(load_terms).void_svms == {"svm-1"}
