"""Certificates of SVMs: enrolling, renewing, revoking, banning; operations of the writer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.message import Message

from sparekey.certificates.authority import Issued
from sparekey.server.access.messages import certificate_message
from sparekey.server.access.refusals import certificate_revoked, svm_banned
from sparekey.server.store.access import (
    add_certificate,
    banned_among,
    certificate_by_serial,
    has_enrolled,
    live_certificates_of,
    revoke_certificate,
    save_token,
    set_banned,
    token_by_digest,
)
from sparekey.server.store.access_records import CertificateRecord, TokenKind, TokenRecord
from sparekey.server.store.requests import Retry, earlier_response, remember_answer
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import access_pb2, error_pb2, event_pb2
from sparekey.wire.errors import CallRefused

_LONGEST_LIFE = timedelta(days=400)
"""So long the revocation of a foreign certificate is kept, whose end we do not know."""


@dataclass(frozen=True, slots=True)
class Enrollment:
    """A certificate that is handed out if the join token allows it.

    Attributes:
        svm_id: The SVM.
        key_digest: SHA-256 over the agent's public key.
        issued: The certificate.
        token_digest: The join token's digest; None for a renewal.
        renewed_serial: For a renewal, the certificate that the agent called with.
    """

    svm_id: str
    key_digest: bytes
    issued: Issued
    token_digest: bytes | None = None
    renewed_serial: str = ""


def enroll(transaction: Transaction, requests: Sequence[Enrollment]) -> list[Issued | CallRefused]:
    """Write down certificates and spend join tokens; what is refused is not to be handed out."""
    return [_enroll(transaction, request) for request in requests]


def _enroll(transaction: Transaction, request: Enrollment) -> Issued | CallRefused:
    if banned_among(transaction.connection, [request.svm_id]):
        return svm_banned(request.svm_id)
    if request.token_digest is None:
        shown = certificate_by_serial(transaction.connection, request.renewed_serial)
        if shown is not None and shown.revoked_at is not None:
            return certificate_revoked()
    else:
        token = token_by_digest(transaction.connection, request.token_digest)
        if token is None or (problem := _problem(transaction, request, token)) is not None:
            return _refused(problem if token is not None else "is not known")
        if token.used_at is None:
            spent = dataclasses.replace(token, used_at=transaction.now, used_key=request.key_digest)
            save_token(transaction, spent)
        transaction.add_event(
            event_pb2.EVENT_KIND_SVM_ENROLLED,
            f"The SVM enrolled with the join token {token.token_id}.",
            actor=f"svm/{request.svm_id}",
            svm_id=request.svm_id,
        )
    issued = request.issued
    add_certificate(
        transaction,
        CertificateRecord(
            serial=issued.serial,
            svm_id=request.svm_id,
            key_digest=request.key_digest,
            issued_at=issued.issued_at,
            expires_at=issued.expires_at,
        ),
    )
    return issued


def _problem(transaction: Transaction, request: Enrollment, token: TokenRecord) -> str | None:
    if token.kind is not TokenKind.JOIN:
        return "is an operator's token"
    if token.revoked_at is not None:
        return "was revoked"
    if token.expires_at <= transaction.now:
        return "is over"
    if token.used_at is not None:
        # The same key may ask again: its first answer may have been lost.
        return None if token.used_key == request.key_digest else "was used before"
    if token.svm_id and token.svm_id != request.svm_id:
        return "is for another SVM"
    if not token.svm_id and has_enrolled(transaction.connection, request.svm_id):
        # Else any join token would give its holder the identity of any SVM.
        return f"is for new SVMs, and {request.svm_id} has enrolled before"
    return None


def _refused(problem: str | None) -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_JOIN_TOKEN_REFUSED,
        f"the join token {problem}; ask an admin for another: sparekey join-token create --svm ID",
    )


@dataclass(frozen=True, slots=True)
class RevokeCertificate:
    """A request to revoke a certificate."""

    serial: str
    actor: str
    retry: Retry
    validate_only: bool


def revoke_certificates(
    transaction: Transaction, requests: Sequence[RevokeCertificate]
) -> list[Message | CallRefused]:
    """Revoke certificates; one that is revoked already stays as it is."""
    return [_revoke(transaction, request) for request in requests]


def _revoke(transaction: Transaction, request: RevokeCertificate) -> Message | CallRefused:
    earlier = earlier_response(
        transaction.connection, request.retry, access_pb2.RevokeCertificateResponse
    )
    if earlier is not None:
        return earlier
    known = certificate_by_serial(transaction.connection, request.serial)
    record = known or _foreign(request.serial, transaction.now)
    changes = record.revoked_at is None
    if changes:
        record = dataclasses.replace(record, revoked_at=transaction.now)
    response = access_pb2.RevokeCertificateResponse(certificate=certificate_message(record))
    if request.validate_only:
        return response
    if changes:
        if known is None:
            add_certificate(transaction, record)
        else:
            revoke_certificate(transaction, record)
        _tell_revoked(transaction, record, request.actor)
    remember_answer(transaction, request.retry, response.SerializeToString())
    return response


def _foreign(serial: str, now: datetime) -> CertificateRecord:
    return CertificateRecord(
        serial=serial, svm_id="", key_digest=b"", issued_at=now, expires_at=now + _LONGEST_LIFE
    )


def _tell_revoked(transaction: Transaction, record: CertificateRecord, actor: str) -> None:
    transaction.add_event(
        event_pb2.EVENT_KIND_CERTIFICATE_REVOKED,
        f"The certificate {record.serial} was revoked.",
        actor=actor,
        svm_id=record.svm_id,
    )


def revoke_all_of(transaction: Transaction, svm_id: str, actor: str) -> None:
    """Revoke every certificate of an SVM, for example since it is forgotten."""
    for record in live_certificates_of(transaction.connection, svm_id, transaction.now):
        revoked = dataclasses.replace(record, revoked_at=transaction.now)
        revoke_certificate(transaction, revoked)
        _tell_revoked(transaction, revoked, actor)


@dataclass(frozen=True, slots=True)
class BanSvm:
    """A request to ban an SVM, or to let it in again."""

    svm_id: str
    banned: bool
    actor: str
    retry: Retry
    validate_only: bool


def ban_svms(transaction: Transaction, requests: Sequence[BanSvm]) -> list[Message | CallRefused]:
    """Ban SVMs, or let them in again."""
    return [_ban(transaction, request) for request in requests]


def _ban(transaction: Transaction, request: BanSvm) -> Message | CallRefused:
    earlier = earlier_response(transaction.connection, request.retry, access_pb2.BanSvmResponse)
    if earlier is not None:
        return earlier
    response = access_pb2.BanSvmResponse(banned=request.banned)
    if request.validate_only:
        return response
    if bool(banned_among(transaction.connection, [request.svm_id])) != request.banned:
        set_banned(transaction, request.svm_id, request.actor, banned=request.banned)
        transaction.add_event(
            event_pb2.EVENT_KIND_SVM_BANNED,
            "The SVM was banned." if request.banned else "The SVM was let in again.",
            actor=request.actor,
            svm_id=request.svm_id,
        )
    remember_answer(transaction, request.retry, response.SerializeToString())
    return response
