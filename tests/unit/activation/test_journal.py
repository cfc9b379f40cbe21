"""The journal of calls: complete, in order, bounded."""

from datetime import UTC, datetime

from sparekey.activation.fake.journal import MAX_CALLS, MAX_SERIALS, Journal

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_calls_are_numbered_from_1_and_numbers_outlive_clearing() -> None:
    journal = Journal()
    for _ in range(3):
        journal.enter(NOW, "RenewKey", "here", asked=["A"])
    assert [call.number for call in journal.calls()] == [1, 2, 3]
    journal.clear()
    assert journal.calls() == ()
    assert journal.enter(NOW, "RenewKey", "here").number == 4


def test_only_the_last_10000_calls_are_kept() -> None:
    assert MAX_CALLS == 10_000
    journal = Journal()
    for _ in range(MAX_CALLS + 5):
        journal.enter(NOW, "RedeemCode", "here")
    numbers = [call.number for call in journal.calls()]
    assert numbers == list(range(6, MAX_CALLS + 6))


def test_calls_about_many_serials_are_kept_as_far_as_one_answer_can_tell_them() -> None:
    journal = Journal()
    asked = ["F" * 32] * 1000
    for _ in range(60):
        journal.enter(NOW, "CheckKeys", "here", asked=asked)
    assert sum(len(call.asked) for call in journal.calls()) == MAX_SERIALS
    assert journal.calls()[-1].number == 60
    journal.clear()
    journal.enter(NOW, "CheckKeys", "here", asked=asked)
    assert len(journal.calls()) == 1


def test_a_call_is_there_from_its_beginning() -> None:
    journal = Journal()
    entry = journal.enter(NOW, "RedeemCode", "here", code_ending="CCCCC")
    assert journal.calls() == (entry,)
    assert entry.verdict is None
