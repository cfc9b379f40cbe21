"""What the gate asks at each call, kept in memory and kept up with each commit."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import Engine

from sparekey.server.store.access import all_banned, live_operator_tokens, revoked_serials
from sparekey.server.store.access_records import CertificateRecord, TokenKind, TokenRecord
from sparekey.server.store.commits import Commit


class AccessBook:
    """Tokens of operators by digest, revoked certificates, banned SVMs.

    Attributes:
        tokens: The operators' tokens that are not revoked.
        revoked: Serials of revoked certificates.
        banned: Ids of banned SVMs.
    """

    def __init__(self, engine: Engine, now: datetime) -> None:
        with engine.connect() as connection:
            found = live_operator_tokens(connection, now)
            self.tokens = {record.digest: record for record in found}
            self.revoked = revoked_serials(connection, now)
            self.banned = all_banned(connection)
        self.token_ids = {record.token_id for record in self.tokens.values()}

    def notice(self, commit: Commit) -> None:
        """Take in what a commit changed, before those who asked for it are answered."""
        for change in commit.access:
            if isinstance(change, TokenRecord):
                self._notice_token(change)
            elif isinstance(change, CertificateRecord):
                self.revoked.add(change.serial)
            elif change.banned:
                self.banned.add(change.svm_id)
            else:
                self.banned.discard(change.svm_id)

    def _notice_token(self, record: TokenRecord) -> None:
        if record.kind is not TokenKind.OPERATOR:
            return
        if record.revoked_at is None:
            self.tokens[record.digest] = record
            self.token_ids.add(record.token_id)
        else:
            self.tokens.pop(record.digest, None)
            self.token_ids.discard(record.token_id)


def secret_digest(secret: str) -> bytes:
    """By what a token's secret is known."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
