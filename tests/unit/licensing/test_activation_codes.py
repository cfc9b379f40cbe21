"""R47, R79: the shape of activation codes, and that they are never shown whole."""

import pytest

from sparekey.licensing.activation_codes import (
    CODE_PATTERN,
    MalformedActivationCode,
    parse_activation_code,
    redact,
)

CODE = "TEST0-ABCDE-12345-ZZ9ZZ"


@pytest.mark.parametrize("text", [CODE, f"  {CODE}\n", CODE.lower(), "\tTest0-abcde-12345-zz9Zz "])
def test_R47_R79_a_code_is_trimmed_and_upper_cased(text: str) -> None:
    assert parse_activation_code(text) == CODE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TEST0",
        "TEST0-ABCDE-12345",
        "TEST0-ABCDE-12345-ZZ9ZZ-AAAAA",
        "TEST0-ABCDE-12345-ZZ9Z",
        "TEST0-ABCDE-12345-ZZ9ZZZ",
        "TEST0ABCDE12345ZZ9ZZ",
        "TEST0 ABCDE 12345 ZZ9ZZ",
        "TEST0-ABCDE-12345-ZZ9Z_",
        "TEST0-ABC\nE-12345-ZZ9ZZ",
        "TEST0-ABCDE-12345-ZZ9ZÉ",
        "TEST0-ABCDE-12345-ZZ9Z\u0661",  # a digit, not a Latin one
        "te\u017ft0-abcde-12345-zz9zz",  # upper-cases to S
        "TEST0-ABCDE-12345-ZZ\u00df9",  # upper-cases to two letters
    ],
)
def test_R47_R79_any_other_text_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(MalformedActivationCode) as caught:
        parse_activation_code(text)
    assert not text or text not in str(caught.value)
    assert "TEST0" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_R79_the_pattern_wants_a_normal_code_only() -> None:
    assert CODE_PATTERN.match(CODE)
    assert not CODE_PATTERN.match(CODE + "\n")
    assert not CODE_PATTERN.match(CODE.lower())


def test_R79_only_the_last_five_characters_are_shown() -> None:
    assert redact(CODE) == "*****-*****-*****-ZZ9ZZ"
    assert redact(f" {CODE.lower()}\n").endswith("-zz9zz")


@pytest.mark.parametrize("text", ["", "ABCDE", "ABCDE-FGHIJ", "X" * 19])
def test_R79_of_a_text_too_short_for_a_code_nothing_is_shown(text: str) -> None:
    assert redact(text) == "*****-*****-*****-*****"
