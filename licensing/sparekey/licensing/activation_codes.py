"""Activation codes: their shape, and how they may be shown."""

import re

CODE_PATTERN = re.compile(r"^[A-Z0-9]{5}(?:-[A-Z0-9]{5}){3}\Z")
"""A normalized code (R47, R79). `\\Z` because `$` would let a trailing newline through."""

_SHOWN = 5
_SHORTEST_REDACTED = 20


class MalformedActivationCode(ValueError):
    """The text is not an activation code. The message never repeats it: it may be nearly one."""

    def __init__(self) -> None:
        super().__init__(
            "An activation code is four hyphenated groups of five Latin letters or digits; "
            "check it for missing or mistyped characters."
        )


def parse_activation_code(text: str) -> str:
    """The code in its normal form: trimmed, upper case (R47, R79).

    Raises `MalformedActivationCode`; so the shape is known before any server is asked.
    """
    code = text.strip()
    # Some letters outside ASCII have an upper case inside it: they would turn into other codes.
    if code.isascii() and CODE_PATTERN.match(code := code.upper()):
        return code
    raise MalformedActivationCode


def redact(code: str) -> str:
    """The code as logs and answers may show it: only the last five characters (R79).

    Works for malformed text too; of one too short to be a code nothing is shown.
    """
    code = code.strip()
    shown = code[-_SHOWN:] if len(code) >= _SHORTEST_REDACTED else "*" * _SHOWN
    return f"*****-*****-*****-{shown}"
