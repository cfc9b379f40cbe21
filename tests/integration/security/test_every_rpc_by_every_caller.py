"""Every RPC by every caller, against the role table and against the contract's own comments."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import sparekey.testing.v1
import sparekey.v1
from sparekey.server.access.roles import ROLES
from sparekey.testing.v1 import clock_pb2, clock_pb2_grpc
from sparekey.v1 import access_pb2, agent_pb2, agent_pb2_grpc
from sparekey.wire.callers import Role
from sparekey.wire.errors import read_problem

from .secure_site import SECONDS, SecureSite, Shown

PROTO = Path(__file__).parents[3] / "proto"
GARBAGE = b"\xff\xff\xff"
"""No message is this: who is let in is told so, and nothing is changed."""
LET_IN = "UNDECODABLE_MESSAGE"
NO_CONNECTION = "-"

OPERATOR_ROLES = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
PUBLIC = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def served_methods(site: SecureSite) -> list[MethodDescriptor]:
    """Every RPC that the running server offers, by its own reflection."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(site.channel(site.admin))
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = stub.ServerReflectionInfo(asked, timeout=SECONDS)
    names = {service.name for service in answer.list_services_response.service}
    assert names >= PUBLIC
    for package in (sparekey.v1, sparekey.testing.v1):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    pool = descriptor_pool.Default()
    return [
        method for name in sorted(names - PUBLIC) for method in pool.FindServiceByName(name).methods
    ]


def full_name(method: MethodDescriptor) -> str:
    assert method.containing_service is not None
    return f"/{method.containing_service.full_name}/{method.name}"


def call(channel: grpc.Channel, method: MethodDescriptor, shown: Shown) -> str:
    """Call with garbage; return the reason of the refusal, or - where no connection came about."""
    name = full_name(method)
    kind: Any = channel.unary_unary
    argument: Any = GARBAGE
    if method.client_streaming:
        kind, argument = channel.stream_stream, iter([GARBAGE])
    elif method.server_streaming:
        kind = channel.unary_stream
    try:
        answer = kind(name)(argument, timeout=SECONDS, metadata=shown.metadata)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        problem = read_problem(error)
        if not problem.reason:
            assert problem.code is grpc.StatusCode.UNAVAILABLE, problem
            return NO_CONNECTION
        return problem.reason
    raise AssertionError(f"{name} answered garbage")


def walk(site: SecureSite, shown: Shown, *, second: bool | None = None) -> dict[str, str]:
    channel = site.channel(shown, second=second)
    return {full_name(method): call(channel, method, shown) for method in served_methods(site)}


def expected(role: Role | None, otherwise: str) -> dict[str, str]:
    """What each RPC says to a caller of a role by the table."""
    answers = {}
    for name, needed in ROLES.items():
        is_agent = Role.AGENT in (needed, role)
        allowed = needed is Role.ANYONE or (
            role is not None and (needed is role if is_agent else role >= needed)
        )
        answers[name] = LET_IN if allowed else otherwise
    return answers


def everything(answer: str) -> dict[str, str]:
    return dict.fromkeys(ROLES, answer)


def all_but_enroll(answer: str) -> dict[str, str]:
    return {**everything(answer), "/sparekey.v1.EnrollmentService/Enroll": LET_IN}


def test_every_served_rpc_has_a_role(site: SecureSite) -> None:
    assert {full_name(method) for method in served_methods(site)} == set(ROLES)


def documented_roles() -> Iterator[tuple[str, str]]:
    """What the comments of the contract say, by method name."""
    for path in [*PROTO.glob("sparekey/v1/*.proto"), *PROTO.glob("sparekey/testing/v1/*.proto")]:
        text = path.read_text()
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
        assert package is not None
        for service in re.finditer(r"^service (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            comment = ""
            for line in service[2].splitlines():
                if rpc := re.match(r"  rpc (\w+)\(", line):
                    name = f"/{package[1]}.{service[1]}/{rpc[1]}"
                    said = re.search(r"Role:\s+(\w+)", comment)
                    yield name, said[1] if said else ""
                    comment = ""
                else:
                    comment += line.replace("//", " ")


def test_the_comments_of_the_contract_say_the_same_roles() -> None:
    said = {
        name: role for name, role in documented_roles() if not name.startswith("/sparekey.testing")
    }
    assert said == {
        name: role.name.lower()
        for name, role in ROLES.items()
        if not name.startswith("/sparekey.testing")
    }


@pytest.mark.parametrize("role", OPERATOR_ROLES)
def test_operators_by_certificate(site: SecureSite, role: Role) -> None:
    shown = site.operator(role.name.lower())
    assert walk(site, shown) == expected(role, "PERMISSION_DENIED")


@pytest.mark.parametrize("role", OPERATOR_ROLES)
def test_operators_by_token(site: SecureSite, role: Role) -> None:
    shown, _ = site.token(role.name)
    assert walk(site, shown) == expected(role, "PERMISSION_DENIED")


def test_an_agent_reaches_its_own_services_only(site: SecureSite) -> None:
    assert walk(site, site.agent("svm-a")) == expected(Role.AGENT, "PERMISSION_DENIED")


def test_without_certificate_and_token_only_enrolling_is_open(site: SecureSite) -> None:
    nothing = Shown()
    assert walk(site, nothing, second=True) == all_but_enroll("UNAUTHENTICATED")
    assert walk(site, nothing, second=False) == everything(NO_CONNECTION)


def test_a_certificate_of_another_authority_gets_no_connection(site: SecureSite) -> None:
    for shown in (
        site.operator("admin", authority=site.other),
        site.agent("svm-a", authority=site.other),
    ):
        assert walk(site, shown) == everything(NO_CONNECTION)
        # The second port asks for none, so it counts for nothing there.
        assert walk(site, shown, second=True) == all_but_enroll("UNAUTHENTICATED")


def test_an_expired_certificate_gets_no_connection(site: SecureSite) -> None:
    then = datetime.now(UTC) - timedelta(hours=2)
    for shown in (site.operator("admin", now=then), site.agent("svm-a", now=then)):
        assert walk(site, shown) == everything(NO_CONNECTION)


def test_a_connection_does_not_outlast_its_certificate(site: SecureSite) -> None:
    shown = site.operator("viewer", lifetime=timedelta(seconds=3))
    channel = site.channel(shown)
    method = next(one for one in served_methods(site) if one.name == "ListKeys")
    assert call(channel, method, shown) == LET_IN
    deadline = time.monotonic() + 10
    while (answer := call(channel, method, shown)) == LET_IN and time.monotonic() < deadline:
        time.sleep(0.2)
    assert answer == "UNAUTHENTICATED"


def test_a_certificate_that_names_nobody_gets_in_nowhere(site: SecureSite) -> None:
    assert walk(site, site.operator("emperor")) == all_but_enroll("UNAUTHENTICATED")


@pytest.mark.parametrize("token", ["", "sparekey-token-guessed", "x" * 5000])
def test_a_token_that_is_not_known_gets_in_nowhere(site: SecureSite, token: str) -> None:
    assert walk(site, Shown(token=token or " ")) == all_but_enroll("UNAUTHENTICATED")


def test_a_revoked_token_gets_in_nowhere(site: SecureSite) -> None:
    shown, record = site.token("admin")
    channel = site.channel(shown)
    method = next(one for one in served_methods(site) if one.name == "ListTokens")
    assert call(channel, method, shown) == LET_IN
    site.access.RevokeToken(access_pb2.RevokeTokenRequest(token_id=record.token_id))
    assert call(channel, method, shown) == "UNAUTHENTICATED"
    assert walk(site, shown) == all_but_enroll("UNAUTHENTICATED")


def test_a_token_ends(site: SecureSite) -> None:
    shown, _ = site.token("admin")
    clock = clock_pb2_grpc.ClockServiceStub(site.channel(site.admin))
    request = clock_pb2.AdvanceClockRequest()
    request.by.FromTimedelta(timedelta(days=30))
    clock.AdvanceClock(request, timeout=SECONDS)
    assert walk(site, shown) == all_but_enroll("UNAUTHENTICATED")


def test_a_join_token_is_no_token(site: SecureSite) -> None:
    shown = Shown(token=site.join_token())
    assert walk(site, shown) == all_but_enroll("UNAUTHENTICATED")


def test_a_revoked_certificate_gets_in_nowhere(site: SecureSite) -> None:
    for shown in (site.agent("svm-r"), site.operator("admin")):
        site.access.RevokeCertificate(
            access_pb2.RevokeCertificateRequest(certificate_serial=shown.serial)
        )
        assert walk(site, shown) == all_but_enroll("CERTIFICATE_REVOKED")


def test_a_banned_svm_gets_in_nowhere_until_it_is_let_in_again(site: SecureSite) -> None:
    shown = site.agent("svm-banned")
    site.access.BanSvm(access_pb2.BanSvmRequest(svm_id="svm-banned"))
    assert walk(site, shown) == all_but_enroll("SVM_BANNED")
    site.access.BanSvm(access_pb2.BanSvmRequest(svm_id="svm-banned", lift=True))
    assert walk(site, shown) == expected(Role.AGENT, "PERMISSION_DENIED")


def test_an_agent_cannot_speak_for_another_svm(site: SecureSite) -> None:
    stub = agent_pb2_grpc.AgentServiceStub(site.channel(site.agent("svm-a")))
    hello = agent_pb2.Hello(svm_id="svm-b", boot_id="boot")
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.Connect(iter([agent_pb2.ConnectRequest(hello=hello)]), timeout=SECONDS))
    assert read_problem(refused.value).reason == "IDENTITY_MISMATCH"


def test_health_and_reflection_are_for_anyone(site: SecureSite) -> None:
    check: Any = site.channel(Shown()).unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"", timeout=SECONDS) == b"\x08\x01"
