"""The digest by which an agent and the server see that nothing changed."""

from __future__ import annotations

import hashlib

from sparekey.v1 import agent_pb2, keyring_pb2


def report_digest(
    placement: agent_pb2.Placement,
    guests: keyring_pb2.GuestMix,
    host_cpu: keyring_pb2.HostCpu,
    keyring: keyring_pb2.Keyring,
) -> bytes:
    """SHA-256 over a full report's sections, without changes (Report.digest)."""
    bare = keyring_pb2.Keyring(revision=keyring.revision, keys=keyring.keys)
    report = agent_pb2.Report(placement=placement, guests=guests, host_cpu=host_cpu, keyring=bare)
    return hashlib.sha256(report.SerializeToString(deterministic=True)).digest()
