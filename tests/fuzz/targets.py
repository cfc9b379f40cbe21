"""What is fuzzed, and what must hold after each input."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import string
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor

from fuzz.inputs import Inputs
from sparekey.agent.keyring_document import (
    DamagedDocument,
    NewerDocument,
    decode_record,
    encode_record,
)
from sparekey.agent.keyring_record import KeyringRecord
from sparekey.certificates.keys import InvalidRequest, make_request, new_key, read_request
from sparekey.licensing.key_files import (
    InvalidKeyFile,
    KeySigner,
    TrustedSigners,
    encode_public_key,
)
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.server.license_server import LicenseServer
from sparekey.server.settings import ServerSettings
from sparekey.testing.v1 import clock_pb2
from sparekey.v1 import (
    access_pb2,
    agent_pb2,
    agent_pb2_grpc,
    enrollment_pb2,
    event_pb2,
    fleet_pb2,
    key_pb2,
    key_pb2_grpc,
    license_pb2,
)
from sparekey.wire.errors import read_problem

SERVICES: list[ServiceDescriptor] = [
    service
    for module in (
        key_pb2,
        license_pb2,
        fleet_pb2,
        event_pb2,
        enrollment_pb2,
        access_pb2,
        agent_pb2,
        clock_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]
NOW = datetime(2030, 1, 1, tzinfo=UTC)
GROUP = 16
"""So many calls go out at once; where all of them are refused nothing may have changed."""
_PATIENCE = 30.0


class Broken(AssertionError):
    """Something that must hold does not; the message says what, with the input."""


@dataclass
class Counts:
    """What was tried.

    Attributes:
        inputs: By target.
        accepted: Those of them that were not refused, by target.
        unchanged: Groups after whose refusal the storage was looked at.
        reasons: How often which reason was given.
    """

    inputs: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def make_keys() -> list[LicenseKey]:
    """A few keys of different kinds."""
    return [
        LicenseKey(
            serial=f"0000-00000A-{number:08X}",
            type=kind,
            kind=KeyKind.COMMERCIAL,
            edition=Edition.STANDARD,
            origin=KeyOrigin.KEY_FILE,
            unit_limit=10,
            not_before=NOW - timedelta(days=1),
            expires_at=NOW + timedelta(days=30 + number),
        )
        for number, kind in enumerate((KeyType.SERVER, KeyType.SERVER, KeyType.CORES))
    ]


class FuzzedServer:
    """A server in this process with a little of everything in its storage."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self.signer = KeySigner("vendor", Ed25519PrivateKey.generate())
        self.counts = Counts()
        self._streams = 100
        keys = make_keys()
        self._key_files = [self.signer.sign(key) for key in keys]
        texts = [*(key.serial for key in keys), "svm-1", "svm-2", "north"]
        contents = [*self._key_files, make_request(new_key())]
        self.inputs = Inputs(random.Random(seed), texts, contents)

    async def __aenter__(self) -> Self:
        vendor_keys = self._folder / "vendor-keys.json"
        public = encode_public_key(self.signer.public_key)
        vendor_keys.write_text(f'{{"vendor": "{public}"}}')
        options: dict[str, Any] = {"test_clock": NOW.isoformat(), "listen": "127.0.0.1:0"}
        settings = ServerSettings(data=self._folder / "data", vendor_keys=vendor_keys, **options)
        self._server = LicenseServer(settings)
        await self._server.start()
        limit = [("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(str(self._server.address), limit)
        stub: Any = key_pb2_grpc.KeyServiceStub(self._channel)
        for key_file in self._key_files:
            await stub.AddKey(key_pb2.AddKeyRequest(key_file=key_file))
        agents: Any = agent_pb2_grpc.AgentServiceStub(self._channel)
        for svm_id in ("svm-1", "svm-2"):
            hello = agent_pb2.Hello(svm_id=svm_id, boot_id="first")
            stream = agents.Connect()
            await stream.write(agent_pb2.ConnectRequest(hello=hello))
            await stream.read()
            stream.cancel()
        self._watched = sqlite3.connect(self._folder / "data" / "sparekey.db")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watched.close()
        await self._channel.close()
        await self._server.stop()

    async def fuzz(self, method: MethodDescriptor, structured: int, mutated: int) -> None:
        """Give one RPC so many inputs of each kind.

        Raises:
            Broken: something does not hold.
        """
        assert method.containing_service is not None
        name = f"/{method.containing_service.full_name}/{method.name}"
        call = self._caller(name, method)
        for mutate, count in ((False, structured), (True, mutated)):
            for start in range(0, count, GROUP):
                inputs = [
                    self._input(method, mutate=mutate) for _ in range(min(GROUP, count - start))
                ]
                before = self._version()
                answers = await asyncio.gather(*(call(one) for one in inputs))
                for given, answer in zip(inputs, answers, strict=True):
                    self._check(name, given, answer)
                accepted = sum(answer is None for answer in answers)
                self.counts.inputs[name] += len(inputs)
                self.counts.accepted[name] += accepted
                if not accepted and not method.client_streaming:
                    self.counts.unchanged += 1
                    if self._version() != before:
                        raise Broken(f"{name} changed the storage by refused input: {inputs!r}")

    def _input(self, method: MethodDescriptor, *, mutate: bool) -> list[bytes]:
        """The frames of one call; one for a call that is not a stream."""
        frames = [self._encoded(method.input_type)]
        if method.client_streaming:
            # Each stream is of an SVM of its own, so that none takes another's place.
            self._streams += 1
            hello = agent_pb2.Hello(svm_id=f"svm-{self._streams}", boot_id="boot")
            hello_frame = agent_pb2.ConnectRequest(hello=hello).SerializeToString()
            frames = [hello_frame, *(self._encoded(method.input_type) for _ in range(3))]
        if mutate:
            frames[-1] = self.inputs.mutated(frames[-1])
        return frames

    def _encoded(self, descriptor: Descriptor) -> bytes:
        return self.inputs.encoded(descriptor)

    def _caller(
        self, name: str, method: MethodDescriptor
    ) -> Callable[[list[bytes]], Awaitable[grpc.aio.AioRpcError | None]]:
        async def call(frames: list[bytes]) -> grpc.aio.AioRpcError | None:
            try:
                if method.client_streaming:
                    await self._stream(name, frames)
                elif method.server_streaming:
                    watch: Any = self._channel.unary_stream(name)
                    stream = watch(frames[0], timeout=_PATIENCE)
                    # Watches have no end: one answer is enough.
                    await stream.read()
                    stream.cancel()
                else:
                    ask: Any = self._channel.unary_unary(name)
                    await ask(frames[0], timeout=_PATIENCE)
            except grpc.aio.AioRpcError as error:
                return error
            return None

        return call

    async def _stream(self, name: str, frames: list[bytes]) -> None:
        connect: Any = self._channel.stream_stream(name)
        stream = connect(iter(frames), timeout=_PATIENCE)
        async for _ in stream:
            pass
        code = await stream.code()
        if code is not grpc.StatusCode.OK:
            raise Broken(f"{name} ended with {code}")

    def _check(self, name: str, given: list[bytes], error: grpc.aio.AioRpcError | None) -> None:
        if error is None:
            return
        problem = read_problem(error)
        self.counts.reasons[problem.reason or problem.code.name] += 1
        said = f"{problem.message} {error.debug_error_string()}"
        if not problem.reason or problem.reason == "INTERNAL" or "Traceback" in said:
            raise Broken(f"{name} answered {problem} to {given!r}")

    def _version(self) -> int:
        version: int = self._watched.execute("PRAGMA data_version").fetchone()[0]
        return version


def fuzz_key_files(inputs: Inputs, randomness: random.Random, count: int) -> Counter[str]:
    """Give the reader of key files hostile ones: it refuses each with a reason of its own."""
    signer = KeySigner("vendor", Ed25519PrivateKey.generate())
    trusted = TrustedSigners({"vendor": signer.public_key})
    good = [signer.sign(key) for key in make_keys()]
    told: Counter[str] = Counter()
    for content in _documents(inputs, randomness, good, count):
        try:
            trusted.read(content)
        except InvalidKeyFile as refused:
            told[refused.problem.name] += 1
        else:
            if content not in good:
                raise Broken(f"a key file was changed and taken: {content!r}")
            told["taken"] += 1
    return told


def fuzz_state_files(inputs: Inputs, randomness: random.Random, count: int) -> Counter[str]:
    """Give the reader of the agent's state hostile files: it calls each damaged."""
    good = [encode_record(KeyringRecord())]
    trusted = TrustedSigners({})
    told: Counter[str] = Counter()
    for content in _documents(inputs, randomness, good, count):
        try:
            decode_record(content, trusted)
        except (DamagedDocument, NewerDocument) as refused:
            told[type(refused).__name__] += 1
        else:
            told["taken"] += 1
    return told


def fuzz_certificate_requests(
    inputs: Inputs, randomness: random.Random, count: int
) -> Counter[str]:
    """Give the reader of certificate requests hostile ones."""
    good = [make_request(new_key())]
    told: Counter[str] = Counter()
    for content in _documents(inputs, randomness, good, count):
        with contextlib.suppress(InvalidRequest):
            read_request(content)
            told["taken"] += 1
            continue
        told["refused"] += 1
    return told


def _documents(
    inputs: Inputs, randomness: random.Random, good: list[bytes], count: int
) -> Iterator[bytes]:
    """Documents of the right shape with wrong content, then as many mutations of good ones."""
    for _ in range(count):
        yield _json(randomness, 0).encode("utf-8", "surrogatepass")
    for _ in range(count):
        yield inputs.mutated(randomness.choice(good))


def _json(randomness: random.Random, depth: int) -> str:
    simple = ["null", "true", "0", "-1", "1e999", "NaN", '""', '"x"', "9" * 400, '"\\ud800"', ""]
    words = ["format", "version", "key", "signature", "signer", "content", "checksum", "serial"]
    if depth > 4 or randomness.random() < 0.3:
        return randomness.choice(simple)
    if randomness.random() < 0.03:
        return "[" * 5000
    parts = [_json(randomness, depth + 1) for _ in range(randomness.randint(0, 4))]
    if randomness.random() < 0.3:
        return f"[{','.join(parts)}]"
    names = (randomness.choice([*words, randomness.choice(string.printable)]) for _ in parts)
    return "{" + ",".join(f'"{name}":{part}' for name, part in zip(names, parts, strict=True)) + "}"
