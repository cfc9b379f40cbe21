"""What the storage knows of access: tokens, revoked certificates, banned SVMs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TokenKind(StrEnum):
    """What a token is for."""

    OPERATOR = "OPERATOR"
    JOIN = "JOIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token; its secret is known by its digest only.

    Attributes:
        token_id: Its id.
        kind: What it is for.
        digest: SHA-256 over the secret, which is random and long, so that no salt is needed.
        name: Who acts by it; empty for a join token.
        role: VIEWER, OPERATOR or ADMIN; empty for a join token.
        svm_id: The only SVM that may enroll with it; empty for any new one.
        clusters: The clusters upon whose SVMs alone it may act; empty for all.
        created_at: When it was made.
        expires_at: When it ends.
        created_by: Who made it.
        revoked_at: When it was revoked.
        used_at: When an agent enrolled with it.
        used_key: SHA-256 over the public key that it was spent on.
        number: Its place in the order of making; 0 until it is stored.
    """

    token_id: str
    kind: TokenKind
    digest: bytes
    name: str
    role: str
    svm_id: str
    created_at: datetime
    expires_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    used_key: bytes | None = None
    clusters: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """A certificate that was issued to an SVM, or that another authority issued and we revoked."""

    serial: str
    svm_id: str
    key_digest: bytes
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class BanChange:
    """An SVM was banned, or let in again."""

    svm_id: str
    banned: bool


AccessChange = TokenRecord | CertificateRecord | BanChange
"""What a commit changed about access: the record as it is now."""
