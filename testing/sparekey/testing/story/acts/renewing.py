"""Act two: reserve keys, by a dry run and by tasks on all, on a cluster and on picked SVMs."""

from __future__ import annotations

from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.cast import OFFLINE_DURING_THE_TASK, PROCESSOR_SVMS, RESERVE_KEYS
from sparekey.testing.story.expectations import check_dry_run, expect
from sparekey.testing.story.operating import ALL, cluster, picked
from sparekey.testing.story.pictures import key_list, outcome_groups, task_line
from sparekey.v1 import license_pb2


def renew_the_fleet(book: Book) -> None:
    """Try, then add the reserve keys of the fleet."""
    teller = book.teller
    teller.heading("2  Reserve keys are added")
    teller.say(
        "The licenses end in spring. The operator buys the next ones now. Each will wait on its"
        " SVMs as the reserve key."
    )
    teller.show(key_list(book.buy(RESERVE_KEYS)))
    _all(book)
    _cluster(book)
    _cores(book)
    _picked(book)
    _latecomer(book)


def _all(book: Book) -> None:
    teller, operator = book.teller, book.operator
    serial = book.serial("next server")
    teller.say("First a dry run: what would the server key do on every SVM? Nothing is changed.")
    teller.command("sparekey", "renew", serial, "--all", "--dry-run")
    dry_run = operator.try_renew(serial, ALL)
    teller.show(outcome_groups(dry_run, with_messages=False))
    book.stage.fleet.cut(OFFLINE_DURING_THE_TASK)
    operator.await_link(OFFLINE_DURING_THE_TASK, connected=False)
    teller.say(
        "That is what the operator wants. A refusal on one SVM never stops the others, and says"
        f" what to do next. {OFFLINE_DURING_THE_TASK} has just gone offline; the task waits for it."
    )
    teller.command("sparekey", "renew", serial, "--all", "--deadline", "30d")
    task = operator.renew(serial, ALL)
    check_dry_run(dry_run, task)
    _show(book, task)


def _cluster(book: Book) -> None:
    serial = book.serial("next desktop")
    book.teller.say(
        "The desktop key goes to one cluster. harbour-3, which protects servers and desktops, gets"
        " its second reserve key with it."
    )
    book.teller.command("sparekey", "renew", serial, "--cluster", "harbour")
    _show(book, book.operator.renew(serial, cluster("harbour")))


def _cores(book: Book) -> None:
    serial = book.serial("next cores")
    book.teller.say(
        "Where the hardware is licensed, one reserve key is enough, whatever the guests are. But a"
        " key for cores is none for processors."
    )
    book.teller.command("sparekey", "renew", serial, "--cluster", "summit")
    _show(book, book.operator.renew(serial, cluster("summit")))


def _picked(book: Book) -> None:
    serial = book.serial("next processors")
    book.teller.say("So the key for processors goes to the two SVMs that need it, picked by name.")
    options = [word for svm_id in PROCESSOR_SVMS for word in ("--svm", svm_id)]
    book.teller.command("sparekey", "renew", serial, *options)
    _show(book, book.operator.renew(serial, picked(*PROCESSOR_SVMS)))


def _latecomer(book: Book) -> None:
    operator, svm_id = book.operator, OFFLINE_DURING_THE_TASK
    book.stage.fleet.bring_back(svm_id)
    operator.await_svm(
        svm_id,
        lambda svm: svm.pending_instruction_count == 0,
        f"{svm_id} did not take its reserve key when it came back",
    )
    waiting = next(
        task for task in operator.tasks() if task.key_serial == book.serial("next server")
    )
    finished = operator.follow(waiting)
    fates = {outcome.svm_id: outcome.state for outcome in finished.outcomes}
    expect(
        fates[svm_id] == license_pb2.OUTCOME_STATE_APPLIED,
        f"{svm_id} came back and did not get its reserve key",
    )
    book.teller.say(f"{svm_id} is back and takes its reserve key. That ends the first task.")
    book.teller.show(task_line(finished))


def _show(book: Book, task: license_pb2.Task) -> None:
    book.teller.show(task_line(task))
    if task.counts.refused:
        book.teller.show(outcome_groups(task))
