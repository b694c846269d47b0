"""Tables for the terminal: columns as wide as their widest cell, without a frame."""

from collections.abc import Iterable, Sequence


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return ``header`` in capitals above ``rows``, with two spaces between columns."""
    return "\n".join(Columns(header).lines([[cell.upper() for cell in header], *rows]))


class Columns:
    """The lines of a table that grows: no column becomes narrower, so that later lines stay below earlier ones."""

    def __init__(self, header: Sequence[str]) -> None:
        self._widths = list(map(len, header))

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """Each row as a line."""
        lines = list(map(list, rows))
        for line in lines:
            self._widths = list(map(max, self._widths, map(len, line)))
        return ["  ".join(map(str.ljust, line, self._widths)).rstrip() for line in lines]


def printable(text: str) -> str:
    """Return ``text`` without what a terminal would obey: control characters are shown as escapes, line ends stay."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )
