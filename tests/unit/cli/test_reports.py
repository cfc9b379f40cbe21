"""What the report commands ask, and what they show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from sparekey.cli.report_tables import timeline
from sparekey.cli.supposing import read_what_ifs
from sparekey.v1 import fleet_pb2, key_pb2, keyring_pb2, license_pb2, report_pb2
from sparekey.wire.timestamps import from_duration, from_timestamp, to_timestamp

from .conftest import CommandLine, FakeServer

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SERIAL = "4A3F-00B2C1-9D8E7F66"


def day(number: float) -> datetime:
    return NOW + timedelta(days=number)


def gap(starts: float, ends: float | None, **values: object) -> report_pb2.CoverageGap:
    made = report_pb2.CoverageGap(
        svm_id="svm-1",
        guest_class=report_pb2.GUEST_CLASS_SERVER,
        guest_count=1,
        starts_at=to_timestamp(day(starts)),
        ends_at=None if ends is None else to_timestamp(day(ends)),
        mode=fleet_pb2.PROTECTION_MODE_LIMITED,
        reason=report_pb2.GAP_REASON_KEY_EXPIRED,
        key_serial=SERIAL,
    )
    made.MergeFrom(report_pb2.CoverageGap(**values))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("starts", "ends", "mode", "line"),
    [
        (0, None, fleet_pb2.PROTECTION_MODE_OFF, "█" * 24),
        (12, None, fleet_pb2.PROTECTION_MODE_LIMITED, "─" * 12 + "▒" * 12),
        (4, 8, fleet_pb2.PROTECTION_MODE_FULL, "─" * 4 + "░" * 4 + "─" * 16),
        (4.1, 4.2, fleet_pb2.PROTECTION_MODE_LIMITED, "─" * 4 + "▒" + "─" * 19),
        (23.9, None, fleet_pb2.PROTECTION_MODE_LIMITED, "─" * 23 + "▒"),
    ],
)
def test_a_gap_is_drawn_to_scale(
    starts: float, ends: float | None, mode: fleet_pb2.ProtectionMode.ValueType, line: str
) -> None:
    assert timeline(gap(starts, ends, mode=mode), NOW, day(24)) == line


def test_changes_to_suppose_are_read() -> None:
    block, end, add = read_what_ifs(
        [f"block:{SERIAL.lower()}", f"end:{SERIAL}@2030-02-01", "add:svm-1:40-desktops@+30d"], NOW
    )
    assert (block.block_key.key_serial, block.HasField("at")) == (SERIAL, False)
    assert from_timestamp(end.at) == day(31)
    assert (add.add_guests.svm_id, add.add_guests.desktops, add.add_guests.servers) == (
        "svm-1",
        40,
        0,
    )
    assert from_timestamp(add.at) == day(30)


@pytest.mark.parametrize(
    "text", ["", "block", "block:", "add:svm-1", "add::3-servers", "add:svm-1:3-cats", "drop:x"]
)
def test_what_cannot_be_supposed_is_wrong_usage(sparekey: CommandLine, text: str) -> None:
    done = sparekey("forecast", "--what-if", text)
    assert done.exit_code == 2
    assert "write block:SERIAL, end:SERIAL or add:SVM:40-desktops" in done.err


@pytest.mark.parametrize("text", ["block:X@soon", "block:X@2030-13-01"])
def test_an_instant_that_is_none_is_wrong_usage(sparekey: CommandLine, text: str) -> None:
    done = sparekey("plan", "--what-if", text)
    assert done.exit_code == 2
    assert len(done.err.splitlines()) == 1


def test_a_forecast_in_many_messages_is_one_answer(
    sparekey: CommandLine, server: FakeServer
) -> None:
    server.answers["ForecastCoverage"] = [
        report_pb2.ForecastCoverageResponse(
            summary=report_pb2.ForecastSummary(
                starts_at=to_timestamp(NOW),
                ends_at=to_timestamp(day(24)),
                svm_count=9,
                svm_with_gap_count=3,
                gap_count=3,
            )
        ),
        report_pb2.ForecastCoverageResponse(gaps=[gap(2, 3), gap(2, 3, svm_id="svm-2")]),
        report_pb2.ForecastCoverageResponse(gaps=[gap(0, None, svm_id="svm-3")]),
    ]
    done = sparekey("forecast", "--cluster", "east", "--horizon", "24d")
    request = server.request("ForecastCoverage")
    assert (request.cluster, from_duration(request.horizon)) == ("east", timedelta(days=24))
    assert "3 of 9 SVMs will have guests without a usable key before 2030-01-25:" in done.out
    assert [row[0] for row in done.rows[2:]] == ["FROM", "now", "and", "2030-01-03", "to", "─"]
    assert ["to", "2030-01-04", "svm-1,", "svm-2"] in [row[:4] for row in done.rows]


def test_a_plan_is_a_table_and_commands(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["PlanRenewal"] = [
        report_pb2.PlanRenewalResponse(
            summary=report_pb2.PlanSummary(
                starts_at=to_timestamp(NOW),
                ends_at=to_timestamp(day(90)),
                keys=[
                    report_pb2.PlannedKey(
                        number=1,
                        type=key_pb2.KEY_TYPE_CORES,
                        edition=key_pb2.EDITION_ENTERPRISE,
                        units=64,
                        starts_by=to_timestamp(NOW),
                        until=to_timestamp(day(90)),
                    )
                ],
            )
        ),
        report_pb2.PlanRenewalResponse(
            tasks=[
                report_pb2.PlannedTask(
                    key_number=1,
                    role=keyring_pb2.KEY_ROLE_ACTIVE,
                    scope=license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=["a", "b"])),
                    run_from=to_timestamp(NOW),
                    run_by=to_timestamp(NOW),
                )
            ]
        ),
    ]
    done = sparekey("plan")
    assert done.out.splitlines()[-4:] == [
        "# buy key 1, commercial, cores enterprise, for 64 units, then",
        "sparekey keys add KEY-1.key",
        "# now",
        "sparekey activate SERIAL-OF-KEY-1 --svm a --svm b",
    ]


def test_a_plan_names_the_svms_that_no_key_helps(sparekey: CommandLine, server: FakeServer) -> None:
    summary = report_pb2.PlanSummary(
        starts_at=to_timestamp(NOW),
        ends_at=to_timestamp(day(90)),
        void_svm_count=4,
        void_svm_ids=["svm-1", "svm-2", "svm-3"],
    )
    server.answers["PlanRenewal"] = [report_pb2.PlanRenewalResponse(summary=summary)]
    done = sparekey("plan")
    assert "Nothing to do: there is no other gap until 2030-04-01." in done.out
    told = " ".join(done.out.split())
    assert "the keys of svm-1, svm-2 and 2 more are void (R82), which no key helps" in told


def test_a_forecast_tells_void_keys(sparekey: CommandLine, server: FakeServer) -> None:
    void = gap(0, None)
    void.reason = report_pb2.GAP_REASON_KEY_VOID
    summary = report_pb2.ForecastSummary(
        starts_at=to_timestamp(NOW),
        ends_at=to_timestamp(day(24)),
        svm_count=1,
        svm_with_gap_count=1,
        gap_count=1,
    )
    server.answers["ForecastCoverage"] = [
        report_pb2.ForecastCoverageResponse(summary=summary, gaps=[void])
    ]
    assert "key void" in sparekey("forecast").out


def test_usage_shows_what_is_over_and_what_is_left(
    sparekey: CommandLine,
    server: FakeServer,
    paged: Callable[..., object],
    make_key: Callable[..., key_pb2.Key],
) -> None:
    rows = [
        report_pb2.KeyUsage(key=make_key(1, active_svm_count=1), units_used=120, units_over=20),
        report_pb2.KeyUsage(key=make_key(2, reserve_svm_count=3, ends=None), units_spare=91),
        report_pb2.KeyUsage(key=make_key(3, ends=-1, blocked_at=to_timestamp(NOW)), units_used=5),
    ]
    server.answers["GetKeyUsage"] = paged(report_pb2.GetKeyUsageResponse, "keys", rows, size=1)
    done = sparekey("usage")
    assert done.rows[1][3:7] == ["120", "100", "20", "0"]
    assert ["on", "0", "SVMs,", "3", "as"] in done.rows
    assert done.rows[3][-3:] == ["91", "no", "end"]
    assert ["blocked"] in done.rows
    assert "1 day ago" in done.out
