"""Why an SVM is as it is: its history and its keys, told in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sparekey.licensing.forecast import SvmSituation
from sparekey.licensing.outlook import tell_outlook, tell_present
from sparekey.licensing.refusals import explain
from sparekey.licensing.settling import settle
from sparekey.licensing.story import Sentence, ToldChange, tell_change
from sparekey.server.fleet.changes import svm_not_found
from sparekey.server.life.terms import load_terms
from sparekey.server.store.events import newest_events_of_keys, newest_events_of_svm
from sparekey.server.store.instructions import load_pending
from sparekey.server.store.svms import SvmRecord, load_svms
from sparekey.server.store.tasks import load_tasks
from sparekey.v1 import event_pb2
from sparekey.wire.licensing_messages import REFUSALS_READ, read_change
from sparekey.wire.timestamps import from_timestamp

_LONGEST = 200
_AHEAD = timedelta(days=366)

_TOLD_AS_WRITTEN = {
    event_pb2.EVENT_KIND_SVM_REGISTERED: (),
    event_pb2.EVENT_KIND_SVM_CHANGED: ("R69",),
    event_pb2.EVENT_KIND_SVM_EXCLUDED: (),
    event_pb2.EVENT_KIND_KEYRING_RESYNCED: ("R89",),
    event_pb2.EVENT_KIND_PUSH_STALLED: ("R89",),
    event_pb2.EVENT_KIND_CLONE_REFUSED: (),
    event_pb2.EVENT_KIND_CLOCK_SKEW: ("R82",),
    event_pb2.EVENT_KIND_DEADLINE_EXCEEDED: ("R78",),
    event_pb2.EVENT_KIND_KEYS_VOIDED: ("R54", "R82"),
    event_pb2.EVENT_KIND_KEYS_REINSTATED: ("R82",),
}


_TOLD_OF_KEYS = {
    event_pb2.EVENT_KIND_KEY_BLOCKED: ("R72",),
    event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE: ("R16",),
    event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED: ("R17", "R88"),
    event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED: ("R62", "R96"),
}
"""What happens to the keys that the SVM holds, wherever they are held."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An SVM explained.

    Attributes:
        present: How it stands.
        story: What led there, oldest first.
        outlook: What comes next.
        shortened: Whether older events were left out.
    """

    present: list[Sentence]
    story: list[Sentence]
    outlook: list[Sentence]
    shortened: bool


def explain_svm(connection: Connection, svm_id: str, now: datetime) -> Explanation:
    """Explain an SVM.

    Raises:
        CallRefused: the server knows no such SVM.
    """
    record = load_svms(connection, [svm_id]).get(svm_id)
    if record is None:
        raise svm_not_found(svm_id)
    known = load_terms(connection)
    svm = SvmSituation(
        svm_id,
        record.keyring,
        record.guests,
        record.cluster,
        record.host_uuid,
        record.host_cpu,
        void=svm_id in known.void_svms,
    )
    terms = known.of_keys
    of_svm = newest_events_of_svm(connection, svm_id, _KINDS, _LONGEST + 1)
    held = sorted({one.key.serial for one in record.keyring.slots.values()})
    of_keys = newest_events_of_keys(connection, held, tuple(_TOLD_OF_KEYS), _LONGEST + 1)
    events = sorted([*of_svm, *of_keys], key=lambda event: event.cursor)
    waiting = len(load_pending(connection, [svm_id]).get(svm_id, ()))
    tasks = load_tasks(connection, {event.task_id for event in events if event.task_id})
    askers = {task_id: task.created_by for task_id, task in tasks.items()}
    told = [_tell(event, svm_id, askers) for event in events[-_LONGEST:]]
    return Explanation(
        [*tell_present(svm, now, terms), *_caveats(record, waiting, now)],
        told,
        tell_outlook(svm, now, now + _AHEAD, terms),
        len(events) > _LONGEST,
    )


def _caveats(record: SvmRecord, waiting: int, now: datetime) -> list[Sentence]:
    found = []
    if settle(record.keyring, now).changes:
        found.append(
            Sentence(
                "This is what the rules say; the SVM, last heard of on"
                f" {record.last_seen_at:%-d %B %Y, %H:%M} UTC, has not confirmed it yet.",
                ("R87", "R89"),
            )
        )
    if waiting:
        what = "One instruction waits" if waiting == 1 else f"{waiting} instructions wait"
        found.append(Sentence(f"{what} for it to connect.", ("R89",)))
    if record.excluded:
        found.append(Sentence("It is left out of tasks for all SVMs and for its cluster.", ("R3",)))
    return found


def _tell(event: event_pb2.Event, svm_id: str, askers: Mapping[str, str]) -> Sentence:
    at, cursor = from_timestamp(event.occurred_at), event.cursor
    if event.kind == event_pb2.EVENT_KIND_KEYRING_CHANGED:
        change = read_change(event.change)
        if change is not None:
            recorded_at, asked_by = from_timestamp(event.recorded_at), askers.get(event.task_id, "")
            return tell_change(ToldChange(change, recorded_at, cursor, asked_by, event.task_id))
    refusal = REFUSALS_READ.get(event.refusal)
    if refusal is not None:
        why = explain(refusal)
        text = f"The key {event.key_serial} was not put on {svm_id}: {why[:1].lower()}{why[1:]}"
        return Sentence(text, ("R15", "R77"), at, cursor)
    message = event.message[:1].upper() + event.message[1:]
    text = message if message.endswith(".") else f"{message}."
    rules = (_TOLD_AS_WRITTEN | _TOLD_OF_KEYS).get(event.kind, ())
    return Sentence(text, rules, at, cursor)


_KINDS = (
    event_pb2.EVENT_KIND_KEYRING_CHANGED,
    event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
    *_TOLD_AS_WRITTEN,
)
