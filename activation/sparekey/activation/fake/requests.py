"""What a request must keep beyond the rules that the edge enforces."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.fake.faults import KEY_METHODS, MAX_FAULTS, METHODS, Fault, FaultKind
from sparekey.activation.fake.messages import FAULT_KINDS_READ, STATES_READ, VERDICTS_READ
from sparekey.activation.fake.records import KeyProperties
from sparekey.activation.fake.subscriptions import Subscription, SubscriptionState
from sparekey.activation.v1 import activation_pb2
from sparekey.licensing.keys import KeyKind
from sparekey.wire.errors import FieldViolation, invalid_fields
from sparekey.wire.licensing_messages import EDITIONS_READ, KEY_KINDS_READ, KEY_TYPES_READ
from sparekey.wire.timestamps import from_duration, instant_or_none

MAX_GRACE = timedelta(days=36500)
MAX_URL = 2000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""The clock and the begin of keys end here, so that a term never leaves the calendar."""

_INSTALLATION_ID = re.compile(r"[\x21-\x7e]{1,128}")


def refuse(found: Iterable[FieldViolation]) -> None:
    """Refuse the call if there is any violation; all are reported at once."""
    listed = tuple(found)
    if listed:
        raise invalid_fields(listed)


def installation_violations(installation_id: str) -> list[FieldViolation]:
    """An installation id is 1 to 128 printable ASCII characters without spaces."""
    if _INSTALLATION_ID.fullmatch(installation_id):
        return []
    problem = "must be 1 to 128 printable characters without spaces"
    return [FieldViolation("installation_id", problem)]


def read_properties(message: control_pb2.KeyProperties) -> KeyProperties:
    """The properties of a key.

    Raises `CallRefused` with every violation.
    """
    kind = KEY_KINDS_READ[message.kind]
    found = [*_instant_violations(message, "not_before", "key.")]
    if kind is KeyKind.SUBSCRIPTION:
        found += _grace_violations(message, "key.")
    else:
        if not message.HasField("term"):
            found.append(FieldViolation("key.term", f"is required for a key of kind {kind.value}"))
        found += [
            FieldViolation(f"key.{name}", "is for subscriptions only")
            for name in ("grace", "stops_protection")
            if getattr(message, name) and (name != "grace" or message.HasField("grace"))
        ]
    refuse(found)
    return KeyProperties(
        type=KEY_TYPES_READ[message.type],
        kind=kind,
        edition=EDITIONS_READ[message.edition],
        unit_limit=message.unit_limit,
        not_before=instant_or_none(message, "not_before"),
        term=from_duration(message.term) if message.HasField("term") else None,
        grace=from_duration(message.grace),
        stops_protection=message.stops_protection,
    )


def code_violations(request: control_pb2.DefineCodeRequest) -> list[FieldViolation]:
    """A trial's code has no renewals."""
    if request.renewals > 0 and KEY_KINDS_READ[request.key.kind] is KeyKind.TRIAL:
        return [FieldViolation("renewals", "must be 0 for a trial, which is once only (R53)")]
    return []


def read_subscription(message: activation_pb2.Subscription) -> Subscription:
    """A subscription as its provider wants it.

    Raises `CallRefused` with every violation.
    """
    state = STATES_READ.get(message.state)
    found = []
    if not message.serial:
        found.append(FieldViolation("subscription.serial", "is required"))
    if state is None:
        found.append(FieldViolation("subscription.state", "is required"))
    if state is SubscriptionState.CANCELLED_SOFT and not message.HasField("ends_at"):
        problem = "is required for CANCELLED_SOFT, which runs to its end date"
        found.append(FieldViolation("subscription.ends_at", problem))
    if len(message.provider_url) > MAX_URL:
        problem = f"has more than {MAX_URL} characters"
        found.append(FieldViolation("subscription.provider_url", problem))
    found += _grace_violations(message, "subscription.")
    refuse(found)
    assert state is not None
    return Subscription(
        state=state,
        ends_at=instant_or_none(message, "ends_at"),
        grace=from_duration(message.grace),
        stops_protection=message.stops_protection,
        provider_url=message.provider_url,
    )


def read_faults(request: control_pb2.SetFaultsRequest) -> list[Fault]:
    """The faults that are to be in force.

    Raises `CallRefused` with every violation.
    """
    if len(request.faults) > MAX_FAULTS:
        problem = f"holds {len(request.faults)}; at most {MAX_FAULTS} can be in force"
        refuse([FieldViolation("faults", problem)])
    found: list[FieldViolation] = []
    for index, fault in enumerate(request.faults):
        found += _fault_violations(fault, f"faults[{index}].")
    refuse(found)
    return [
        Fault(
            kind=FAULT_KINDS_READ[fault.kind],
            method=fault.method,
            calls=fault.calls,
            percent=fault.percent or 100,
            delay=from_duration(fault.delay),
            verdict=VERDICTS_READ.get(fault.verdict),
        )
        for fault in request.faults
    ]


def clock_violations(request: control_pb2.SetClockRequest) -> list[FieldViolation]:
    """The clock stands within the years 1970 to 8999."""
    return _instant_violations(request, "time", "")


def _fault_violations(fault: control_pb2.Fault, path: str) -> list[FieldViolation]:
    found = []
    kind = FAULT_KINDS_READ[fault.kind]
    if fault.method and fault.method not in METHODS:
        problem = f"must be one of {', '.join(METHODS)}; empty means all"
        found.append(FieldViolation(f"{path}method", problem))
    elif kind is FaultKind.BAD_SIGNATURE and fault.method not in ("", *KEY_METHODS):
        problem = f"must be one of {', '.join(KEY_METHODS)}, which answer with key files"
        found.append(FieldViolation(f"{path}method", problem))
    if (kind is FaultKind.DELAY) is not (from_duration(fault.delay) > timedelta(0)):
        problem = "is required for DELAY" if kind is FaultKind.DELAY else "is for DELAY only"
        found.append(FieldViolation(f"{path}delay", problem))
    if (kind is FaultKind.WRONG_VERDICT) is not (fault.verdict in VERDICTS_READ):
        is_needed = kind is FaultKind.WRONG_VERDICT
        problem = "is required for WRONG_VERDICT" if is_needed else "is for WRONG_VERDICT only"
        found.append(FieldViolation(f"{path}verdict", problem))
    return found


def _grace_violations(message: Message, path: str) -> list[FieldViolation]:
    grace = from_duration(getattr(message, "grace"))  # noqa: B009 - of either message
    if timedelta(0) <= grace <= MAX_GRACE:
        return []
    return [FieldViolation(f"{path}grace", "must be 0 to 100 years")]


def _instant_violations(message: Message, name: str, path: str) -> list[FieldViolation]:
    instant = instant_or_none(message, name)
    if instant is None or EARLIEST <= instant < LATEST:
        return []
    return [FieldViolation(f"{path}{name}", "must lie within the years 1970 to 8999")]
