"""Values that no good client sends, or that lie at the edge of what one may send."""

from __future__ import annotations

import random
from collections.abc import Sequence

from google.protobuf.descriptor import FieldDescriptor

_EDGES_32 = (0, 1, -1, 2, 100, 1000, 1001, 2**31 - 1, -(2**31))
_EDGES_64 = (*_EDGES_32, 2**62, 2**62 + 1, 2**63 - 1, -(2**63), 253402300799, 253402300800)
_UNSIGNED_32 = (0, 1, 2, 100, 2**31, 2**32 - 1)
_UNSIGNED_64 = (*_UNSIGNED_32, 2**62, 2**62 + 1, 2**63, 2**64 - 1)
_NUMBERS: dict[int, Sequence[int]] = {
    FieldDescriptor.CPPTYPE_BOOL: (0, 1),
    FieldDescriptor.CPPTYPE_INT32: _EDGES_32,
    FieldDescriptor.CPPTYPE_INT64: _EDGES_64,
    FieldDescriptor.CPPTYPE_UINT32: _UNSIGNED_32,
    FieldDescriptor.CPPTYPE_UINT64: _UNSIGNED_64,
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 3, 4, 5, 99, -1),
}
_TEXTS = (
    "",
    " ",
    "a",
    "-",
    "svm-1",
    "SVM-1",
    "..",
    "%s%n",
    "{0.__class__}",
    "' OR 1=1 --",
    "*",
    "\x00",
    "\x1b[2J",
    "\u202e",
    "\ufffd",
    "\U0001f511" * 20,
    "x" * 64,
    "x" * 65_000,
    "task-0000000000000000",
    "token-0000000000000000",
    "4A3F-00B2C1-9D8E7F66",
    "TEST0-ABCDE-12345-ZZ9ZZ",
    "TEST0-ABCDE-12345-ZZ9Z",
    "AA",
)


def hostile_text(randomness: random.Random) -> str:
    """A text."""
    return randomness.choice(_TEXTS)


def hostile_bytes(randomness: random.Random) -> bytes:
    """Bytes, as bad as a text."""
    return randomness.choice((b"", b"\x00", randomness.randbytes(randomness.randint(1, 300))))


def hostile_number(randomness: random.Random, cpp_type: int) -> int | bool:
    """A number for a field of a type, or a value of its enum."""
    number = randomness.choice(_NUMBERS[cpp_type])
    return bool(number) if cpp_type == FieldDescriptor.CPPTYPE_BOOL else number
