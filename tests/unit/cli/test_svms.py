"""`sparekey svms`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sparekey.cli.svm_tables import _REASONS
from sparekey.v1 import error_pb2, fleet_pb2, key_pb2
from sparekey.wire.errors import CallRefused

if TYPE_CHECKING:
    from unit.cli.conftest import CommandLine, FakeServer

MakeKey = Callable[..., key_pb2.Key]
MakeSvm = Callable[..., fleet_pb2.Svm]


def test_the_list_has_every_page_and_the_cluster(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm, paged: Callable[..., Any]
) -> None:
    svms = [make_svm(f"svm-{n}") for n in range(5)]
    server.answers["ListSvms"] = paged(fleet_pb2.ListSvmsResponse, "svms", svms)
    done = sparekey("svms", "list", "--cluster", "east")
    assert [row[0] for row in done.rows[1:]] == [f"svm-{n}" for n in range(5)]
    assert {request.cluster for request in server.requests["ListSvms"]} == {"east"}
    assert len(sparekey("svms", "list", "-o", "json").json) == 5


def test_no_svms(sparekey: CommandLine, server: FakeServer) -> None:
    server.answers["ListSvms"] = fleet_pb2.ListSvmsResponse()
    done = sparekey("svms", "list", "--cluster", "west")
    assert (done.exit_code, done.out) == (0, "")
    assert done.err == "no SVM is known in the cluster west\n"


def test_ends_are_told_by_the_servers_test_clock(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm, make_key: MakeKey
) -> None:
    server.answers["ListSvms"] = fleet_pb2.ListSvmsResponse(svms=[make_svm("s", [make_key()])])
    assert "in 30 days" in sparekey("svms", "list").out


def test_one_svm_shows_everything(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm, make_key: MakeKey
) -> None:
    svm = make_svm("svm-1", [make_key(1)], [make_key(2, ends=365)], agent_version="1.2")
    svm.guests.servers = 4
    svm.host_cpu.host_uuid = "host-1"
    server.answers["GetSvm"] = fleet_pb2.GetSvmResponse(svm=svm)
    done = sparekey("svms", "show", "svm-1")
    assert ["agent", "1.2"] in done.rows
    assert ["guests", "4", "servers,", "0", "desktops,", "0", "unknown"] in done.rows
    assert "0001-000001-00000001" in done.out
    assert "0002-000002-00000002" in done.out
    assert "2031-01-01" in done.out
    assert sparekey("svms", "show", "svm-1", "-o", "json").json["keyring"]["revision"] == "3"


def test_a_status_is_told_with_what_to_do(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm, make_key: MakeKey
) -> None:
    svm = make_svm(
        "svm-1",
        [make_key(1)],
        mode=fleet_pb2.PROTECTION_MODE_LIMITED,
        status=fleet_pb2.SVM_STATUS_CRITICAL,
        status_reasons=[
            fleet_pb2.SVM_STATUS_REASON_KEY_VOID,
            fleet_pb2.SVM_STATUS_REASON_SILENT,
            9999,
        ],
    )
    server.answers["GetSvm"] = fleet_pb2.GetSvmResponse(svm=svm)
    server.answers["ListSvms"] = fleet_pb2.ListSvmsResponse(svms=[svm])
    rows = [" ".join(row) for row in sparekey("svms", "show", "svm-1").rows]
    start = rows.index("status critical")
    told = " ".join(rows[start + 1 : start + 5])
    assert told.startswith(
        "its clock was changed: set it right, forget the SVM, and activate it anew"
        " nothing was heard of it for two hours"
    )
    assert "critical" in sparekey("svms", "list").out


def test_an_svm_that_is_well_has_no_reasons(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm
) -> None:
    svm = make_svm("svm-1", status=fleet_pb2.SVM_STATUS_OK)
    server.answers["GetSvm"] = fleet_pb2.GetSvmResponse(svm=svm)
    server.answers["ListSvms"] = fleet_pb2.ListSvmsResponse(svms=[svm])
    assert ["status", "ok"] in sparekey("svms", "show", "svm-1").rows
    assert "ok" not in sparekey("svms", "list").out.lower().split()


def test_every_reason_that_a_server_can_give_has_its_words() -> None:
    assert set(_REASONS) == {number for number in fleet_pb2.SvmStatusReason.values() if number}


@pytest.mark.parametrize(("command", "again"), [("exclude", False), ("include", True)])
def test_excluding_and_including(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm, command: str, again: bool
) -> None:
    svm = make_svm("svm-1", excluded=not again)
    server.answers["ExcludeSvm"] = fleet_pb2.ExcludeSvmResponse(svm=svm)
    done = sparekey("svms", command, "svm-1")
    assert ("excluded" in done.out) is not again
    assert server.request("ExcludeSvm").include_again is again
    assert "nothing was changed" in sparekey("svms", command, "svm-1", "--dry-run").err


def test_forgetting(sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm) -> None:
    server.answers["ForgetSvm"] = fleet_pb2.ForgetSvmResponse(svm=make_svm("svm-1"))
    assert sparekey("svms", "forget", "svm-1").err == "forgotten\n"
    server.answers["ForgetSvm"] = CallRefused(
        error_pb2.ERROR_REASON_SVM_CONNECTED, "its agent is connected; stop it first"
    )
    done = sparekey("svms", "forget", "svm-1")
    assert done.exit_code == 1
    assert done.err == "sparekey: its agent is connected; stop it first (SVM_CONNECTED)\n"


def test_watching_prints_what_changes(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm
) -> None:
    server.answers["WatchSvms"] = [
        fleet_pb2.WatchSvmsResponse(svms=[make_svm("svm-1"), make_svm("svm-2")], caught_up=True),
        fleet_pb2.WatchSvmsResponse(svms=[make_svm("svm-2", mode=fleet_pb2.PROTECTION_MODE_OFF)]),
        fleet_pb2.WatchSvmsResponse(forgotten_svm_ids=["svm-1"]),
        fleet_pb2.WatchSvmsResponse(left_svm_ids=["svm-2"]),
    ]
    done = sparekey("svms", "watch")
    assert done.exit_code == 0
    assert [row[0] for row in done.rows if row[0].startswith("svm-")] == [
        *("svm-1", "svm-2"),
        *("svm-2", "svm-1", "svm-2"),
    ]
    assert done.rows[-2:] == [["svm-1", "was", "forgotten"], ["svm-2", "left", "the", "cluster"]]
    lines = sparekey("svms", "watch", "--cluster", "east", "-o", "json").json_lines
    assert [len(line["svms"]) for line in lines] == [2, 1, 0, 0]
    assert lines[2]["forgotten_svm_ids"] == ["svm-1"]
    assert server.requests["WatchSvms"][1].cluster == "east"


def test_on_a_terminal_one_table_changes(
    sparekey: CommandLine, server: FakeServer, make_svm: MakeSvm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    server.answers["WatchSvms"] = [
        fleet_pb2.WatchSvmsResponse(svms=[make_svm("svm-1"), make_svm("svm-2")], caught_up=True),
        fleet_pb2.WatchSvmsResponse(svms=[make_svm("svm-3")], caught_up=True),
        fleet_pb2.WatchSvmsResponse(forgotten_svm_ids=["svm-1", "never-seen"], caught_up=True),
        fleet_pb2.WatchSvmsResponse(left_svm_ids=["svm-3"], caught_up=True),
    ]
    done = sparekey("svms", "watch")
    assert "svm-1" in done.out
    last_table = done.out.rsplit("CLUSTER", 1)[1]
    assert "svm-2" in last_table
    assert "svm-1" not in last_table
    assert "svm-3" in done.out
    assert "svm-3" not in last_table
