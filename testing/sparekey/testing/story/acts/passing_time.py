"""Act four: the clock is walked past the end of every first-year key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from rich.text import Text

from sparekey.cli.cells import BAD, CAUTION, FAINT, GOOD, WAITS
from sparekey.cli.relative_time import iso_date
from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.cast import END, OFFLINE_AT_THE_END, START
from sparekey.testing.story.expectations import expect
from sparekey.testing.story.pictures import fleet_before
from sparekey.v1 import event_pb2, keyring_pb2
from sparekey.wire.timestamps import from_timestamp, instant_or_none

_STEP = timedelta(days=7)
_CHANGES = {
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED: ("reserve promoted", GOOD),
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_EXPIRED: ("key ended, no reserve", CAUTION),
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_REMOVED: ("reserve removed", CAUTION),
}
_EVENTS = {
    event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE: ("renewed by its code", GOOD),
    event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED: ("renewal by code failed", BAD),
}


def walk_past_the_ends(book: Book) -> None:
    """Walk the clock week by week and to each end, and tell what happens when."""
    teller, operator = book.teller, book.operator
    teller.heading("4  The year goes on")
    teller.say(
        "This is the fleet before the licenses end. From here on the operator does nothing at all."
    )
    teller.show(fleet_before(operator.svms(), book.keys_by_serial()))
    teller.say(
        "Now the test clock is moved, for the servers and for the agents, in steps of a week and to"
        f" each end of a key. {OFFLINE_AT_THE_END} will be offline when its key ends."
    )
    teller.command("sparekey", "clock", "advance", "7d")
    teller.line("")
    ends = _ends(book)
    misses = _end_of(book, OFFLINE_AT_THE_END)
    leaves = max(end for end in ends if end < misses)
    returns = misses + timedelta(days=4)
    instants = sorted({*_weeks(), *ends, returns, END})
    cursor = operator.events()[-1].cursor
    with teller.passing_time(START, END) as bar:
        for instant in instants:
            book.stage.set_clock(instant)
            if instant == returns:
                _tell(teller.line, instant, "back online", WAITS, OFFLINE_AT_THE_END)
                book.stage.fleet.bring_back(OFFLINE_AT_THE_END)
                operator.await_link(OFFLINE_AT_THE_END, connected=True)
            news = operator.events(cursor)
            cursor = news[-1].cursor if news else cursor
            _tell_news(teller.line, instant, news)
            if instant == misses:
                svm = operator.svm(OFFLINE_AT_THE_END)
                expect(
                    svm.HasField("predicted_keyring"),
                    f"the server did not know what {svm.svm_id} would do while it was offline",
                )
                _tell(teller.line, instant, "promotion predicted", WAITS, f"{svm.svm_id}, offline")
            if instant == leaves:
                _tell(teller.line, instant, "goes offline", WAITS, OFFLINE_AT_THE_END)
                book.stage.fleet.cut(OFFLINE_AT_THE_END)
                operator.await_link(OFFLINE_AT_THE_END, connected=False)
            bar.reached(instant)


def _weeks() -> Iterable[datetime]:
    instant = START
    while (instant := instant + _STEP) < END:
        yield instant


def _ends(book: Book) -> set[datetime]:
    ends = (instant_or_none(key, "expires_at") for key in book.keys_by_serial().values())
    return {end for end in ends if end is not None and end < END}


def _end_of(book: Book, svm_id: str) -> datetime:
    return min(
        from_timestamp(key.expires_at)
        for key in book.operator.svm(svm_id).keyring.keys
        if key.slot.role == keyring_pb2.KEY_ROLE_ACTIVE
    )


def _tell_news(
    line: Callable[[Text], None], now: datetime, events: Iterable[event_pb2.Event]
) -> None:
    """One line for all SVMs to which the same happened at the same instant."""
    groups: dict[tuple[str, str, datetime], list[str]] = {}
    for event in events:
        words, style = _EVENTS.get(event.kind, ("", ""))
        if event.HasField("change"):
            words, style = _CHANGES.get(event.change.kind, ("", ""))
        if words:
            key = (words, style, from_timestamp(event.occurred_at))
            groups.setdefault(key, []).append(event.svm_id)
    for (words, style, occurred_at), svm_ids in groups.items():
        belongs = f", as of {iso_date(occurred_at)}" if occurred_at != now else ""
        _tell(line, now, words, style, ", ".join(sorted(set(svm_ids))) + belongs)


def _tell(line: Callable[[Text], None], now: datetime, words: str, style: str, who: str) -> None:
    line(Text.assemble((iso_date(now), FAINT), "  ", (f"{words:<24}", style), who))
