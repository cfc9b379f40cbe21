"""Making and revoking tokens: operations of the writer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from sparekey.server.access.messages import token_message
from sparekey.server.store.access import add_token, save_token, token_by_id
from sparekey.server.store.access_records import TokenKind, TokenRecord
from sparekey.server.store.requests import Retry, earlier_response, remember_answer
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import access_pb2, error_pb2, event_pb2
from sparekey.wire.errors import CallRefused


@dataclass(frozen=True, slots=True)
class MakeToken:
    """A request to store a new token.

    Attributes:
        record: The token.
        secret: What is shown once, and stored nowhere.
        retry: How the call is told from its retries.
        validate_only: Whether to change nothing.
    """

    record: TokenRecord
    secret: str
    retry: Retry
    validate_only: bool


def make_tokens(
    transaction: Transaction, requests: Sequence[MakeToken]
) -> list[Message | CallRefused]:
    """Store new tokens."""
    return [_make(transaction, request) for request in requests]


def _make(transaction: Transaction, request: MakeToken) -> Message | CallRefused:
    record = request.record
    response_class = (
        access_pb2.CreateJoinTokenResponse
        if record.kind is TokenKind.JOIN
        else access_pb2.CreateTokenResponse
    )
    earlier = earlier_response(transaction.connection, request.retry, response_class)
    if earlier is not None:
        return earlier
    response = response_class(record=token_message(record))
    if request.validate_only:
        return response
    add_token(transaction, record)
    transaction.add_event(
        event_pb2.EVENT_KIND_TOKEN_CREATED,
        f"The token {record.token_id} was made{_purpose(record)}.",
        actor=record.created_by,
        svm_id=record.svm_id,
    )
    # Before the secret comes in: it is not to be stored.
    remember_answer(transaction, request.retry, response.SerializeToString())
    response.token = request.secret
    return response


def _purpose(record: TokenRecord) -> str:
    if record.kind is TokenKind.JOIN:
        return f" for the SVM {record.svm_id} to join" if record.svm_id else " for an SVM to join"
    bound = f", for SVMs of {', '.join(record.clusters)} only" if record.clusters else ""
    return f" for {record.name} with the role {record.role.lower()}{bound}"


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """A request to revoke a token."""

    token_id: str
    actor: str
    retry: Retry
    validate_only: bool


def revoke_tokens(
    transaction: Transaction, requests: Sequence[RevokeToken]
) -> list[Message | CallRefused]:
    """Revoke tokens; one that is revoked already stays as it is."""
    return [_revoke(transaction, request) for request in requests]


def _revoke(transaction: Transaction, request: RevokeToken) -> Message | CallRefused:
    earlier = earlier_response(
        transaction.connection, request.retry, access_pb2.RevokeTokenResponse
    )
    if earlier is not None:
        return earlier
    record = token_by_id(transaction.connection, request.token_id)
    if record is None:
        return CallRefused(
            error_pb2.ERROR_REASON_TOKEN_NOT_FOUND,
            f"the server knows no token {request.token_id}; list the tokens to see their ids",
            metadata={"token_id": request.token_id},
        )
    changes = record.revoked_at is None
    if changes:
        record = dataclasses.replace(record, revoked_at=transaction.now)
    response = access_pb2.RevokeTokenResponse(record=token_message(record))
    if request.validate_only:
        return response
    if changes:
        save_token(transaction, record)
        transaction.add_event(
            event_pb2.EVENT_KIND_TOKEN_REVOKED,
            f"The token {record.token_id} was revoked.",
            actor=request.actor,
            svm_id=record.svm_id,
        )
    remember_answer(transaction, request.retry, response.SerializeToString())
    return response
