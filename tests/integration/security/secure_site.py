"""A license server with encryption, as a process of its own, and callers of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sparekey.certificates.authority import Authority, Issued, create_authority
from sparekey.certificates.identity import Identity, OperatorIdentity, SvmIdentity
from sparekey.certificates.keys import key_pem, new_key
from sparekey.licensing.key_files import KeySigner, encode_public_key
from sparekey.runtime.startup import Address, parse_address
from sparekey.testing.fleet.processes import Program, start_server
from sparekey.v1 import (
    access_pb2,
    access_pb2_grpc,
    agent_pb2,
    agent_pb2_grpc,
    event_pb2_grpc,
    fleet_pb2_grpc,
)

SECONDS = 10.0
VENDOR = KeySigner("vendor", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@dataclass(frozen=True)
class Shown:
    """What a caller shows: a certificate with its key, a token, or nothing."""

    identity: bytes | None = None
    token: str | None = None
    serial: str = ""

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")] if self.token else []


@dataclass
class SecureSite:
    """One server with its authority; `admin` is an admin's certificate."""

    folder: Path
    program: Program
    authority: Authority
    other: Authority
    channels: list[grpc.Channel] = field(default_factory=list)

    @property
    def main(self) -> Address:
        return self.program.address

    @property
    def second(self) -> Address:
        return parse_address(self.program.facts["token_listen"])

    def certificate(
        self,
        identity: Identity,
        *,
        authority: Authority | None = None,
        lifetime: timedelta = timedelta(hours=1),
        now: datetime | None = None,
    ) -> Shown:
        key = new_key()
        issued: Issued = (authority or self.authority).issue(
            key.public_key(), identity, lifetime, now or datetime.now(UTC)
        )
        return Shown(identity=issued.chain + key_pem(key), serial=issued.serial)

    def agent(self, svm_id: str, **options: Any) -> Shown:
        return self.certificate(SvmIdentity(svm_id), **options)

    def operator(self, role: str, name: str = "alice", **options: Any) -> Shown:
        return self.certificate(OperatorIdentity(role, name), **options)

    @cached_property
    def admin(self) -> Shown:
        return self.operator("admin", "root")

    def channel(self, shown: Shown, *, second: bool | None = None) -> grpc.Channel:
        """A channel to the port for callers with a certificate, or to the second one."""
        at_second = shown.identity is None if second is None else second
        credentials = grpc.ssl_channel_credentials(
            self.authority.root, shown.identity, shown.identity
        )
        channel = grpc.secure_channel(
            str(self.second if at_second else self.main),
            credentials,
            options=[("grpc.use_local_subchannel_pool", 1)],
        )
        self.channels.append(channel)
        return channel

    @cached_property
    def access(self) -> Any:
        return access_pb2_grpc.AccessServiceStub(self.channel(self.admin))

    @cached_property
    def events(self) -> Any:
        return event_pb2_grpc.EventServiceStub(self.channel(self.admin))

    @cached_property
    def fleet(self) -> Any:
        return fleet_pb2_grpc.FleetServiceStub(self.channel(self.admin))

    def token(
        self, role: str, name: str = "bob", clusters: Sequence[str] = ()
    ) -> tuple[Shown, access_pb2.Token]:
        request = access_pb2.CreateTokenRequest(
            name=name, role=access_pb2.Role.Value(f"ROLE_{role.upper()}"), clusters=clusters
        )
        response = self.access.CreateToken(request, timeout=SECONDS)
        return Shown(token=response.token), response.record

    def join_token(self, svm_id: str = "") -> str:
        request = access_pb2.CreateJoinTokenRequest(svm_id=svm_id)
        token: str = self.access.CreateJoinToken(request, timeout=SECONDS).token
        return token


@contextmanager
def open_stream(
    site: SecureSite, svm_id: str, shown: Shown | None = None, *, cluster: str | None = None
) -> Iterator[Any]:
    """The stream of an agent that has been welcomed, and that says at most where it is placed."""
    stub: Any = agent_pb2_grpc.AgentServiceStub(site.channel(shown or site.agent(svm_id)))
    frames: SimpleQueue[agent_pb2.ConnectRequest | None] = SimpleQueue()
    hello = agent_pb2.Hello(svm_id=svm_id, boot_id="boot")
    frames.put(agent_pb2.ConnectRequest(hello=hello))
    stream = stub.Connect(iter(frames.get, None), timeout=3 * SECONDS)
    try:
        assert next(stream).WhichOneof("frame") == "welcome"
        if cluster is not None:
            report = agent_pb2.Report(sequence=1, full=True)
            report.placement.cluster = cluster
            frames.put(agent_pb2.ConnectRequest(report=report))
            assert next(stream).WhichOneof("frame") == "report_accepted"
        yield stream
    finally:
        stream.cancel()
        frames.put(None)


def write_vendor_keys(path: Path) -> Path:
    path.write_text(json.dumps({VENDOR.signer_id: encode_public_key(VENDOR.public_key)}))
    return path


def start_site(folder: Path, *options: str) -> SecureSite:
    authority = create_authority(folder / "ca", "Test", datetime.now(UTC))
    other = create_authority(folder / "other-ca", "Other", datetime.now(UTC))
    program = start_server(
        folder / "server",
        write_vendor_keys(folder / "vendor-keys.json"),
        "--ca",
        str(folder / "ca"),
        "--token-listen",
        "127.0.0.1:0",
        *options,
    )
    return SecureSite(folder, program, authority, other)
