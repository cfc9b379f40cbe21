"""Every refusal and every advice has its own sentence for people."""

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest

from sparekey.licensing.advice import Advice, explain_advice
from sparekey.licensing.refusals import Refusal, explain


@pytest.mark.parametrize(("enum", "explain_one"), [(Refusal, explain), (Advice, explain_advice)])
def test_each_has_one_sentence_of_its_own(
    enum: type[Enum], explain_one: Callable[[Any], str]
) -> None:
    sentences = [explain_one(member) for member in enum]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert ". " not in sentence
        assert ":" in sentence, "what is wrong, a colon, the next step"


@pytest.mark.parametrize("enum", [Refusal, Advice])
def test_enum_values_are_their_names(enum: type[Enum]) -> None:
    assert all(member.value == member.name for member in enum)


def test_R15_the_page_names_three_causes_and_each_is_a_refusal_of_its_own() -> None:
    """R15: no active key, a subscription, another type; the others are hardened from R8 and C."""
    named = (Refusal.NO_ACTIVE_KEY, Refusal.ACTIVE_IS_SUBSCRIPTION, Refusal.TYPE_MISMATCH)
    assert len({explain(refusal) for refusal in named}) == 3
