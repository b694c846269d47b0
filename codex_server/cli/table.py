"""A table for the terminal: columns as wide as their widest cell, no frame."""

from collections.abc import Iterable, Sequence


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """``header`` in capitals over ``rows``, two spaces between columns, nothing trailing."""
    lines = [[cell.upper() for cell in header], *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
