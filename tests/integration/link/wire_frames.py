"""The messages in what a gRPC client has sent over one connection."""

from __future__ import annotations

from collections.abc import Iterator

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA = 0


def frames_of(sent: bytes) -> list[bytes]:
    """The messages that are whole so far, in order, of one stream at a time."""
    data = b"".join(_payloads(sent.removeprefix(_PREFACE)))
    messages = []
    while len(data) >= 5:
        length = int.from_bytes(data[1:5], "big")
        if len(data) < 5 + length:
            break
        messages.append(data[5 : 5 + length])
        data = data[5 + length :]
    return messages


def _payloads(sent: bytes) -> Iterator[bytes]:
    """The payloads of HTTP/2's DATA frames; gRPC pads none of them."""
    while len(sent) >= 9:
        length = int.from_bytes(sent[:3], "big")
        if sent[3] == _DATA:
            yield sent[9 : 9 + length]
        sent = sent[9 + length :]
