"""Answers to calls that carried a request id (AIP-155's promise: a retry is harmless)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection, delete, insert, select, tuple_

from sparekey.server.store import schema
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused

_requests = schema.requests

_Response = TypeVar("_Response", bound=Message)


class RequestKey(NamedTuple):
    """Whose request it is, to which RPC, under which id."""

    actor: str
    method: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """How a call is told from its retries. `key` is None where it carries no request id."""

    key: RequestKey | None
    digest: bytes


def earlier_answers(
    connection: Connection, retries: Iterable[Retry]
) -> dict[RequestKey, tuple[bytes, bytes]]:
    """By request key the digest and the answer of calls that were answered before."""
    wanted = [retry.key for retry in retries if retry.key is not None]
    if not wanted:
        return {}
    columns = (_requests.c.actor, _requests.c.method, _requests.c.request_id)
    query = select(*columns, _requests.c.digest, _requests.c.response).where(
        tuple_(*columns).in_(wanted)
    )
    return {
        RequestKey(actor, method, request_id): (digest, response)
        for actor, method, request_id, digest, response in connection.execute(query)
    }


def earlier_answer(connection: Connection, retry: Retry) -> bytes | CallRefused | None:
    """What one call was answered before; None if it is new."""
    return match_answer(earlier_answers(connection, [retry]), retry)


def earlier_response(
    connection: Connection, retry: Retry, response: type[_Response]
) -> _Response | CallRefused | None:
    """The response that one call got before; a refusal or None as `earlier_answer` says."""
    earlier = earlier_answer(connection, retry)
    return response.FromString(earlier) if isinstance(earlier, bytes) else earlier


def match_answer(
    answers: dict[RequestKey, tuple[bytes, bytes]], retry: Retry
) -> bytes | CallRefused | None:
    """The earlier answer to a call, a refusal if its id was used for other content, or None."""
    if retry.key is None or (earlier := answers.get(retry.key)) is None:
        return None
    digest, response = earlier
    if digest != retry.digest:
        return CallRefused(
            error_pb2.ERROR_REASON_REQUEST_ID_REUSED,
            f"the request id {retry.key.request_id!r} was used before with other content; use a"
            " new one",
            metadata={"request_id": retry.key.request_id},
        )
    return response


def remember_answer(transaction: Transaction, retry: Retry, response: bytes) -> None:
    """Keep an answer for retries, in the transaction of what was answered."""
    if retry.key is not None:
        transaction.connection.execute(
            insert(_requests).values(
                **retry.key._asdict(),
                digest=retry.digest,
                response=response,
                created_at=transaction.now,
            )
        )


def forget_answers(connection: Connection, before: datetime) -> None:
    """Delete answers from before an instant."""
    connection.execute(delete(_requests).where(_requests.c.created_at < before))
