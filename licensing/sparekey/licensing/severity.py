"""How much something matters to those who look after the fleet."""

from enum import IntEnum


class Severity(IntEnum):
    """Worse is greater."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3
