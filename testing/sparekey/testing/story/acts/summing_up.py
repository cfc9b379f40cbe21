"""Act five: the fleet afterwards, every promotion, who lapsed and why, and the verdict."""

from __future__ import annotations

import time

from sparekey.cli.cells import BAD, GOOD
from sparekey.cli.relative_time import iso_date
from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.cast import END, OFFLINE_AT_THE_END
from sparekey.testing.story.endings import How
from sparekey.testing.story.expectations import check
from sparekey.testing.story.figures import Figures, Record, count, lapsed
from sparekey.testing.story.pictures import fleet_after, history, promotions, verdict
from sparekey.v1 import event_pb2

_BY_CODE = {
    event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE: "key-renewed-by-code",
    event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED: "renewal-contact-failed",
}
"""The kinds of events about renewals by code, as the command line calls them."""


def sum_up(book: Book, began: float) -> Figures:
    """Ask the server for everything, show it, count it and check it.

    Raises:
        StoryFailed: something did not come true.
    """
    operator = book.operator
    record = Record(
        now=END,
        svms=operator.svms(),
        keys=operator.stored_keys(),
        tasks=operator.tasks(),
        events=operator.events(),
    )
    figures = count(record, time.monotonic() - began)
    _show_fleet(book, record)
    _show_promotions(book, record)
    _show_codes(book, record)
    check(record, figures)
    _verdict(book, record, figures)
    return figures


def _show_fleet(book: Book, record: Record) -> None:
    book.teller.heading("5  Who is licensed, and why")
    book.teller.say(f"The same fleet on {iso_date(record.now)}.")
    keys = {key.serial: key for key in record.keys}
    book.teller.show(fleet_after(record.svms, keys, record.endings))
    book.teller.say("Limited: it protects with the databases that it has and gets no new ones.")


def _show_promotions(book: Book, record: Record) -> None:
    book.teller.say(
        "Each SVM promotes its reserve by itself, at the very instant at which the old key ends."
    )
    book.teller.show(promotions(record.endings))
    for one in record.endings:
        if one.svm_id == OFFLINE_AT_THE_END and one.how is How.PROMOTED and one.told_at:
            book.teller.say(
                f"{one.svm_id} was offline then and did it without the server, which heard of it on"
                f" {iso_date(one.told_at)}."
            )


def _show_codes(book: Book, record: Record) -> None:
    book.teller.say(
        "Two SVMs had no reserve key, but a key that came by a code. At its end the server asks the"
        " activation server once. One was granted a new term. The other was not, and now it is the"
        " operator's turn."
    )
    kinds = [word for kind in _BY_CODE.values() for word in ("--kind", kind)]
    book.teller.command("sparekey", "events", "list", *kinds)
    book.teller.show(history(event for event in record.events if event.kind in _BY_CODE))


def _verdict(book: Book, record: Record, figures: Figures) -> None:
    teller = book.teller
    with_reserve = sum(bool(one.valid_reserve) for one in record.endings)
    by_code = [one.svm_id for one in record.endings if one.how is How.RENEWED_BY_CODE]
    without = [one.svm_id for one in lapsed(record)]
    teller.heading("Verdict")
    rows = [
        ("Active keys that ended with a valid reserve beside them", with_reserve, "bold", ""),
        ("  reserve promoted at that very instant", figures.promoted, GOOD, ""),
        ("  lapsed all the same", figures.lapsed_with_valid_reserve, GOOD, ""),
        ("Active keys that ended without one", len(by_code) + len(without), "bold", ""),
        ("  renewed by code", figures.renewed_by_code, GOOD, ", ".join(by_code)),
        ("  lapsed", len(without), BAD, ", ".join(without)),
    ]
    teller.show(verdict(rows))
    teller.say("No SVM that had a valid reserve key ran out of its license.", "bold")
    teller.say(
        f"Counted from what the server answered: {figures.svms} SVMs, {figures.reserves_added}"
        f" reserve keys added, {sum(figures.refused.values())} refused, {figures.events} events,"
        f" in {figures.seconds:.1f} seconds."
    )
