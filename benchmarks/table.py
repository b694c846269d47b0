"""Rows with a ratio, a target and whether it holds; as text for people, as JSON for programs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Target:
    """What a row is to reach, from section "Performance" of the documents."""

    bound: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` is good enough."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case. ``value`` is what the target speaks of: a ratio, or an amount in ``unit``.

    ``ours`` and ``other`` are the two sides as text; ``figures`` is everything that was measured, for JSON.
    """

    name: str
    case: str
    value: float
    ours: str
    other: str = ""
    unit: str = ""
    target: Target | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the target is reached; None when there is none."""
        return self.target.holds(self.value) if self.target else None

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "case": self.case,
            "value": round(self.value, 4),
            "unit": self.unit or "ratio",
            "target": str(self.target) if self.target else None,
            "holds": self.holds,
            **self.figures,
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """A case that could not be measured here, and why."""

    name: str
    case: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "case": self.case, "skipped": self.reason}


def render_rows(rows: Iterable[Row | Skipped]) -> str:
    """The table, then what was skipped."""
    all_rows = list(rows)
    measured = [row for row in all_rows if isinstance(row, Row)]
    lines = render_columns(("case", "ours", "other", "reached", "target", "holds"), map(_cells, measured), left=1)
    lines += [f"skipped: {row.case}: {row.reason}" for row in all_rows if isinstance(row, Skipped)]
    return "\n".join(lines)


def render_columns(titles: Sequence[str], cells: Iterable[Sequence[str]], *, left: int = 0) -> list[str]:
    """Aligned columns, the first ``left`` of them to the left and the others to the right; a line each."""
    table = [tuple(titles), *map(tuple, cells)]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def milliseconds(seconds: float) -> str:
    """As text."""
    return f"{seconds * 1000:.1f} ms"


def mebibytes(size: float) -> str:
    """As text."""
    return f"{size / _MIB:.1f} MiB"


def as_mebibytes(size: float) -> float:
    """Bytes in MiB."""
    return size / _MIB


def per_second(rate: float) -> str:
    """As text."""
    return f"{rate:.0f}/s"


def _cells(row: Row) -> tuple[str, ...]:
    reached = f"{row.value:.3g}" if row.value < 1000 else f"{row.value:.0f}"
    holds = {True: "yes", False: "NO", None: ""}[row.holds]
    target = str(row.target) if row.target else ""
    return row.case, row.ours, row.other, f"{reached} {row.unit}".strip(), target, holds
