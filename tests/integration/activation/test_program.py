"""The program: start, refusals, restart, end."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.v1 import activation_pb2
from sparekey.wire.timestamps import from_timestamp, to_timestamp

PROGRAM = Path(sys.executable).with_name("sparekey-fake-activation")
Start = Callable[..., Any]
OTHER = "TEST0-DDDDD-EEEEE-FFFFF"


def redeem(fake: Any, code: str, installation: str = "here") -> Any:
    request = activation_pb2.RedeemCodeRequest(code=code, installation_id=installation)
    return fake.activation.RedeemCode(request)


def refusal(*arguments: object) -> str:
    """What the program says when it does not start."""
    finished = subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=20, check=False
    )
    assert finished.returncode == 2, finished.stderr
    assert finished.stdout == ""
    (sentence,) = finished.stderr.splitlines()
    assert sentence.startswith("sparekey-fake-activation: ")
    return sentence


def test_the_ready_line_tells_where_everything_is_and_sigterm_ends_it(
    start_in: Start, tmp_path: Path, key: Any
) -> None:
    fake = start_in(tmp_path / "data", "--seed", "7")
    assert list(fake.facts) == ["listen", "control", "data", "vendor_keys"]
    assert fake.facts["data"] == str(tmp_path / "data")
    assert fake.facts["vendor_keys"] == str(tmp_path / "data" / "vendor-keys.json")
    assert (tmp_path / "data" / "signing-key.pem").stat().st_mode & 0o777 == 0o600
    issued = fake.control.IssueKey(control_pb2.IssueKeyRequest(key=key()))
    assert issued.serial == "269E-651327-A6A3A450", "a seed gives the same serials at each run"
    assert fake.end(signal.SIGTERM) == 0
    assert "Traceback" not in fake.log()


def test_it_ends_in_time_though_a_call_is_delayed(
    start_in: Start, tmp_path: Path, key: Any, define: Any
) -> None:
    fake = start_in(tmp_path / "data")
    code = define(fake.control, key())
    fault = control_pb2.Fault(kind=control_pb2.FAULT_KIND_DELAY)
    fault.delay.seconds = 600
    fake.control.SetFaults(control_pb2.SetFaultsRequest(faults=[fault]))
    request = activation_pb2.RedeemCodeRequest(code=code, installation_id="here")
    waiting = fake.activation.RedeemCode.future(request)
    while not fake.control.ListCalls(control_pb2.ListCallsRequest()).calls:
        pass
    assert fake.end(signal.SIGTERM) == 0
    assert waiting.exception().code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert "Traceback" not in fake.log()


def test_a_taken_port_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("--listen", "127.0.0.1:0", "--control", address)
        assert f"cannot listen on {address}" in refusal(*arguments, "--data", tmp_path)


def test_a_restart_after_a_kill_forgets_nothing_that_was_answered(
    start_in: Start, tmp_path: Path, key: Any, define: Any, at: Any
) -> None:
    fake = start_in(tmp_path / "data", "--seed", "3")
    control = fake.control
    control.SetClock(control_pb2.SetClockRequest(time=to_timestamp(at(0))))
    trial = define(control, key("TRIAL"))
    code = define(control, key(), OTHER, renewals=1)
    answers = [redeem(fake, trial), redeem(fake, code)]
    serial = fake.trusted.read(answers[1].key_file).serial
    request = activation_pb2.RenewKeyRequest(serial=serial, installation_id="here")
    renewed = fake.activation.RenewKey(request)
    issued = control.IssueKey(control_pb2.IssueKeyRequest(key=key("SUBSCRIPTION")))
    control.BlockKey(control_pb2.BlockKeyRequest(serial=issued.serial))
    pinned = Path(fake.facts["vendor_keys"]).read_bytes()
    fake.end(signal.SIGKILL)

    again = start_in(tmp_path / "data", "--seed", "3")
    assert Path(again.facts["vendor_keys"]).read_bytes() == pinned
    assert [redeem(again, trial), redeem(again, code)] == answers
    assert again.activation.RenewKey(request) == renewed
    assert redeem(again, code, "there").verdict == activation_pb2.VERDICT_ACTIVATION_LIMIT
    checks = again.activation.CheckKeys(
        activation_pb2.CheckKeysRequest(serials=[issued.serial], installation_id="here")
    )
    assert from_timestamp(checks.checks[0].blocked_at) == at(0)
    status = again.control.GetStatus(control_pb2.GetStatusRequest())
    assert from_timestamp(status.time) == at(0)
    # The seeded source starts over, the serials do not.
    fresh = again.control.IssueKey(control_pb2.IssueKeyRequest(key=key()))
    assert fresh.serial not in (serial, issued.serial)
    assert again.end() == 0


def test_chaos_strikes_good_calls_until_a_test_heals_everything(start_in: Start) -> None:
    """Without a folder too: it makes one and takes it away at its end."""
    fake = start_in(None, "--chaos", "100", "--log-level", "error")
    folder = Path(fake.facts["data"])
    assert (folder / "vendor-keys.json").exists()
    activation, control = fake.activation, fake.control
    request = activation_pb2.RedeemCodeRequest(code=OTHER, installation_id="here")

    def is_struck() -> bool:
        try:
            activation.RedeemCode(request)
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
        return False

    assert is_struck()
    control.SetFaults(control_pb2.SetFaultsRequest())
    assert not is_struck()
    control.Reset(control_pb2.ResetRequest())
    assert is_struck()
    assert fake.end() == 0
    assert not folder.exists()
    assert fake.log() == ""


@pytest.mark.parametrize(
    ("fact", "service"),
    [
        ("listen", "sparekey.activation.v1.ActivationService"),
        ("control", "sparekey.activation.control.v1.ControlService"),
    ],
)
def test_both_ports_offer_health_and_reflection(shared: Any, fact: str, service: str) -> None:
    channel = shared.channel(fact)
    health: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", service):
        response = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = reflection.ServerReflectionInfo(iter([request]))
    assert service in {offered.name for offered in answer.list_services_response.service}
