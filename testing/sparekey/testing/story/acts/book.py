"""What the acts share: the stage, the operator, the teller, and the keys bought so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sparekey.testing.story.cast import KeyCard
from sparekey.testing.story.operating import Operator
from sparekey.testing.story.stage import Stage
from sparekey.testing.story.telling import Teller
from sparekey.v1 import key_pb2


@dataclass(slots=True)
class Book:
    """The story as far as it has been told.

    Attributes:
        stage: The running programs.
        operator: Who works with them.
        teller: Who tells of it.
        keys: The keys in the storage by the names of the cast.
    """

    stage: Stage
    operator: Operator
    teller: Teller
    keys: dict[str, key_pb2.Key] = field(default_factory=dict)

    def buy(self, cards: Iterable[KeyCard]) -> list[key_pb2.Key]:
        """Buy keys of the cast and put them into the storage."""
        bought = {card.name: self.operator.buy(card) for card in cards}
        self.keys.update(bought)
        return list(bought.values())

    def serial(self, name: str) -> str:
        """The serial of a key of the cast."""
        return self.keys[name].serial

    def keys_by_serial(self) -> dict[str, key_pb2.Key]:
        """Every key of the storage."""
        return {key.serial: key for key in self.operator.stored_keys()}
