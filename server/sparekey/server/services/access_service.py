"""AccessService: tokens, certificates and bans over gRPC."""

from __future__ import annotations

import secrets
from datetime import timedelta

from google.protobuf.message import Message

from sparekey.runtime.clock import Clock
from sparekey.server.access.book import secret_digest
from sparekey.server.access.certificates import (
    BanSvm,
    RevokeCertificate,
    ban_svms,
    revoke_certificates,
)
from sparekey.server.access.messages import certificate_message, token_message
from sparekey.server.access.tokens import MakeToken, RevokeToken, make_tokens, revoke_tokens
from sparekey.server.services.calls import PageTokens, page_size, retry_of
from sparekey.server.store.access import page_of_certificates, page_of_tokens
from sparekey.server.store.access_records import TokenKind, TokenRecord
from sparekey.server.store.reader import Reader
from sparekey.server.store.writer import Writer
from sparekey.v1 import access_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import FieldViolation, invalid_fields
from sparekey.wire.timestamps import from_duration

_JOIN_LIFETIME = timedelta(hours=1)
_TOKEN_LIFETIME = timedelta(days=30)
_NEWEST = 2**62
_SECRET_BYTES = 32
_ID_BYTES = 8


class AccessServicer:
    """Serves `sparekey.v1.AccessService`."""

    def __init__(self, reader: Reader, writer: Writer, clock: Clock, pages: PageTokens) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._pages = pages

    async def create_join_token(
        self, request: access_pb2.CreateJoinTokenRequest, call: Call
    ) -> Message:
        """Make a join token."""
        lifetime = (
            from_duration(request.lifetime) if request.HasField("lifetime") else _JOIN_LIFETIME
        )
        return await self._create(TokenKind.JOIN, call, request, lifetime, svm_id=request.svm_id)

    async def create_token(self, request: access_pb2.CreateTokenRequest, call: Call) -> Message:
        """Make an operator's token."""
        lifetime = (
            from_duration(request.lifetime) if request.HasField("lifetime") else _TOKEN_LIFETIME
        )
        role = access_pb2.Role.Name(request.role).removeprefix("ROLE_")
        if request.clusters and request.role == access_pb2.ROLE_ADMIN:
            raise invalid_fields([FieldViolation("clusters", "must be empty for an admin")])
        return await self._create(
            TokenKind.OPERATOR,
            call,
            request,
            lifetime,
            name=request.name,
            role=role,
            clusters=tuple(sorted(set(request.clusters))),
        )

    async def _create(
        self,
        kind: TokenKind,
        call: Call,
        request: access_pb2.CreateJoinTokenRequest | access_pb2.CreateTokenRequest,
        lifetime: timedelta,
        *,
        name: str = "",
        role: str = "",
        svm_id: str = "",
        clusters: tuple[str, ...] = (),
    ) -> Message:
        prefix = "join" if kind is TokenKind.JOIN else "token"
        # The prefix lets logs and scanners know a secret when they see one.
        secret = f"sparekey-{prefix}-{secrets.token_urlsafe(_SECRET_BYTES)}"
        now = self._clock.now()
        record = TokenRecord(
            token_id=f"{prefix}-{secrets.token_hex(_ID_BYTES)}",
            kind=kind,
            digest=secret_digest(secret),
            name=name,
            role=role,
            svm_id=svm_id,
            clusters=clusters,
            created_at=now,
            expires_at=now + lifetime,
            created_by=call.actor,
        )
        retry = retry_of(call, request.request_id)
        made = MakeToken(record, secret, retry, request.validate_only)
        return await self._writer.write(make_tokens, made)

    async def list_tokens(
        self, request: access_pb2.ListTokensRequest, call: Call
    ) -> access_pb2.ListTokensResponse:
        """List tokens, newest first."""
        position = self._pages.read(call.method, (), request.page_token)
        size = page_size(request.page_size)
        before = position[0] if position else _NEWEST
        rows = await self._reader.read(page_of_tokens, before, size + 1)
        page, token = self._pages.cut(call.method, (), rows, size, lambda row: (row.number,))
        return access_pb2.ListTokensResponse(
            tokens=[token_message(record) for record in page], next_page_token=token
        )

    async def revoke_token(self, request: access_pb2.RevokeTokenRequest, call: Call) -> Message:
        """Revoke a token."""
        retry = retry_of(call, request.request_id)
        revoke = RevokeToken(request.token_id, call.actor, retry, request.validate_only)
        return await self._writer.write(revoke_tokens, revoke)

    async def list_certificates(
        self, request: access_pb2.ListCertificatesRequest, call: Call
    ) -> access_pb2.ListCertificatesResponse:
        """List certificates of SVMs, newest first."""
        filters = (request.svm_id,)
        position = self._pages.read(call.method, filters, request.page_token)
        size = page_size(request.page_size)
        before = position[0] if position else _NEWEST
        rows = await self._reader.read(page_of_certificates, request.svm_id, before, size + 1)
        page, token = self._pages.cut(call.method, filters, rows, size, lambda row: (row.number,))
        return access_pb2.ListCertificatesResponse(
            certificates=[certificate_message(record) for record in page], next_page_token=token
        )

    async def revoke_certificate(
        self, request: access_pb2.RevokeCertificateRequest, call: Call
    ) -> Message:
        """Revoke a certificate."""
        retry = retry_of(call, request.request_id)
        serial = request.certificate_serial
        revoke = RevokeCertificate(serial, call.actor, retry, request.validate_only)
        return await self._writer.write(revoke_certificates, revoke)

    async def ban_svm(self, request: access_pb2.BanSvmRequest, call: Call) -> Message:
        """Ban an SVM, or let it in again."""
        retry = retry_of(call, request.request_id)
        ban = BanSvm(request.svm_id, not request.lift, call.actor, retry, request.validate_only)
        return await self._writer.write(ban_svms, ban)
