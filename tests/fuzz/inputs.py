"""Makes inputs: messages from their descriptors, and mutations of encoded ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from fuzz.hostile import hostile_bytes, hostile_number, hostile_text

Known = Mapping[str, Sequence[Any]]
"""Values that mean something to the server under test, by a field's full name or its name."""

_DEEPEST = 6
_NOW = 1_893_456_000
"""2030-01-01 in seconds since 1970; the servers' clocks start there."""
_DAY = 86_400
_BEHAVIOR = field_behavior_pb2.field_behavior


class Inputs:
    """Makes inputs from a seed.

    Args:
        randomness: Seeded.
        known: Looked at anew for each value, so it may change between inputs.
    """

    def __init__(self, randomness: random.Random, known: Known) -> None:
        self._random = randomness
        self._known = known
        self._number = 0

    def structured(self, descriptor: Descriptor) -> Message:
        """A message of a type: plausible, plausible but for a few fields, or wild."""
        mood = self._random.random()
        if mood < 0.5:
            return self.plausible(descriptor)
        if mood < 0.7:
            return self.plausible(descriptor, spoiled=0.25)
        return self.wild(descriptor)

    def plausible(self, descriptor: Descriptor, *, spoiled: float = 0.0, depth: int = 0) -> Message:
        """A message as a client would send it.

        Args:
            descriptor: Its type.
            spoiled: The share of its fields that is hostile all the same, 0 to 1.
            depth: How many messages it lies within.
        """
        message = GetMessageClass(descriptor)()
        if descriptor.full_name == "google.protobuf.Timestamp":
            seconds = _NOW + self._random.randint(-400 * _DAY, 400 * _DAY)
            return GetMessageClass(descriptor)(seconds=seconds)
        if descriptor.full_name == "google.protobuf.Duration":
            return GetMessageClass(descriptor)(seconds=self._random.randint(60, 30 * _DAY))
        chosen = {
            oneof.name: self._random.choice(oneof.fields).name
            for oneof in descriptor.oneofs
            if len(oneof.fields) > 1
        }
        for field in descriptor.fields:
            oneof = field.containing_oneof
            behaviors = field.GetOptions().Extensions[_BEHAVIOR]
            if oneof is not None and oneof.name in chosen:
                wanted = chosen[oneof.name] == field.name
            elif field_behavior_pb2.REQUIRED in behaviors:
                wanted = True
            else:
                # What is nested is an example of something whole: most of it is there.
                wanted = self._random.random() < (0.3 if depth == 0 else 0.8)
            if not wanted or depth > _DEEPEST:
                continue
            if spoiled and self._random.random() < spoiled:
                self._set(message, field, [self._hostile(field, depth)])
            else:
                count = self._random.randint(1, 3) if field.is_repeated else 1
                values = [self._value(field, spoiled, depth) for _ in range(count)]
                self._set(message, field, values)
        return message

    def wild(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message with fields that are absent, at an edge, or hostile."""
        message = GetMessageClass(descriptor)()
        chance = self._random.choice((0.2, 0.6, 0.95))
        for field in descriptor.fields:
            if depth <= _DEEPEST and self._random.random() < chance:
                count = 1
                if field.is_repeated:
                    count = self._random.choices((0, 1, 3, 1200), (1, 5, 3, 0.05))[0]
                self._set(message, field, [self._hostile(field, depth) for _ in range(count)])
        return message

    def mutated(self, content: bytes) -> bytes:
        """The bytes after one to eight small changes."""
        changed = bytearray(content or self._random.randbytes(8))
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 8))):
            changed = self._change(changed)
        return bytes(changed)

    def _change(self, content: bytearray) -> bytearray:
        at = self._random.randrange(len(content) + 1)
        until = min(len(content), at + self._random.randint(1, 16))
        # Half of the changes keep the length: more of those can still be decoded.
        match self._random.randrange(10):
            case 0 if content:
                content[at % len(content)] ^= 1 << self._random.randrange(8)
            case 1 if content:
                content[at % len(content)] = self._random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2 | 3 if content:
                content[at % len(content)] = self._random.randrange(0x20, 0x7F)
            case 4 if content:
                content[at % len(content)] = (content[at % len(content)] + 1) % 256
            case 5:
                content[at:at] = self._random.randbytes(self._random.randint(1, 8))
            case 6:
                del content[at:until]
            case 7:
                content[at:at] = content[at:until] * self._random.randint(1, 4)
            case 8:
                content = content[:at]
            case _:
                content += self._random.randbytes(self._random.randint(1, 200))
        return content

    def _value(self, field: FieldDescriptor, spoiled: float, depth: int) -> Any:
        if field.message_type is not None:
            return self.plausible(field.message_type, spoiled=spoiled, depth=depth + 1)
        known = self._known.get(field.full_name) or self._known.get(field.name)
        if known:
            return self._random.choice(known)
        if field.name == "request_id":
            # Most are new; some were used before, for the same or for something else.
            self._number += 1
            return f"request-{self._random.choice((self._number, self._random.randint(1, 40)))}"
        if field.enum_type is not None:
            return self._random.choice(field.enum_type.values[1:]).number
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return self._random.random() < 0.5
            case FieldDescriptor.CPPTYPE_STRING:
                text = self._random.choice(("a", "north", "svm-1"))
                return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
            case _:
                return self._random.randint(0, 20)

    def _hostile(self, field: FieldDescriptor, depth: int) -> Any:
        if field.message_type is not None:
            return self.wild(field.message_type, depth + 1)
        known = self._known.get(field.full_name) or self._known.get(field.name)
        if known and self._random.random() < 0.3:
            return self._random.choice(known)
        if field.type == FieldDescriptor.TYPE_BYTES:
            some = self._random.choice(known) if known else b"\x00"
            return self._random.choice((hostile_bytes(self._random), some, self.mutated(some)))
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return hostile_text(self._random)
        return hostile_number(self._random, field.cpp_type)

    @staticmethod
    def _set(message: Message, field: FieldDescriptor, values: Sequence[Any]) -> None:
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        elif not values:
            return
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(values[0])
        else:
            setattr(message, field.name, values[0])
