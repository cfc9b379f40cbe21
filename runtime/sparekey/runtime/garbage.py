"""How often a long-running program looks for objects that nothing but each other refers to."""

from __future__ import annotations

import gc

_COLLECT_AFTER = 20_000
"""Net allocations after which young objects are looked through."""


def collect_rarely() -> None:
    """Look through what is made from now on only, and seldom.

    What a program made while it started lives as long as the program. To look through it again
    and again at each collection would cost calls a tenth of their time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 100)
