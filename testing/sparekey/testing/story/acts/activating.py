"""Act one: keys come into the storage, and the fleet is activated."""

from __future__ import annotations

from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.cast import ACTIVE_KEYS, SVMS, svms_with
from sparekey.testing.story.expectations import expect
from sparekey.testing.story.operating import picked
from sparekey.testing.story.pictures import fleet_before, key_list
from sparekey.v1 import license_pb2


def activate_the_fleet(book: Book) -> None:
    """Buy the first year's keys and put them on the SVMs."""
    teller, operator = book.teller, book.operator
    teller.heading("1  The fleet is activated")
    teller.say(
        "The operator stores the keys of the first year. Most come as signed files. Two come by an"
        " activation code, which the server exchanges at the activation server."
    )
    teller.command("sparekey", "keys", "add", "server.key")
    teller.command("sparekey", "keys", "add", "--code-from", "code.txt", close=True)
    teller.show(key_list(book.buy(ACTIVE_KEYS)))
    svms = {card.name: svms_with(card.name) for card in ACTIVE_KEYS}
    clusters = len({one.cluster for one in SVMS})
    teller.say(
        f"An activation task puts a key on the SVMs that it is for. {len(svms)} tasks activate the"
        f" fleet of {len(SVMS)} SVMs in {clusters} clusters. Only {_without_key()} is left out, to"
        " see what becomes of it."
    )
    options = [word for svm_id in svms["server"] for word in ("--svm", svm_id)]
    teller.command("sparekey", "activate", book.serial("server"), *options)
    for name, svm_ids in svms.items():
        task = operator.activate(book.serial(name), picked(*svm_ids))
        expect(
            task.state == license_pb2.TASK_STATE_SUCCEEDED,
            f"activating with the key {task.key_serial} did not succeed",
        )
    teller.show(fleet_before(operator.svms(), book.keys_by_serial()))


def _without_key() -> str:
    return ", ".join(one.svm_id for one in SVMS if not one.keys)
