"""What an SVM protects and runs on: guests by OS class, and the host's processors."""

from dataclasses import dataclass
from enum import Enum


class OsClass(Enum):
    """The classes of guest operating systems that key types distinguish (R6, R33)."""

    SERVER = "SERVER"
    DESKTOP = "DESKTOP"


@dataclass(frozen=True, slots=True)
class GuestMix:
    """How many guests of each class an SVM reports, each 0 or more.

    A guest of unknown class counts as a server (R91): then no desktop key covers it by mistake.
    Raises `ValueError` for a negative count.
    """

    servers: int = 0
    desktops: int = 0
    unknown: int = 0

    def __post_init__(self) -> None:
        if self.servers < 0 or self.desktops < 0 or self.unknown < 0:
            _check_counts(servers=self.servers, desktops=self.desktops, unknown=self.unknown)

    @property
    def total(self) -> int:
        """All guests, of whatever class."""
        return self.servers + self.desktops + self.unknown

    def count(self, os_class: OsClass) -> int:
        """The guests of one class, unknown ones among the servers (R91)."""
        return self.desktops if os_class is OsClass.DESKTOP else self.servers + self.unknown

    def classes(self) -> frozenset[OsClass]:
        """The classes of which there is at least one guest."""
        return _CLASSES[bool(self.servers or self.unknown), bool(self.desktops)]


_CLASSES = {
    (False, False): frozenset[OsClass](),
    (True, False): frozenset({OsClass.SERVER}),
    (False, True): frozenset({OsClass.DESKTOP}),
    (True, True): frozenset(OsClass),
}


@dataclass(frozen=True, slots=True)
class HostCpu:
    """The physical processors and physical cores of a host, each 0 or more (R67).

    Hyper-threads are not cores (R91). Raises `ValueError` for a negative count.
    """

    processors: int
    cores: int

    def __post_init__(self) -> None:
        if self.processors < 0 or self.cores < 0:
            _check_counts(processors=self.processors, cores=self.cores)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} must be 0 or more, not {count}")
