"""The frames of the agents' link: building the server's, checking the agents'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sparekey.server.link.reporting import Taken
from sparekey.server.store.instructions import Action, StoredInstruction
from sparekey.v1 import agent_pb2, error_pb2
from sparekey.wire.callers import Caller
from sparekey.wire.errors import CallRefused, FieldViolation, invalid_fields
from sparekey.wire.field_rules import CLUSTER, SVM_ID
from sparekey.wire.licensing_messages import slot_message
from sparekey.wire.timestamps import to_duration, to_timestamp

_MAX_ID_LENGTH = 64
_MAX_NUMBER = 2**62
"""No agent counts so far, and a server that goes on from here never leaves the storage's range."""
_Frame = agent_pb2.ConnectResponse


def check_hello(frame: agent_pb2.ConnectRequest | None) -> agent_pb2.Hello:
    """The Hello that opens a stream.

    Raises:
        CallRefused: the first frame is another, or the Hello is not well formed.
    """
    if frame is None or frame.WhichOneof("frame") != "hello":
        raise CallRefused(
            error_pb2.ERROR_REASON_PROTOCOL_VIOLATION,
            "the first frame must be Hello; see the comments of AgentService",
        )
    hello = frame.hello
    violations = []
    if not SVM_ID.fullmatch(hello.svm_id):
        violations.append(
            FieldViolation("hello.svm_id", "must be 1 to 63 lower-case letters, digits and hyphens")
        )
    if not 1 <= len(hello.boot_id) <= _MAX_ID_LENGTH:
        violations.append(FieldViolation("hello.boot_id", "must have 1 to 64 characters"))
    if any(result.version > _MAX_NUMBER for result in hello.results):
        violations.append(_too_high("hello.results.version"))
    _refuse(violations)
    return hello


def check_identity(hello: agent_pb2.Hello, caller: Caller) -> None:
    """An agent with a certificate speaks of that one's SVM and of no other.

    Raises:
        CallRefused: the Hello names another.
    """
    if caller.svm_id is not None and hello.svm_id != caller.svm_id:
        raise CallRefused(
            error_pb2.ERROR_REASON_IDENTITY_MISMATCH,
            f"the certificate is for the SVM {caller.svm_id} and the Hello names another; give"
            " each SVM a state folder of its own",
            metadata={"svm_id": caller.svm_id},
        )


def check_report(report: agent_pb2.Report) -> None:
    """Check that a report's text fields and numbers are well formed.

    Raises:
        CallRefused: one is not.
    """
    violations = []
    if report.HasField("placement"):
        cluster = report.placement.cluster
        if cluster and not CLUSTER.fullmatch(cluster):
            violations.append(
                FieldViolation("report.placement.cluster", "must be 1 to 100 printable characters")
            )
    if report.sequence > _MAX_NUMBER:
        violations.append(_too_high("report.sequence"))
    if report.HasField("keyring") and report.keyring.revision > _MAX_NUMBER:
        violations.append(_too_high("report.keyring.revision"))
    if any(result.version > _MAX_NUMBER for result in report.results):
        violations.append(_too_high("report.results.version"))
    _refuse(violations)


def _too_high(field: str) -> FieldViolation:
    return FieldViolation(field, f"must be at most {_MAX_NUMBER}")


def _refuse(violations: Sequence[FieldViolation]) -> None:
    if violations:
        raise invalid_fields(violations)


def welcome(
    taken: Taken,
    heartbeat: timedelta,
    now: datetime,
    test_clock: agent_pb2.TestClockTime | None,
) -> _Frame:
    """The answer to Hello."""
    return _Frame(
        welcome=agent_pb2.Welcome(
            heartbeat_interval=to_duration(heartbeat),
            full_report_wanted=taken.full_report_wanted,
            accepted_keyring_revision=taken.keyring_revision,
            server_time=to_timestamp(now),
            test_clock_time=test_clock,
        )
    )


def report_accepted(taken: Taken) -> _Frame:
    """Says that a report is on disk."""
    return _Frame(
        report_accepted=agent_pb2.ReportAccepted(
            sequence=taken.sequence, accepted_keyring_revision=taken.keyring_revision
        )
    )


def full_report_wanted(taken: Taken) -> _Frame:
    """Asks for a full report."""
    return _Frame(
        full_report_wanted=agent_pb2.FullReportWanted(
            accepted_keyring_revision=taken.keyring_revision
        )
    )


def drain(retry_after: timedelta) -> _Frame:
    """Asks the agent to leave."""
    return _Frame(drain=agent_pb2.Drain(retry_after=to_duration(retry_after)))


def push(
    nonce: int, instructions: Sequence[StoredInstruction], key_files: Mapping[str, bytes]
) -> _Frame:
    """Instructions for an SVM, by version."""
    return _Frame(
        push=agent_pb2.Push(
            nonce=nonce,
            instructions=[_instruction(stored, key_files) for stored in instructions],
        )
    )


def _instruction(
    stored: StoredInstruction, key_files: Mapping[str, bytes]
) -> agent_pb2.Instruction:
    instruction = agent_pb2.Instruction(slot=slot_message(stored.slot), version=stored.version)
    match stored.action:
        case Action.REMOVE:
            instruction.remove.SetInParent()
        case Action.BLOCKED:
            instruction.blocked_serial = stored.serial or ""
        case Action.KEY:
            instruction.key_file = key_files[stored.serial or ""]
    return instruction
