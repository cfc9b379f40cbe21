"""Act three: an active key is replaced by one that outlasts the reserve (R18, R19)."""

from __future__ import annotations

from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.cast import GETS_A_LONG_KEY, LONG_KEYS
from sparekey.testing.story.expectations import expect
from sparekey.testing.story.operating import picked
from sparekey.testing.story.pictures import history
from sparekey.v1 import event_pb2, keyring_pb2, license_pb2


def replace_an_active_key(book: Book) -> None:
    """Replace the active key of one SVM; its reserve goes, and another one comes."""
    teller, operator, svm_id = book.teller, book.operator, GETS_A_LONG_KEY
    book.buy(LONG_KEYS)
    teller.heading("3  An active key is replaced")
    teller.say(
        f"{svm_id} gets a key for three years in place of its active one. Its reserve key would end"
        " earlier than that, so the SVM removes it. Then it can take another one."
    )
    known = operator.events()[-1].cursor
    for command, run, name in (
        ("activate", operator.activate, "long server"),
        ("renew", operator.renew, "after long server"),
    ):
        words = ("sparekey", command, book.serial(name), "--svm", svm_id)
        teller.command(*words, close=command == "renew")
        task = run(book.serial(name), picked(svm_id))
        expect(
            task.state == license_pb2.TASK_STATE_SUCCEEDED,
            f"{svm_id} did not take the key {task.key_serial}",
        )
    changes = [
        event
        for event in operator.events(known)
        if event.kind == event_pb2.EVENT_KIND_KEYRING_CHANGED
    ]
    expect(
        [event.change.reason for event in changes].count(
            keyring_pb2.KEYRING_CHANGE_REASON_RESERVE_ENDS_TOO_EARLY
        )
        == 1,
        f"{svm_id} did not remove the reserve that ends too early",
    )
    teller.show(history(changes))
