"""What every servicer reads from a call: how it is told from its retries, and its page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sparekey.server.store.requests import RequestKey, Retry
from sparekey.v1 import error_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused

_Row = TypeVar("_Row")

DEFAULT_PAGE_SIZE = 100
_MAC_BYTES = 16


def retry_of(call: Call, request_id: str) -> Retry:
    """How a call is told from its retries; without a request id it is not."""
    if not request_id:
        return Retry(None, b"")
    digest = hashlib.sha256(call.encoded).digest()
    return Retry(RequestKey(call.actor, call.method, request_id), digest)


def page_size(asked: int) -> int:
    """The page size that was asked for; 0 means the default."""
    return asked or DEFAULT_PAGE_SIZE


class PageTokens:
    """Makes page tokens, and refuses those that it did not make for the same list.

    A token holds the last position of its page, and a code over that, the list
    and its filters, so that nobody comes to depend on what is inside.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, method: str, filters: Sequence[Any], position: Sequence[Any]) -> str:
        """The token of the page after a position; the values must fit into JSON."""
        content = json.dumps(position, separators=(",", ":")).encode()
        code = self._code(method, filters, content)
        return _encode(code + content)

    def cut(
        self,
        method: str,
        filters: Sequence[Any],
        rows: Sequence[_Row],
        size: int,
        position: Callable[[_Row], Sequence[Any]],
    ) -> tuple[Sequence[_Row], str]:
        """One page of a list, and the token of the next; empty after the last.

        Args:
            method: The list.
            filters: Its filters.
            rows: The page's rows and, where more follow, at least one of those.
            size: How many rows the page has at the most.
            position: A row's position in the list.
        """
        if len(rows) <= size:
            return rows, ""
        page = rows[:size]
        return page, self.make(method, filters, position(page[-1]))

    def read(self, method: str, filters: Sequence[Any], token: str) -> list[Any] | None:
        """The position in a token; None for the first page.

        Raises:
            CallRefused: the token is not from this list with these filters.
        """
        if not token:
            return None
        try:
            decoded = base64.b64decode(
                token + "=" * (-len(token) % 4), altchars=b"-_", validate=True
            )
        except (binascii.Error, ValueError):
            raise _invalid_token() from None
        if _encode(decoded) != token:
            raise _invalid_token()
        code, content = decoded[:_MAC_BYTES], decoded[_MAC_BYTES:]
        if not hmac.compare_digest(code, self._code(method, filters, content)):
            raise _invalid_token()
        position: list[Any] = json.loads(content)
        return position

    def _code(self, method: str, filters: Sequence[Any], content: bytes) -> bytes:
        signed = json.dumps([method, list(filters)], separators=(",", ":")).encode() + content
        return hmac.digest(self._secret, signed, "sha256")[:_MAC_BYTES]


def _encode(decoded: bytes) -> str:
    return base64.urlsafe_b64encode(decoded).decode().rstrip("=")


def _invalid_token() -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_INVALID_PAGE_TOKEN,
        "the page token is not from this list with these filters; start from the first page",
    )
