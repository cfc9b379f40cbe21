"""Makes inputs: messages from their descriptors, and mutations of encoded ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_DEEPEST = 5
_EDGES_32 = (0, 1, -1, 2, 100, 1000, 1001, 2**31 - 1, -(2**31))
_EDGES_64 = (*_EDGES_32, 2**62, 2**62 + 1, 2**63 - 1, -(2**63), 253402300799, 253402300800)
_UNSIGNED_32 = (0, 1, 2, 100, 2**31, 2**32 - 1)
_UNSIGNED_64 = (*_UNSIGNED_32, 2**62, 2**62 + 1, 2**63, 2**64 - 1)
_TEXTS = (
    "",
    " ",
    "a",
    "-",
    "svm-1",
    "SVM-1",
    "..",
    "%s%n",
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


class Inputs:
    """Makes inputs from a seed.

    Args:
        randomness: Seeded.
        texts: Texts that mean something to the server under test, such as its SVMs' ids.
        contents: Bytes that mean something to it, such as a key file.
    """

    def __init__(
        self, randomness: random.Random, texts: Sequence[str], contents: Sequence[bytes]
    ) -> None:
        self._random = randomness
        self._texts = texts
        self._contents = contents

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message of a type, with fields that are absent, valid, at an edge, or hostile."""
        message = GetMessageClass(descriptor)()
        chance = self._random.choice((0.2, 0.6, 0.95))
        for field in descriptor.fields:
            if self._random.random() < chance:
                self._set(message, field, depth)
        return message

    def encoded(self, descriptor: Descriptor) -> bytes:
        """A message's bytes."""
        return self.message(descriptor).SerializeToString()

    def mutated(self, content: bytes) -> bytes:
        """The bytes after one to eight small changes."""
        changed = bytearray(content or self._random.randbytes(8))
        for _ in range(self._random.randint(1, 8)):
            changed = self._change(changed)
        return bytes(changed)

    def _change(self, content: bytearray) -> bytearray:
        at = self._random.randrange(len(content) + 1)
        until = min(len(content), at + self._random.randint(1, 16))
        match self._random.randrange(7):
            case 0 if content:
                content[at % len(content)] ^= 1 << self._random.randrange(8)
            case 1 if content:
                content[at % len(content)] = self._random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                content[at:at] = self._random.randbytes(self._random.randint(1, 8))
            case 3:
                del content[at:until]
            case 4:
                content[at:at] = content[at:until] * self._random.randint(1, 4)
            case 5:
                content = content[:at]
            case _:
                content += self._random.choice(self._contents)[: self._random.randint(0, 200)]
        return content

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None:
            if depth >= _DEEPEST:
                return
            made = [self.message(field.message_type, depth + 1) for _ in range(self._count(field))]
            target = getattr(message, field.name)
            if field.is_repeated:
                target.extend(made)
            else:
                target.CopyFrom(made[0])
            return
        values = [self._value(field) for _ in range(self._count(field))]
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])

    def _count(self, field: FieldDescriptor) -> int:
        if not field.is_repeated:
            return 1
        return self._random.choices((0, 1, 3, 1200), (1, 5, 3, 0.05))[0]

    def _value(self, field: FieldDescriptor) -> Any:
        kinds: dict[int, Callable[[], Any]] = {
            FieldDescriptor.CPPTYPE_STRING: lambda: self._text(field),
            FieldDescriptor.CPPTYPE_BOOL: lambda: self._random.random() < 0.5,
            FieldDescriptor.CPPTYPE_INT32: lambda: self._random.choice(_EDGES_32),
            FieldDescriptor.CPPTYPE_INT64: lambda: self._random.choice(_EDGES_64),
            FieldDescriptor.CPPTYPE_UINT32: lambda: self._random.choice(_UNSIGNED_32),
            FieldDescriptor.CPPTYPE_UINT64: lambda: self._random.choice(_UNSIGNED_64),
            FieldDescriptor.CPPTYPE_ENUM: lambda: self._random.choice((0, 1, 2, 3, 4, 5, 99, -1)),
        }
        return kinds[field.cpp_type]()

    def _text(self, field: FieldDescriptor) -> Any:
        if field.type == FieldDescriptor.TYPE_BYTES:
            some = self._random.choice(self._contents)
            return self._random.choice((b"", b"\x00", some, self.mutated(some)))
        return self._random.choice((*self._texts, self._random.choice(_TEXTS)))
