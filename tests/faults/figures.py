"""What fault runs came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faults.plan import Fault


@dataclass(slots=True)
class Kind:
    """What one kind of fault came to.

    Attributes:
        strikes: How often it struck.
        struck: What it hit: processes that were killed or frozen, connections that were reset,
            pieces of traffic that were lost, late or starved, writes that the full disk refused.
    """

    strikes: int = 0
    struck: int = 0


@dataclass(slots=True)
class Figures:
    """The sums of all runs; the names are those of build/faults.json.

    Attributes:
        runs: Runs, each with a seed of its own.
        kills: Strikes of SIGKILL at the server or of sudden death at agents.
        cuts: Strikes that cut connections, each of one or many.
        pushes: Instructions that the server gave, one for each new version of a slot.
        applied: Those of them that agents applied, each counted on the agent's disk.
        lost: What someone was told to be safe and is not to be found.
        applied_twice: What was followed or told a second time.
        wrong_state: SVMs and tasks whose state differs between the agent, the store and the
            history, or that did not come to rest.
        longest_convergence_s: The longest time from the last fault until all agreed.
        svms: SVMs in each run.
        promotions: Reserve keys that took over, as the history tells.
        repeated: Instructions that came to an agent again after it had followed them.
        kinds: By kind of fault, what it came to.
    """

    runs: int = 0
    kills: int = 0
    cuts: int = 0
    pushes: int = 0
    applied: int = 0
    lost: int = 0
    applied_twice: int = 0
    wrong_state: int = 0
    longest_convergence_s: float = 0.0
    svms: int = 0
    promotions: int = 0
    repeated: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)

    def kind(self, fault: Fault) -> Kind:
        """The counts of one kind of fault."""
        return self.kinds.setdefault(fault.name, Kind())

    def add(self, other: Figures) -> None:
        """Take another run's figures in."""
        self.runs += other.runs
        self.kills += other.kills
        self.cuts += other.cuts
        self.pushes += other.pushes
        self.applied += other.applied
        self.lost += other.lost
        self.applied_twice += other.applied_twice
        self.wrong_state += other.wrong_state
        self.longest_convergence_s = max(self.longest_convergence_s, other.longest_convergence_s)
        self.svms = max(self.svms, other.svms)
        self.promotions += other.promotions
        self.repeated += other.repeated
        for fault in Fault:
            self.kind(fault).strikes += other.kind(fault).strikes
            self.kind(fault).struck += other.kind(fault).struck

    @property
    def idle_kinds(self) -> list[str]:
        """Kinds of faults that struck nothing, and so have shown nothing."""
        return [fault.name for fault in Fault if not self.kind(fault).struck]

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or wrong."""
        return not (self.lost or self.applied_twice or self.wrong_state)


@dataclass(slots=True)
class Verdict:
    """One run's figures, and each trouble in words."""

    seed: int
    figures: Figures
    lost: list[str] = field(default_factory=list)
    applied_twice: list[str] = field(default_factory=list)
    wrong_state: list[str] = field(default_factory=list)

    def close(self) -> Verdict:
        """Put the counts of the troubles into the figures."""
        self.figures.lost = len(self.lost)
        self.figures.applied_twice = len(self.applied_twice)
        self.figures.wrong_state = len(self.wrong_state)
        return self

    def troubles(self) -> Sequence[str]:
        """All troubles, each with its kind."""
        return [
            *(f"lost: {one}" for one in self.lost),
            *(f"applied twice: {one}" for one in self.applied_twice),
            *(f"wrong state: {one}" for one in self.wrong_state),
        ]


def write_json(figures: Figures, path: Path) -> None:
    """Write the figures for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(figures), indent=2) + "\n")
