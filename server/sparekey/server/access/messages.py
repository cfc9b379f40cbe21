"""Records of access as messages of the contract."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from sparekey.server.store.access_records import CertificateRecord, TokenKind, TokenRecord
from sparekey.v1 import access_pb2
from sparekey.wire.timestamps import to_timestamp

_KINDS = {
    TokenKind.OPERATOR: access_pb2.TOKEN_KIND_OPERATOR,
    TokenKind.JOIN: access_pb2.TOKEN_KIND_JOIN,
}


def token_message(record: TokenRecord) -> access_pb2.Token:
    """A token without its secret."""
    return access_pb2.Token(
        token_id=record.token_id,
        kind=_KINDS[record.kind],
        name=record.name,
        role=access_pb2.Role.Value(f"ROLE_{record.role or 'UNSPECIFIED'}"),
        svm_id=record.svm_id,
        created_at=to_timestamp(record.created_at),
        expires_at=to_timestamp(record.expires_at),
        revoked_at=_optional(record.revoked_at),
        used_at=_optional(record.used_at),
        created_by=record.created_by,
        clusters=record.clusters,
    )


def certificate_message(record: CertificateRecord) -> access_pb2.Certificate:
    """A certificate's record."""
    return access_pb2.Certificate(
        certificate_serial=record.serial,
        svm_id=record.svm_id,
        issued_at=to_timestamp(record.issued_at),
        expires_at=to_timestamp(record.expires_at),
        revoked_at=_optional(record.revoked_at),
    )


def _optional(instant: datetime | None) -> Timestamp | None:
    return None if instant is None else to_timestamp(instant)
