"""R89: whatever comes, in whatever order and however often, the history stays one history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparekey.agent.instructions_received import SlotInstruction
from sparekey.agent.keyring_record import InstructionResult
from sparekey.licensing.changes import apply_change
from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.keys import KeyType, LicenseKey

if TYPE_CHECKING:
    from unit.agent.conftest import Svm

MakeKey = Callable[..., LicenseKey]
Hold = Callable[[LicenseKey, int], SlotInstruction]

_TYPES = (KeyType.SERVER, KeyType.DESKTOP, KeyType.CORES)
_action = st.tuples(st.sampled_from(["active", "reserve", "remove", "block"]), st.integers(0, 11))
_step = st.one_of(
    st.tuples(st.just("push"), st.lists(st.integers(0, 14), min_size=1, max_size=4)),
    st.tuples(st.just("days"), st.integers(1, 40)),
    st.tuples(st.just("accept"), st.integers(0, 20)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("full"), st.booleans()),
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    actions=st.lists(_action, min_size=15, max_size=15),
    steps=st.lists(_step, min_size=1, max_size=25),
)
def test_R89_the_history_is_one(
    svm: Svm,
    make_key: MakeKey,
    active: Hold,
    reserve: Hold,
    other: Callable[..., SlotInstruction],
    actions: list[tuple[str, int]],
    steps: list[tuple[str, Any]],
) -> None:
    svm.__init__()  # type: ignore[misc] # one fixture serves all examples
    keys = [
        make_key(_TYPES[index % 3], ends=20 + 15 * index, number=0x100 + index)
        for index in range(12)
    ]
    instructions = []
    for version, (kind, index) in enumerate(actions, start=1):
        key = keys[index]
        match kind:
            case "active":
                instructions.append(active(key, version))
            case "reserve":
                instructions.append(reserve(key, version))
            case "remove":
                instructions.append(other(version, role=(Role.ACTIVE, Role.RESERVE)[index % 2]))
            case _:
                instructions.append(other(version, blocked=key.serial))

    answers: dict[tuple[Slot, int], InstructionResult] = {}
    replayed: dict[Slot, str] = {}
    replayed_revision = 0
    for kind, value in steps:
        match kind:
            case "push":
                for result in svm.keeper.follow_push([instructions[i] for i in value]):
                    assert answers.setdefault((result.slot, result.version), result) == result
            case "days":
                svm.clock.advance(timedelta(days=value))
                svm.keeper.settle_now()
            case "accept":
                svm.keeper.accept(min(value, svm.keeper.revision))
            case "full":
                svm.disk.full = value
            case _:
                svm.restart()
                svm.keeper.settle_now()
        # Each change has the revision after the one before; together they give the keyring.
        for numbered in svm.keeper.changes_since(replayed_revision):
            replayed_revision += 1
            assert numbered.revision == replayed_revision
            apply_change(replayed, numbered.change)
        assert svm.keeper.revision == replayed_revision
        assert svm.keeper.keyring.serials() == replayed
        assert svm.keeper.keyring.problems(svm.clock.now()) == []
        for slot, result in svm.keeper.results.items():
            assert answers[slot, result.version] == result
