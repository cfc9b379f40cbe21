"""The digest says whether the server has an agent's full report already."""

from __future__ import annotations

import hashlib

from sparekey.v1 import agent_pb2, key_pb2, keyring_pb2
from sparekey.wire.report_digest import report_digest

PLACEMENT = agent_pb2.Placement(cluster="east")
GUESTS = keyring_pb2.GuestMix(servers=3, desktops=1)
HOST = keyring_pb2.HostCpu(host_uuid="h-1", processors=2, cores=16)
KEYRING = keyring_pb2.Keyring(
    revision=4,
    keys=[
        keyring_pb2.HeldKey(
            slot=keyring_pb2.Slot(type=key_pb2.KEY_TYPE_SERVER, role=keyring_pb2.KEY_ROLE_ACTIVE),
            serial="4A3F-00B2C1-9D8E7F66",
        )
    ],
)
DIGEST = report_digest(PLACEMENT, GUESTS, HOST, KEYRING)


def test_it_is_the_sha256_of_the_report_that_the_contract_describes() -> None:
    report = agent_pb2.Report(placement=PLACEMENT, guests=GUESTS, host_cpu=HOST, keyring=KEYRING)
    assert hashlib.sha256(report.SerializeToString(deterministic=True)).digest() == DIGEST


def test_it_is_the_same_for_what_went_over_the_wire() -> None:
    def sent(message: keyring_pb2.Keyring) -> keyring_pb2.Keyring:
        return keyring_pb2.Keyring.FromString(message.SerializeToString())

    assert report_digest(PLACEMENT, GUESTS, HOST, sent(KEYRING)) == DIGEST


def test_changes_do_not_count() -> None:
    with_changes = keyring_pb2.Keyring()
    with_changes.CopyFrom(KEYRING)
    with_changes.changes.add(revision=4, serial="x")
    assert report_digest(PLACEMENT, GUESTS, HOST, with_changes) == DIGEST
    assert with_changes.changes, "the caller's message is left alone"


def test_every_section_counts() -> None:
    other_keyring = keyring_pb2.Keyring(revision=5, keys=KEYRING.keys)
    digests = {
        DIGEST,
        report_digest(agent_pb2.Placement(), GUESTS, HOST, KEYRING),
        report_digest(PLACEMENT, keyring_pb2.GuestMix(servers=3), HOST, KEYRING),
        report_digest(PLACEMENT, GUESTS, keyring_pb2.HostCpu(host_uuid="h-1"), KEYRING),
        report_digest(PLACEMENT, GUESTS, HOST, other_keyring),
        report_digest(PLACEMENT, GUESTS, HOST, keyring_pb2.Keyring(revision=4)),
    }
    assert len(digests) == 6
