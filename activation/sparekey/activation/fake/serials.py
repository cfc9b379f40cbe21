"""Serials of new keys, from an injected source of randomness."""

import hashlib
import random
from collections.abc import Container

from sparekey.licensing.keys import KeyOrigin

_FILE_GROUPS = (4, 6, 8)
_CODE_DIGITS = 32


def new_serial(origin: KeyOrigin, randomness: random.Random, taken: Container[str]) -> str:
    """A serial of the origin's shape (R30) that is not among those taken.

    A seeded source starts over with each start of the program, so `taken` matters.
    """
    while True:
        serial = _shaped(origin, randomness)
        if serial not in taken:
            return serial


def preview_serial(code_digest: str, installation_id: str) -> str:
    """The serial in an answer that issues nothing: the same each time, and never in the books.

    It is no draw from the randomness, so that asking leaves no trace in a seeded run.
    """
    text = f"preview {code_digest} {installation_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:_CODE_DIGITS].upper()


def _shaped(origin: KeyOrigin, randomness: random.Random) -> str:
    if origin is KeyOrigin.ACTIVATION_CODE:
        return _hex(_CODE_DIGITS, randomness)
    return "-".join(_hex(digits, randomness) for digits in _FILE_GROUPS)


def _hex(digits: int, randomness: random.Random) -> str:
    return f"{randomness.getrandbits(4 * digits):0{digits}X}"
