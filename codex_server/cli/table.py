"""Tables for the terminal: columns as wide as their widest cell, without a frame."""

from collections.abc import Iterable, Sequence


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return ``header`` in capitals above ``rows``, with two spaces between columns."""
    lines = [[cell.upper() for cell in header], *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
