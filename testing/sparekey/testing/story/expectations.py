"""What must have come true, or the story has failed."""

from __future__ import annotations

from collections.abc import Iterator

from sparekey.testing.story.cast import SVMS
from sparekey.testing.story.endings import How
from sparekey.testing.story.failures import StoryFailed
from sparekey.testing.story.figures import Figures, Record, lapsed
from sparekey.v1 import event_pb2, fleet_pb2, keyring_pb2, license_pb2

SEED_REASONS = (
    "NO_ACTIVE_KEY",
    "ACTIVE_IS_SUBSCRIPTION",
    "TYPE_MISMATCH",
    "EDITION_MISMATCH",
)
"""The refusals that the seed page names, and the one that its text implies (R12-R15, R75)."""


def expect(holds: bool, sentence: str) -> None:
    """Go on only if something holds.

    Raises:
        StoryFailed: it does not; the sentence says what is wrong.
    """
    if not holds:
        raise StoryFailed(sentence)


def check_dry_run(dry_run: license_pb2.Task, task: license_pb2.Task) -> None:
    """A task must do what its dry run said, as far as its SVMs have answered."""
    said = {one.svm_id: (one.state, one.reason) for one in dry_run.outcomes}
    did = {one.svm_id: (one.state, one.reason) for one in task.outcomes}
    expect(said.keys() == did.keys(), "the dry run was about other SVMs than the task")
    for svm_id, outcome in did.items():
        if outcome[0] != license_pb2.OUTCOME_STATE_PENDING:
            expect(
                outcome == said[svm_id], f"the task did to {svm_id} what its dry run did not say"
            )


def check(record: Record, figures: Figures) -> None:
    """Check the whole story.

    Raises:
        StoryFailed: something did not come true; the message says the first thing.
    """
    for holds, sentence in _expectations(record, figures):
        expect(holds, sentence)


def _expectations(record: Record, figures: Figures) -> Iterator[tuple[bool, str]]:
    known = {svm.svm_id for svm in record.svms}
    yield known == {one.svm_id for one in SVMS}, "the server knows other SVMs than the cast's"
    without_keys = sum(not one.keys for one in SVMS)
    yield (
        figures.activated == len(SVMS) - without_keys,
        f"{figures.activated} SVMs were activated instead of {len(SVMS) - without_keys}",
    )
    for reason in SEED_REASONS:
        yield reason in figures.refused, f"no SVM was refused with {reason}"
    yield figures.promoted > 0, "no reserve key was promoted"
    yield figures.renewed_by_code > 0, "no key was renewed by its code"
    yield (
        figures.lapsed_with_valid_reserve == 0,
        f"{figures.lapsed_with_valid_reserve} SVMs lapsed although they had a valid reserve",
    )
    yield bool(lapsed(record)), "no SVM lapsed, though one had neither reserve nor renewal"
    # The other way round: with a valid reserve at its key's end an SVM is promoted, and only then.
    promoted = [one for one in record.endings if one.how is How.PROMOTED]
    yield (
        len(promoted) == figures.promoted == sum(bool(one.valid_reserve) for one in record.endings),
        "promotions and valid reserves do not agree",
    )
    held = {
        (svm.svm_id, key.serial)
        for svm in record.svms
        for key in svm.keyring.keys
        if key.slot.role == keyring_pb2.KEY_ROLE_ACTIVE
    }
    for one in promoted:
        yield (
            (one.svm_id, one.next_serial) in held,
            f"{one.svm_id} does not hold the key that it was said to be promoted to",
        )
    modes = {svm.svm_id: svm.mode for svm in record.svms}
    for one in lapsed(record):
        yield (
            modes[one.svm_id] != fleet_pb2.PROTECTION_MODE_FULL,
            f"{one.svm_id} lapsed and has every function all the same",
        )
    failed_contacts = {
        event.svm_id
        for event in record.events
        if event.kind == event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED
    }
    yield bool(failed_contacts), "no contact with the activation server failed"
