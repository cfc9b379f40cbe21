"""The real program in a process of its own, and clients of its two ports."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.control.v1.control_pb2_grpc import ControlServiceStub
from sparekey.activation.v1.activation_pb2_grpc import ActivationServiceStub
from sparekey.licensing.key_files import TrustedSigners
from sparekey.v1 import key_pb2
from sparekey.wire.timestamps import to_duration, to_timestamp

PROGRAM = Path(sys.executable).with_name("sparekey-fake-activation")
ANY_PORTS = ("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class RunningFake:
    """One run of the program."""

    process: subprocess.Popen[str]
    log_path: Path
    facts: dict[str, str]
    channels: list[grpc.Channel] = field(default_factory=list)

    def channel(self, fact: str) -> grpc.Channel:
        # A connection of its own for each channel, so that a test can have it cut.
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channels.append(grpc.insecure_channel(self.facts[fact], options))
        return self.channels[-1]

    @property
    def activation(self) -> ActivationServiceStub:
        return ActivationServiceStub(self.channel("listen"))

    @property
    def control(self) -> ControlServiceStub:
        return ControlServiceStub(self.channel("control"))

    @property
    def trusted(self) -> TrustedSigners:
        return TrustedSigners.from_text(json.loads(Path(self.facts["vendor_keys"]).read_text()))

    def log(self) -> str:
        return self.log_path.read_text()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the program and wait for it; its exit code."""
        self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=20)
        for channel in self.channels:
            channel.close()
        assert rest == "", "only the ready line belongs on standard output"
        return self.process.returncode


@pytest.fixture(scope="session")
def start_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningFake]]:
    """Start the program on free ports, with a data folder or none; wait for its ready line."""
    running: list[RunningFake] = []

    def start(data: Path | None, *arguments: str) -> RunningFake:
        log_path = tmp_path_factory.mktemp("log") / "fake.log"
        folder = () if data is None else ("--data", str(data))
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [PROGRAM, *ANY_PORTS, *folder, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:2] == [PROGRAM.name, "ready"], log_path.read_text()
        facts = dict(word.split("=", 1) for word in words[2:])
        running.append(RunningFake(process, log_path, facts))
        return running[-1]

    yield start
    for fake in running:
        if fake.process.poll() is None:
            fake.end(signal.SIGKILL)


@pytest.fixture(scope="session")
def shared(
    start_in: Callable[..., RunningFake], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFake]:
    """One program for every test that needs nothing of its own."""
    fake = start_in(tmp_path_factory.mktemp("fake") / "data")
    yield fake
    assert fake.end() == 0
    assert "Traceback" not in fake.log()


@pytest.fixture(scope="session")
def control_stub(shared: RunningFake) -> ControlServiceStub:
    return shared.control


@pytest.fixture(scope="session")
def activation(shared: RunningFake) -> ActivationServiceStub:
    return shared.activation


@pytest.fixture
def control(control_stub: ControlServiceStub) -> ControlServiceStub:
    """The control port of the shared program, which has forgotten all and stands at day 0."""
    control_stub.Reset(control_pb2.ResetRequest())
    control_stub.SetClock(control_pb2.SetClockRequest(time=to_timestamp(NOW)))
    return control_stub


@pytest.fixture(scope="session")
def trusted(shared: RunningFake) -> TrustedSigners:
    return shared.trusted


@pytest.fixture
def at() -> Callable[[float], datetime]:
    """The instant some days after day 0."""
    return lambda days: NOW + timedelta(days=days)


@pytest.fixture
def go_to(control: ControlServiceStub) -> Callable[[float], None]:
    """Set the fake's clock to a day."""

    def go(days: float) -> None:
        instant = to_timestamp(NOW + timedelta(days=days))
        control.SetClock(control_pb2.SetClockRequest(time=instant))

    return go


@pytest.fixture(scope="session")
def key() -> Callable[..., control_pb2.KeyProperties]:
    """A commercial standard server key for 30 days, but for what is said."""

    def make(kind: str = "COMMERCIAL", term: float | None = 30, **more: Any) -> Any:
        return control_pb2.KeyProperties(
            type=key_pb2.KEY_TYPE_SERVER,
            kind=key_pb2.KeyKind.Value(f"KEY_KIND_{kind}"),
            edition=key_pb2.EDITION_STANDARD,
            unit_limit=100,
            term=None if term is None else to_duration(timedelta(days=term)),
            **more,
        )

    return make


@pytest.fixture(scope="session")
def define() -> Callable[..., str]:
    """Define a code over a control port and give it back."""

    def make(
        control: ControlServiceStub,
        key: control_pb2.KeyProperties,
        code: str = "TEST0-AAAAA-BBBBB-CCCCC",
        **more: Any,
    ) -> str:
        control.DefineCode(control_pb2.DefineCodeRequest(code=code, key=key, **more))
        return code

    return make
