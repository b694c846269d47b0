"""The rows that a statement returned: as JSON holds them, and as a table for people."""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

_MOST_SHOWN = 100
_WIDEST = 60
Row = list[Any]


@dataclass(frozen=True)
class Table:
    """``row_count``: of ``rows``, or what a statement that returns none has changed. ``truncated``: there were more."""

    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    row_count: int = 0
    truncated: bool = False

    def as_json(self) -> dict[str, Any]:
        """The four fields."""
        return asdict(self)

    def as_text(self) -> str:
        """An aligned table with the number of its rows; long cells and long tables are cut."""
        if not self.columns:
            return _rows(self.row_count, "changed")
        lines = [list(map(_shorten, line)) for line in (self.columns, *self.rows[:_MOST_SHOWN])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        numbers = [
            all(isinstance(cell, int | float | None) for cell in column) for column in zip(*self.rows, strict=True)
        ]
        text = [_aligned(line, widths, numbers if number > 1 else []) for number, line in enumerate(lines)]
        hidden = self.row_count - len(self.rows[:_MOST_SHOWN])
        more = f", {hidden} not shown" if hidden else ""
        return "\n".join([*text, f"({_rows(self.row_count, 'and more' if self.truncated else '')}{more})"])


def cell(value: Any) -> Any:
    """A value of SQLite's as JSON holds it."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not isfinite(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def size(row: Row) -> int:
    """About how many characters the row takes in JSON."""
    return sum(len(value["base64"]) if isinstance(value, dict) else len(str(value)) + 4 for value in row)


def _rows(number: int, what: str) -> str:
    return f"{number} row{'s' if number != 1 else ''} {what}".rstrip()


def _shorten(value: Any) -> str:
    if value is None:
        return "NULL"
    text = f"<blob {value['base64']}>" if isinstance(value, dict) else str(value)
    text = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _aligned(line: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    right = numbers or [False] * len(line)
    padded = [
        text.rjust(width) if number else text.ljust(width)
        for text, width, number in zip(line, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()
