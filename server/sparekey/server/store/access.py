"""Reading and writing who has access."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, exists, insert, select, update

from sparekey.server.store import schema
from sparekey.server.store.access_records import (
    BanChange,
    CertificateRecord,
    TokenKind,
    TokenRecord,
)
from sparekey.server.store.transaction import Transaction

_tokens = schema.tokens
_certificates = schema.certificates
_banned = schema.banned_svms


def _token(row: RowMapping) -> TokenRecord:
    clusters = tuple(json.loads(row["clusters"]))
    return TokenRecord(**{**row, "kind": TokenKind(row["kind"]), "clusters": clusters})


def _values(record: TokenRecord | CertificateRecord) -> dict[str, Any]:
    values = asdict(record)
    del values["number"]  # the database counts
    if isinstance(record, TokenRecord):
        values["clusters"] = json.dumps(record.clusters)
    return values


def add_token(transaction: Transaction, record: TokenRecord) -> None:
    """Store a new token."""
    transaction.connection.execute(insert(_tokens).values(**_values(record)))
    transaction.commit.access.append(record)


def save_token(transaction: Transaction, record: TokenRecord) -> None:
    """Store a token's changes."""
    transaction.connection.execute(
        update(_tokens).where(_tokens.c.token_id == record.token_id).values(**_values(record))
    )
    transaction.commit.access.append(record)


def token_by_id(connection: Connection, token_id: str) -> TokenRecord | None:
    """The token of an id."""
    row = (
        connection.execute(select(_tokens).where(_tokens.c.token_id == token_id)).mappings().first()
    )
    return None if row is None else _token(row)


def token_by_digest(connection: Connection, digest: bytes) -> TokenRecord | None:
    """The token whose secret has a digest."""
    row = connection.execute(select(_tokens).where(_tokens.c.digest == digest)).mappings().first()
    return None if row is None else _token(row)


def page_of_tokens(connection: Connection, before: int, size: int) -> list[TokenRecord]:
    """Tokens whose number is below another, newest first."""
    query = select(_tokens).where(_tokens.c.number < before)
    rows = connection.execute(query.order_by(_tokens.c.number.desc()).limit(size)).mappings()
    return [_token(row) for row in rows]


def live_operator_tokens(connection: Connection, now: datetime) -> list[TokenRecord]:
    """Tokens of operators that work."""
    query = select(_tokens).where(
        _tokens.c.kind == TokenKind.OPERATOR,
        _tokens.c.revoked_at.is_(None),
        _tokens.c.expires_at > now,
    )
    return [_token(row) for row in connection.execute(query).mappings()]


def add_certificate(transaction: Transaction, record: CertificateRecord) -> None:
    """Store a certificate that was issued, or revoked."""
    transaction.connection.execute(insert(_certificates).values(**_values(record)))
    if record.revoked_at is not None:
        transaction.commit.access.append(record)


def certificate_by_serial(connection: Connection, serial: str) -> CertificateRecord | None:
    """The certificate of a serial number."""
    row = (
        connection.execute(select(_certificates).where(_certificates.c.serial == serial))
        .mappings()
        .first()
    )
    return None if row is None else CertificateRecord(**row)


def has_enrolled(connection: Connection, svm_id: str) -> bool:
    """Whether an SVM ever got a certificate."""
    return bool(connection.scalar(select(exists().where(_certificates.c.svm_id == svm_id))))


def page_of_certificates(
    connection: Connection, svm_id: str, before: int, size: int
) -> list[CertificateRecord]:
    """Certificates whose number is below another, newest first."""
    query = select(_certificates).where(_certificates.c.number < before)
    if svm_id:
        query = query.where(_certificates.c.svm_id == svm_id)
    rows = connection.execute(query.order_by(_certificates.c.number.desc()).limit(size)).mappings()
    return [CertificateRecord(**row) for row in rows]


def revoke_certificate(transaction: Transaction, record: CertificateRecord) -> None:
    """Store that a certificate is revoked."""
    transaction.connection.execute(
        update(_certificates)
        .where(_certificates.c.serial == record.serial)
        .values(revoked_at=record.revoked_at)
    )
    transaction.commit.access.append(record)


def live_certificates_of(
    connection: Connection, svm_id: str, now: datetime
) -> list[CertificateRecord]:
    """An SVM's certificates that work."""
    query = select(_certificates).where(
        _certificates.c.svm_id == svm_id,
        _certificates.c.revoked_at.is_(None),
        _certificates.c.expires_at > now,
    )
    return [CertificateRecord(**row) for row in connection.execute(query).mappings()]


def revoked_serials(connection: Connection, now: datetime) -> set[str]:
    """The serials of revoked certificates that have not ended by themselves."""
    query = select(_certificates.c.serial).where(
        _certificates.c.revoked_at.is_not(None), _certificates.c.expires_at > now
    )
    return set(connection.scalars(query))


def banned_among(connection: Connection, svm_ids: Iterable[str]) -> set[str]:
    """Which of these SVMs are banned."""
    query = select(_banned.c.svm_id).where(_banned.c.svm_id.in_(list(svm_ids)))
    return set(connection.scalars(query))


def all_banned(connection: Connection) -> set[str]:
    """All banned SVMs."""
    return set(connection.scalars(select(_banned.c.svm_id)))


def set_banned(transaction: Transaction, svm_id: str, actor: str, *, banned: bool) -> None:
    """Ban an SVM that is not banned, or let in one that is."""
    if banned:
        transaction.connection.execute(
            insert(_banned).values(svm_id=svm_id, banned_at=transaction.now, banned_by=actor)
        )
    else:
        transaction.connection.execute(delete(_banned).where(_banned.c.svm_id == svm_id))
    transaction.commit.access.append(BanChange(svm_id, banned))
