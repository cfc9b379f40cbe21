"""Renderers: what a table shows, in 80 columns, by words and never by colour alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from sparekey.cli import tables
from sparekey.cli.cells import plain, word
from sparekey.cli.task_tables import ADVICE_WORDS, scope_words
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, keyring_pb2, license_pb2
from sparekey.wire.timestamps import to_timestamp

MakeKey = Callable[..., key_pb2.Key]
MakeSvm = Callable[..., fleet_pb2.Svm]
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LONG_SERIAL = "0123456789ABCDEF0123456789ABCDEF"


def rendered(renderable: RenderableType, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(renderable)
    lines = file.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    return "\n".join(line.rstrip() for line in lines)


def rows(renderable: RenderableType, width: int = 80) -> list[list[str]]:
    return [line.split() for line in rendered(renderable, width).splitlines()]


def test_the_svms_of_an_ordinary_fleet_fit_80_columns_unbroken(
    make_svm: MakeSvm, make_key: MakeKey
) -> None:
    server, desktop = make_key(1), make_key(2, type=key_pb2.KEY_TYPE_DESKTOP, ends=400)
    fleet = [
        make_svm("svm-east-01", [server, desktop], [make_key(3, ends=365)]),
        make_svm("svm-west-02", mode=fleet_pb2.PROTECTION_MODE_OFF, cluster=""),
    ]
    assert rendered(tables.svm_table(fleet, NOW)).splitlines() == [
        "SVM          CLUSTER  LINK       MODE  ACTIVE     RESERVE    ENDS",
        "svm-east-01  east     connected  full  server     server     in 400 days",
        "                                       …00000001  …00000003  2031-02-05",
        "                                       desktop",
        "                                       …00000002",
        "svm-west-02  -        connected  off   none       none       -",
    ]


def test_in_a_wide_terminal_serials_are_whole(make_svm: MakeSvm, make_key: MakeKey) -> None:
    key = make_key(1, serial=LONG_SERIAL, type=key_pb2.KEY_TYPE_PROCESSORS)
    table = tables.svm_table([make_svm("svm-1", [key])], NOW)
    assert f"processors {LONG_SERIAL}" in rendered(table, 140)
    assert "processors …89ABCDEF" in rendered(table, 100)
    assert "processors" in rendered(table, 80)
    assert "…89ABCDEF" in rendered(table, 80)


def test_the_longest_names_fold_and_nothing_is_lost(make_svm: MakeSvm, make_key: MakeKey) -> None:
    name = "a-very-long-name-of-an-svm-" * 2 + "123456789"
    svm = make_svm(name, [make_key(1)], cluster="c" * 100)
    text = rendered(tables.svm_table([svm], NOW))
    assert "".join(row[0] for row in rows(tables.svm_table([svm], NOW))[1:]).startswith("a-very")
    assert text.count("c") >= 100


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 250])
def test_no_width_breaks_a_table(make_svm: MakeSvm, make_key: MakeKey, width: int) -> None:
    key = make_key(1, serial=LONG_SERIAL, unit_limit=10_000_000, active_svm_count=12345)
    svm = make_svm("svm-" + "x" * 59, [key], [key], predicted=[key], excluded=True)
    rendered(tables.svm_table([svm], NOW), width)
    rendered(tables.svm_details(svm, NOW), width)
    rendered(tables.key_table([key], NOW), width)
    rendered(tables.key_details(key, NOW), width)


def test_what_the_rules_predict_is_shown_and_said_to_be(
    make_svm: MakeSvm, make_key: MakeKey
) -> None:
    svm = make_svm("svm-1", [make_key(1, ends=-1)], predicted=[make_key(2, ends=100)])
    text = rendered(tables.svm_table([svm], NOW))
    assert "…00000002" in text
    assert "…00000001" not in text
    assert "predicted" in text
    assert "the SVM has not confirmed it yet" in text
    confirmed = make_svm("svm-1", [make_key(2, ends=100)])
    assert "predicted" not in rendered(tables.svm_table([confirmed], NOW))


def test_R39_of_two_active_keys_the_later_end_counts(make_svm: MakeSvm, make_key: MakeKey) -> None:
    desktop = make_key(2, type=key_pb2.KEY_TYPE_DESKTOP, ends=90)
    for actives in ([make_key(1), desktop], [desktop, make_key(1)]):
        assert "in 90 days" in rendered(tables.svm_table([make_svm("s", actives)], NOW))
    endless = make_key(3, ends=None, type=key_pb2.KEY_TYPE_DESKTOP)
    assert "no end" in rendered(tables.svm_table([make_svm("s", [make_key(1), endless])], NOW))


def test_states_of_an_svm_are_words(make_svm: MakeSvm, make_key: MakeKey) -> None:
    blocked = make_key(1, blocked_at=to_timestamp(NOW - timedelta(days=2)))
    offline = fleet_pb2.LINK_STATE_OFFLINE
    for svm, expected in [
        (make_svm(link_state=offline, pending_instruction_count=2), "2 to do"),
        (make_svm(push_stalled=True, pending_instruction_count=2), "stalled"),
        (make_svm(excluded=True), "excluded"),
        (make_svm(actives=[blocked]), "blocked"),
        (make_svm(actives=[make_key(1, ends=-3)]), "3 days ago"),
        (make_svm(link_state=7), "unknown"),
    ]:
        assert expected in rendered(tables.svm_table([svm], NOW))


@pytest.mark.parametrize(
    ("ends", "with_reserve", "style"),
    [(15, False, "green"), (14, False, "yellow"), (14, True, "green"), (0, True, "bold red")],
)
def test_R94_colours_follow_how_soon_it_ends_without_a_reserve(
    make_svm: MakeSvm, make_key: MakeKey, ends: float, with_reserve: bool, style: str
) -> None:
    reserves = [make_key(2, ends=100)] if with_reserve else []
    table = tables.svm_table([make_svm("s", [make_key(1, ends=ends)], reserves)], NOW)
    (text,) = table.columns[-1].cells
    assert isinstance(text, Text)
    assert text.style == style


def test_keys_keep_their_whole_serials_in_80_columns(make_key: MakeKey) -> None:
    longest = make_key(
        1,
        serial=LONG_SERIAL,
        type=key_pb2.KEY_TYPE_PROCESSORS,
        kind=key_pb2.KEY_KIND_SUBSCRIPTION,
        edition=key_pb2.EDITION_ENTERPRISE,
        unit_limit=1_000_000,
        ends=400,
        active_svm_count=999,
        reserve_svm_count=3,
    )
    text = rendered(tables.key_table([longest], NOW))
    for whole in (
        *(LONG_SERIAL, "processors", "subscription", "enterprise", "1000000"),
        *("999 active", "3 reserve", "in 400 days"),
    ):
        assert whole in text


def test_states_of_a_key_are_words(make_key: MakeKey) -> None:
    tomorrow = to_timestamp(NOW + timedelta(days=1))
    for key, expected in [
        (make_key(blocked_at=to_timestamp(NOW)), "blocked"),
        (make_key(not_before=tomorrow), "not yet"),
        (make_key(ends=None), "no end"),
        (make_key(ends=0), "now"),
        (make_key(ends=-1), "1 day ago"),
    ]:
        assert expected in rendered(tables.key_table([key], NOW))


def test_outcomes_say_why_and_what_is_next() -> None:
    outcome = license_pb2.Outcome(
        svm_id="svm-1",
        state=license_pb2.OUTCOME_STATE_REFUSED,
        reason=license_pb2.REFUSAL_REASON_KIND_NOT_ALLOWED_AS_RESERVE,
        message="A trial key cannot be a reserve: choose a commercial key.",
        advice=[license_pb2.ADVICE_OS_MIX_MISMATCH, 77],  # type: ignore[list-item]
    )
    text = rendered(tables.outcome_table([outcome]), 200)
    assert "kind not allowed" in text
    assert "as reserve" in text
    assert "choose a commercial key." in text
    assert "advice: it reports no guests that this key is for" in text
    assert "advice: unknown (77)" in text


def test_every_advice_has_words() -> None:
    assert ADVICE_WORDS.keys() == {number for number in license_pb2.Advice.values() if number}


def test_a_summary_is_plain_lines(make_task: Callable[..., license_pb2.Task]) -> None:
    done = license_pb2.Outcome(svm_id="svm-1", state=license_pb2.OUTCOME_STATE_UNCHANGED)
    task = make_task(
        outcomes=[done],
        advice=[license_pb2.ADVICE_MIXED_EDITIONS],
        finished_at=to_timestamp(NOW + timedelta(hours=1)),
    )
    assert tables.task_summary(task).plain.splitlines() == [
        "task-7: 0001-000001-00000001 as the reserve key of cluster east: succeeded",
        "1 SVM: 1 unchanged",
        "started 2030-01-01T00:00:00Z, finished 2030-01-01T01:00:00Z, by operator",
        "advice: editions differ; settle on one",
    ]


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (license_pb2.Scope(all=license_pb2.AllSvms()), "all SVMs"),
        (license_pb2.Scope(cluster="east"), "cluster east"),
        (license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=["a"])), "a"),
        (license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=["a", "b"])), "2 SVMs"),
        (license_pb2.Scope(), "-"),
    ],
)
def test_scopes_in_words(scope: license_pb2.Scope, words: str) -> None:
    assert scope_words(scope) == words


def test_an_event_about_a_keyring_says_which_change() -> None:
    change = keyring_pb2.KeyringChange(
        kind=keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED,
        reason=keyring_pb2.KEYRING_CHANGE_REASON_ACTIVE_EXPIRED,
        slot=keyring_pb2.Slot(type=key_pb2.KEY_TYPE_SERVER, role=keyring_pb2.KEY_ROLE_ACTIVE),
        serial="0002-000002-00000002",
    )
    event = event_pb2.Event(
        cursor=12345,
        occurred_at=to_timestamp(NOW),
        kind=event_pb2.EVENT_KIND_KEYRING_CHANGED,
        svm_id="svm-1",
        change=change,
    )
    assert tables.event_line(event).plain == (
        "2030-01-01T00:00:00Z  reserve promoted  svm-1"
        "  0002-000002-00000002 (server, active expired)"
    )
    text = rendered(tables.event_table([event]))
    assert "2030-01-01T00:00:00Z" in text
    assert "0002-000002-00000002" in text


def test_an_event_without_a_sentence_still_says_what_it_is_about() -> None:
    event = event_pb2.Event(
        kind=event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
        key_serial="0002-000002-00000002",
        task_id="task-7",
        refusal=license_pb2.REFUSAL_REASON_TYPE_MISMATCH,
    )
    assert tables.event_line(event).plain == (
        "-  instruction refused  0002-000002-00000002 task-7 type mismatch"
    )


@pytest.mark.parametrize(
    ("enum_type", "number", "expected"),
    [
        (key_pb2.KeyType, key_pb2.KEY_TYPE_SERVER, "server"),
        (
            license_pb2.OutcomeState,
            license_pb2.OUTCOME_STATE_DEADLINE_EXCEEDED,
            "deadline exceeded",
        ),
        (key_pb2.KeyType, 0, "-"),
        (key_pb2.KeyType, 42, "unknown (42)"),
    ],
)
def test_enum_values_are_words(enum_type: Any, number: int, expected: str) -> None:
    assert word(enum_type, number) == expected


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\r", "\x9b", "\u202e", "\x7f"])
def test_nothing_steers_the_terminal(character: str) -> None:
    assert plain(f"a{character}b") == "a\ufffdb"


def test_brackets_are_no_markup(make_svm: MakeSvm) -> None:
    table = tables.svm_table([make_svm("svm-1", cluster="[bold]x[/]")], NOW)
    assert "[bold]x[/]" in rendered(table, 140)
