"""What a benchmark measured: pairs of rounds, ours and bare, taken in turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One benchmark's result.

    Attributes:
        name: The benchmark.
        unit: Of `value` and `raw`.
        ours: Our figure of each round.
        bare: The bare figure of each round.
        goal: What the ratio should reach.
        better: Whether a high or a low ratio is good.
    """

    name: str
    unit: str
    ours: Sequence[float]
    bare: Sequence[float]
    goal: float
    better: Literal["high", "low"]

    @property
    def ratio(self) -> float:
        """The median of ours to bare, round by round, so that a drifting machine cancels out."""
        return median(ours / bare for ours, bare in zip(self.ours, self.bare, strict=True))

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.ratio >= self.goal if self.better == "high" else self.ratio <= self.goal


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = [
        {
            "name": figure.name,
            "value": round(median(figure.ours), 3),
            "unit": figure.unit,
            "raw": round(median(figure.bare), 3),
            "ratio": round(figure.ratio, 3),
            "rounds": len(figure.ours),
        }
        for figure in figures
    ]
    path.write_text(json.dumps(content, indent=2) + "\n")


def _short(number: float) -> str:
    return f"{number:,.3g}" if number < 100 else f"{number:,.0f}"


def print_table(figures: Sequence[Figure]) -> None:
    """Show the figures to people."""
    table = Table(title="Sparekey beside bare gRPC (medians of alternating rounds)")
    for heading in ("benchmark", "Sparekey", "bare", "unit", "ratio", "goal", "rounds", ""):
        table.add_column(
            heading,
            justify="left" if heading in ("benchmark", "unit") else "right",
            no_wrap=heading == "benchmark",
        )
    for figure in figures:
        sign = "≥" if figure.better == "high" else "≤"
        table.add_row(
            figure.name,
            _short(median(figure.ours)),
            _short(median(figure.bare)),
            figure.unit,
            f"{figure.ratio:.2f}",
            f"{sign} {figure.goal:g}",
            str(len(figure.ours)),
            "met" if figure.met else "missed",
        )
    Console().print(table)
