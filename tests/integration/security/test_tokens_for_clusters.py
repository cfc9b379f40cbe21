"""A token for some clusters: what it may change, and what it may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.server.access.roles import BY_CLUSTER, ROLES
from sparekey.v1 import (
    access_pb2,
    event_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    key_pb2,
    key_pb2_grpc,
    license_pb2,
    license_pb2_grpc,
)
from sparekey.wire.callers import Role
from sparekey.wire.errors import CallProblem, read_problem

from .secure_site import SECONDS, VENDOR, SecureSite, Shown, open_stream
from .test_every_rpc_by_every_caller import LET_IN, expected, walk

NORTH = ("svm-n1", "svm-n2")
KEY = LicenseKey(
    serial="ABCD-ABCDEF-ABCDEF01",
    type=KeyType.SERVER,
    kind=KeyKind.COMMERCIAL,
    edition=Edition.STANDARD,
    origin=KeyOrigin.KEY_FILE,
    unit_limit=100,
    not_before=datetime.now(UTC).replace(microsecond=0) - timedelta(days=1),
    expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=100),
)


class Team:
    """The operator of one cluster."""

    def __init__(self, site: SecureSite, shown: Shown) -> None:
        channel = site.channel(shown)
        self.licenses: Any = license_pb2_grpc.LicenseServiceStub(channel)
        self.fleet: Any = fleet_pb2_grpc.FleetServiceStub(channel)
        self.metadata = shown.metadata

    def call(self, rpc: Any, request: Any) -> Any:
        return rpc(request, metadata=self.metadata, timeout=SECONDS)

    def refused(self, rpc: Any, request: Any) -> CallProblem:
        with pytest.raises(grpc.RpcError) as refused:
            self.call(rpc, request)
        problem = read_problem(refused.value)
        assert problem.reason == "PERMISSION_DENIED", problem
        return problem

    def activate(self, scope: license_pb2.Scope, *, dry: bool = False) -> license_pb2.Task:
        task: license_pb2.Task = self.call(self.licenses.Activate, order(scope, dry=dry)).task
        return task


def order(scope: license_pb2.Scope, *, dry: bool = False) -> license_pb2.ActivateRequest:
    return license_pb2.ActivateRequest(key_serial=KEY.serial, scope=scope, validate_only=dry)


def cluster(name: str) -> license_pb2.Scope:
    return license_pb2.Scope(cluster=name)


def picked(*svm_ids: str) -> license_pb2.Scope:
    return license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svm_ids))


def everything() -> license_pb2.Scope:
    scope = license_pb2.Scope()
    scope.all.SetInParent()
    return scope


@pytest.fixture(scope="module")
def fleet(site: SecureSite) -> Iterator[SecureSite]:
    """Two SVMs in the north, one in the south, one in no cluster, and a key."""
    keys: Any = key_pb2_grpc.KeyServiceStub(site.channel(site.admin))
    keys.AddKey(key_pb2.AddKeyRequest(key_file=VENDOR.sign(KEY)), timeout=SECONDS)
    with ExitStack() as stack:
        for svm_id, where in ((NORTH[0], "north"), (NORTH[1], "north"), ("svm-s", "south")):
            stack.enter_context(open_stream(site, svm_id, cluster=where))
        stack.enter_context(open_stream(site, "svm-none", cluster=""))
        yield site


@pytest.fixture(scope="module")
def north(fleet: SecureSite) -> Team:
    return Team(fleet, fleet.token("operator", "north-team", ["north"])[0])


@pytest.fixture(scope="module")
def admin(fleet: SecureSite) -> Team:
    return Team(fleet, fleet.token("admin", "root")[0])


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("scope", [cluster("north"), picked(*NORTH), picked(NORTH[1])])
def test_it_starts_tasks_within(north: Team, scope: license_pb2.Scope, dry: bool) -> None:
    task = north.activate(scope, dry=dry)
    assert {one.svm_id for one in task.outcomes} <= set(NORTH)


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    ("scope", "outside"),
    [
        (everything(), "svm-none,svm-s"),
        (cluster("south"), "svm-s"),
        (picked("svm-s"), "svm-s"),
        (picked(*NORTH, "svm-none"), "svm-none"),
    ],
    ids=["all", "another cluster", "picked in another", "picked in none"],
)
def test_it_starts_none_beyond(
    fleet: SecureSite, north: Team, scope: license_pb2.Scope, outside: str, dry: bool
) -> None:
    before = history(fleet)
    problem = north.refused(north.licenses.Activate, order(scope, dry=dry))
    assert problem.metadata == {"svm_ids": outside, "clusters": "north"}
    assert history(fleet) == before


def history(site: SecureSite) -> int:
    request = event_pb2.ListEventsRequest(page_size=1000)
    return len(site.events.ListEvents(request, timeout=SECONDS).events)


def test_it_runs_and_cancels_tasks_within_only(north: Team, admin: Team) -> None:
    wide = admin.activate(everything())
    run = license_pb2.RunTaskRequest(task_id=wide.task_id)
    cancel = license_pb2.CancelTaskRequest(task_id=wide.task_id)
    north.refused(north.licenses.RunTask, run)
    north.refused(north.licenses.CancelTask, cancel)
    own = north.activate(cluster("north"))
    again = north.call(north.licenses.RunTask, license_pb2.RunTaskRequest(task_id=own.task_id))
    cancel_own = license_pb2.CancelTaskRequest(task_id=again.task.task_id)
    cancelled = north.call(north.licenses.CancelTask, cancel_own).task
    assert cancelled.state == license_pb2.TASK_STATE_CANCELLED
    admin.call(admin.licenses.CancelTask, cancel)


def test_it_changes_svms_within_only(north: Team) -> None:
    for svm_id in ("svm-s", "svm-none"):
        north.refused(north.fleet.ExcludeSvm, fleet_pb2.ExcludeSvmRequest(svm_id=svm_id))
        north.refused(north.fleet.ForgetSvm, fleet_pb2.ForgetSvmRequest(svm_id=svm_id))
    exclude = fleet_pb2.ExcludeSvmRequest(svm_id=NORTH[0])
    assert north.call(north.fleet.ExcludeSvm, exclude).svm.excluded
    exclude.include_again = True
    assert not north.call(north.fleet.ExcludeSvm, exclude).svm.excluded
    with pytest.raises(grpc.RpcError) as refused:
        north.call(north.fleet.ForgetSvm, fleet_pb2.ForgetSvmRequest(svm_id=NORTH[0]))
    assert read_problem(refused.value).reason == "SVM_CONNECTED"


def test_it_reads_all_and_changes_nothing_that_is_not_about_svms(site: SecureSite) -> None:
    shown, record = site.token("operator", "bound", ["north", "west"])
    assert record.clusters == ["north", "west"]
    answers = walk(site, shown)
    may = {
        name: said
        if said != LET_IN or ROLES[name] in (Role.VIEWER, Role.ANYONE) or name in BY_CLUSTER
        else "PERMISSION_DENIED"
        for name, said in expected(Role.OPERATOR, "PERMISSION_DENIED").items()
    }
    assert answers == may
    assert answers["/sparekey.v1.KeyService/DeleteKey"] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("role", "clusters"),
    [("ADMIN", ["north"]), ("OPERATOR", [""]), ("OPERATOR", ["n"] * 101)],
)
def test_clusters_that_bind_nothing_are_refused(
    site: SecureSite, role: str, clusters: list[str]
) -> None:
    request = access_pb2.CreateTokenRequest(
        name="bob", role=access_pb2.Role.Value(f"ROLE_{role}"), clusters=clusters
    )
    with pytest.raises(grpc.RpcError) as refused:
        site.access.CreateToken(request, timeout=SECONDS)
    assert [one.field for one in read_problem(refused.value).violations] == ["clusters"]
