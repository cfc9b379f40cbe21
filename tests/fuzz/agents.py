"""Agents of the SVMs under fuzz: they take the SVMs in and know what a good report would say."""

from __future__ import annotations

import random
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from fuzz.keys_of_vendor import NOW
from fuzz.watches import StoreWatch
from sparekey.v1 import agent_pb2, guest_pb2, key_pb2, keyring_pb2, license_pb2
from sparekey.wire.timestamps import to_timestamp

CONNECT = "/sparekey.v1.AgentService/Connect"
BOOT_ID = "boot"


async def take_in(
    channel: grpc.aio.Channel,
    svm_id: str,
    report: agent_pb2.Report | None,
    patience: float | None = None,
) -> Any:
    """Open an SVM's stream, and send a report; the stream, after the server's Welcome.

    Args:
        channel: To the server.
        svm_id: The SVM.
        report: What it reports, if anything.
        patience: After so many seconds the stream ends; None means never.
    """
    connect: Any = channel.stream_stream(CONNECT)
    stream = connect(timeout=patience)
    await stream.write(hello_frame(svm_id))
    assert await stream.read() is not grpc.aio.EOF
    if report is not None:
        await stream.write(agent_pb2.ConnectRequest(report=report).SerializeToString())
    return stream


async def leave(stream: Any) -> None:
    """End a stream in good order."""
    await stream.done_writing()
    # What is not read would keep the stream's status from coming.
    while await stream.read() is not grpc.aio.EOF:
        pass


def hello_frame(svm_id: str) -> bytes:
    """A Hello that the server takes."""
    hello = agent_pb2.Hello(svm_id=svm_id, boot_id=BOOT_ID)
    return agent_pb2.ConnectRequest(hello=hello).SerializeToString()


def first_report(store: StoreWatch, randomness: random.Random) -> agent_pb2.Report:
    """The whole state of an SVM of which nothing is known yet; some hold keys, some do not."""
    return _report(store, randomness, sequence=1, revision=randomness.choice((0, 1)), full=True)


class AgentReports:
    """Makes reports that go on from where the server's storage says that an SVM stands."""

    def __init__(self, store: StoreWatch, randomness: random.Random) -> None:
        self._store = store
        self._random = randomness

    def next_frame(self, svm_id: str) -> agent_pb2.ConnectRequest:
        """The next report of an SVM, with answers to what waits for it."""
        stands = self._store.rows(
            "SELECT report_sequence, keyring_revision FROM svms WHERE id = ?", svm_id
        )
        sequence, revision = stands[0] if stands else (0, 0)
        report = _report(
            self._store,
            self._random,
            sequence=(sequence + 1) % 2**62,
            revision=(revision + 1) % 2**62,
            full=self._random.random() < 0.2,
        )
        waiting = self._store.rows(
            "SELECT type, role, version FROM instructions WHERE svm_id = ? AND state <> 'DONE'",
            svm_id,
        )
        for key_type, role, version in waiting:
            report.results.add(
                slot=keyring_pb2.Slot(
                    type=key_pb2.KeyType.Value(f"KEY_TYPE_{key_type}"),
                    role=keyring_pb2.KeyRole.Value(f"KEY_ROLE_{role}"),
                ),
                version=version,
                state=self._random.choice(agent_pb2.SlotResultState.values()[1:]),
                reason=self._random.choice(license_pb2.RefusalReason.values()),
            )
        return agent_pb2.ConnectRequest(report=report)


def _report(
    store: StoreWatch, randomness: random.Random, *, sequence: int, revision: int, full: bool
) -> agent_pb2.Report:
    report = agent_pb2.Report(sequence=sequence, full=full, digest=randomness.randbytes(32))
    report.placement.cluster = randomness.choice(("north", "south", ""))
    report.guests.servers = randomness.randint(0, 9)
    report.guests.desktops = randomness.randint(0, 9)
    report.host_cpu.host_uuid = randomness.choice(("host-1", "host-2"))
    report.host_cpu.cores = 16
    if revision:
        report.keyring.CopyFrom(_keyring(store, randomness, revision))
    if randomness.random() < 0.3:
        report.guest_list.guests.extend(
            guest_pb2.Guest(
                instance_uuid=f"vm-{randomness.randint(0, 30)}-{number}",
                os_class=guest_pb2.OS_CLASS_SERVER,
            )
            for number in range(3)
        )
    return report


def _keyring(store: StoreWatch, randomness: random.Random, revision: int) -> keyring_pb2.Keyring:
    keys = store.rows(
        "SELECT serial, type, kind, edition, expires_at FROM keys WHERE in_storage ORDER BY serial"
    )
    keyring = keyring_pb2.Keyring(revision=revision)
    held = randomness.sample(keys, min(len(keys), randomness.randint(0, 2)))
    for serial, key_type, kind, edition, expires_at in held:
        keyring.keys.add(
            slot=keyring_pb2.Slot(
                type=key_pb2.KeyType.Value(f"KEY_TYPE_{key_type}"), role=keyring_pb2.KEY_ROLE_ACTIVE
            ),
            serial=serial,
            kind=key_pb2.KeyKind.Value(f"KEY_KIND_{kind}"),
            edition=key_pb2.Edition.Value(f"EDITION_{edition}"),
            installed_at=to_timestamp(NOW),
            not_before=Timestamp(seconds=int(NOW.timestamp()) - 86_400),
            expires_at=None if expires_at is None else Timestamp(seconds=expires_at // 10**6),
        )
        if len(keyring.changes) == 0:
            keyring.changes.add(
                revision=revision,
                changed_at=to_timestamp(NOW),
                kind=keyring_pb2.KEYRING_CHANGE_KIND_KEY_ACTIVATED,
                reason=keyring_pb2.KEYRING_CHANGE_REASON_REQUESTED,
                slot=keyring.keys[0].slot,
                serial=serial,
            )
    return keyring
