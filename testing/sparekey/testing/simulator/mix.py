"""Which guests the SVMs of a simulated fleet have."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sparekey.licensing.guests import GuestMix
from sparekey.runtime.startup import StartupRefused
from sparekey.testing.fleet.simulated import SimulatedSvm, make_svm

KINDS = ("servers", "desktops", "mixed")
_MOST_GUESTS = 20


@dataclass(frozen=True, slots=True)
class Mix:
    """The weights of SVMs beside servers only, beside desktops only, and beside both."""

    weights: tuple[int, int, int]

    def guests(self, chance: random.Random) -> GuestMix:
        """The guests of one SVM."""
        kind = chance.choices(KINDS, self.weights)[0]
        servers = 0 if kind == "desktops" else chance.randint(1, _MOST_GUESTS)
        desktops = 0 if kind == "servers" else chance.randint(1, _MOST_GUESTS)
        return GuestMix(servers, desktops)


def parse_mix(text: str) -> Mix:
    """A mix as on the command line, for example `servers=60,desktops=30,mixed=10`.

    Raises:
        StartupRefused: it is not of that form.
    """
    weights = dict.fromkeys(KINDS, 0)
    for part in text.split(","):
        kind, _, weight = part.strip().partition("=")
        if kind not in weights or not weight.isdecimal():
            raise StartupRefused(
                f"{text!r} is no mix; write one such as servers=60,desktops=30,mixed=10"
            )
        weights[kind] = int(weight)
    if not any(weights.values()):
        raise StartupRefused("a mix needs a weight above 0; write servers=1")
    return Mix((weights["servers"], weights["desktops"], weights["mixed"]))


def make_svms(
    count: int, mix: Mix, clusters: int, prefix: str, chance: random.Random
) -> list[SimulatedSvm]:
    """SVMs named `PREFIX-000000` and so on, spread evenly over clusters."""
    made = []
    for number in range(count):
        guests = mix.guests(chance)
        made.append(
            make_svm(
                f"{prefix}-{number:06}",
                cluster=f"cluster-{number % clusters + 1}" if clusters else "",
                servers=guests.servers,
                desktops=guests.desktops,
            )
        )
    return made
