"""What measurements find: figures by name, and which of them are no comparison.

The name of a figure is told to the person who reads it, and ends with its unit; whether more or
less is better is told by the unit (report.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Found:
    """`no_comparison` has the reason by the name of the figure. `gone_cpu_s` is the CPU time of
    processes that were killed in between and that nobody else counts; `failed` says why there is no
    more than this."""

    figures: dict[str, float] = field(default_factory=dict)
    no_comparison: dict[str, str] = field(default_factory=dict)
    gone_cpu_s: float = 0.0
    failed: str | None = None

    def note(self, figures: Mapping[str, float], why: str | None = None) -> None:
        """Add figures; `why` they are no comparison, if they are none."""
        self.figures.update(figures)
        if why is not None:
            self.no_comparison.update(dict.fromkeys(figures, why))

    def add(self, other: Found, why: str | None = None) -> None:
        """Add what another found; a reason of its own comes first."""
        self.note(other.figures, why)
        for name, own in other.no_comparison.items():
            self.no_comparison[name] = own if why is None or why in own else f"{own}; {why}"

    def document(self) -> dict[str, Any]:
        return {
            "figures": self.figures,
            "no comparison": self.no_comparison,
            "failed": self.failed,
        }
