"""Keys of the storage as tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from rich.table import Table
from rich.text import Text

from sparekey.cli.cells import (
    BAD,
    CAUTION,
    FAINT,
    GOOD,
    cell,
    ends_cell,
    facts,
    instant_cell,
    new_table,
    word,
)
from sparekey.cli.relative_time import iso, iso_date, relative
from sparekey.v1 import key_pb2, subscription_pb2
from sparekey.wire.timestamps import instant_or_none

_SOON = timedelta(days=30)


def key_table(keys: Iterable[key_pb2.Key], now: datetime) -> Table:
    """Keys, one a row, in the order given; fits 80 columns with the longest serials."""
    table = new_table()
    table.add_column("SERIAL", no_wrap=True)
    table.add_column("KEY", min_width=12)
    table.add_column("LIMIT", justify="right", no_wrap=True)
    table.add_column("SVMS", no_wrap=True)
    table.add_column("ENDS", min_width=10)
    for key in keys:
        table.add_row(
            cell(key.serial),
            cell(_described(key)),
            _limit(key),
            _svms(key),
            _ends(key, now),
        )
    return table


def key_details(key: key_pb2.Key, now: datetime) -> Table:
    """Everything about one key."""
    ends = instant_or_none(key, "expires_at")
    rows: list[tuple[str, object]] = [
        ("serial", key.serial),
        ("type", word(key_pb2.KeyType, key.type)),
        ("kind", word(key_pb2.KeyKind, key.kind)),
        ("edition", word(key_pb2.Edition, key.edition)),
        ("came by", word(key_pb2.KeyOrigin, key.origin)),
        ("limit", f"{key.unit_limit} {_unit(key.type)}"),
        ("in use", f"{key.units_used} {_unit(key.type)}"),
        ("valid from", instant_cell(instant_or_none(key, "not_before"))),
        ("ends", f"{iso(ends)} ({relative(ends, now)})" if ends else "no end"),
        ("added", instant_cell(instant_or_none(key, "added_at"))),
        ("active on", _count(key.active_svm_count)),
        ("reserve on", _count(key.reserve_svm_count)),
    ]
    if key.code_ending:
        rows.append(("code", f"*****-*****-*****-{key.code_ending}"))
    if key.renews_serial:
        rows.append(("renews", key.renews_serial))
    if blocked := instant_or_none(key, "blocked_at"):
        rows.append(("blocked", cell(f"since {iso(blocked)}", BAD)))
    if key.HasField("subscription"):
        rows.extend(_subscription(key.subscription, now))
    return facts(rows)


def _subscription(
    status: subscription_pb2.SubscriptionStatus, now: datetime
) -> list[tuple[str, object]]:
    """What is known of a subscription."""
    ends = instant_or_none(status, "ends_at")
    grace = instant_or_none(status, "grace_ends_at")
    rows: list[tuple[str, object]] = [
        ("subscription", _subscription_state(status)),
        ("runs until", f"{iso(ends)} ({relative(ends, now)})" if ends else "no end"),
    ]
    if grace is not None and grace != ends:
        rows.append(("grace until", f"{iso(grace)} ({relative(grace, now)})"))
    if status.stops_protection:
        rows.append(("at its end", "protection stops too"))
    if status.provider_url:
        rows.append(("provider", status.provider_url))
    rows.append(("last read", instant_cell(instant_or_none(status, "polled_at"))))
    return rows


_STATE_STYLES = {
    subscription_pb2.SUBSCRIPTION_STATE_ACTIVE: GOOD,
    subscription_pb2.SUBSCRIPTION_STATE_EXPIRED: BAD,
    subscription_pb2.SUBSCRIPTION_STATE_CANCELLED_HARD: BAD,
}


def _subscription_state(status: subscription_pb2.SubscriptionStatus) -> Text:
    state = word(subscription_pb2.SubscriptionState, status.state)
    return cell(state, _STATE_STYLES.get(status.state, CAUTION))


def _limit(key: key_pb2.Key) -> Text:
    """The units allowed, and below them those in use, where there are any."""
    text = cell(key.unit_limit)
    if key.units_used:
        full = 10 * key.units_used >= 9 * key.unit_limit
        over = 10 * key.units_used > 11 * key.unit_limit
        text.append(f"\n{key.units_used} used", BAD if over else CAUTION if full else FAINT)
    return text


def _described(key: key_pb2.Key) -> str:
    kind, edition = word(key_pb2.KeyKind, key.kind), word(key_pb2.Edition, key.edition)
    return f"{word(key_pb2.KeyType, key.type)} {kind} {edition}"


def _unit(key_type: int) -> str:
    match key_type:
        case key_pb2.KEY_TYPE_CORES:
            return "cores"
        case key_pb2.KEY_TYPE_PROCESSORS:
            return "processors"
        case _:
            return "VMs"


def _count(svms: int) -> str:
    return "1 SVM" if svms == 1 else f"{svms} SVMs"


def _svms(key: key_pb2.Key) -> Text:
    lines = [
        f"{count} {role}"
        for count, role in ((key.active_svm_count, "active"), (key.reserve_svm_count, "reserve"))
        if count
    ]
    return cell("\n".join(lines)) if lines else cell("none", FAINT)


def _ends(key: key_pb2.Key, now: datetime) -> Text:
    if blocked := instant_or_none(key, "blocked_at"):
        text = cell("blocked", BAD)
        text.append(f"\n{iso_date(blocked)}", FAINT)
        return text
    if key.HasField("subscription"):
        status = key.subscription
        text = _subscription_state(status)
        grace = instant_or_none(status, "grace_ends_at")
        if status.state == subscription_pb2.SUBSCRIPTION_STATE_GRACE and grace is not None:
            text.append(f"\nuntil {iso_date(grace)}", FAINT)
        elif ends := instant_or_none(status, "ends_at"):
            text.append(f"\n{iso_date(ends)}", FAINT)
        return text
    ends = instant_or_none(key, "expires_at")
    starts = instant_or_none(key, "not_before")
    if starts is not None and starts > now:
        text = cell("not yet", CAUTION)
        text.append(f"\n{iso_date(starts)}", FAINT)
        return text
    if ends is None:
        return cell("no end", GOOD)
    style = BAD if ends <= now else CAUTION if ends - now <= _SOON else GOOD
    return ends_cell(ends, now, style)
