"""What the standard streams of a program are to be, for whoever starts its worker. Standard library only."""

from dataclasses import dataclass
from typing import Annotated

from .codec import Range

MOST_CHARACTERS = 500
"""The most rows, and columns, that a terminal may have."""
Characters = Annotated[int, Range(1, MOST_CHARACTERS)]


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """The window of a terminal."""

    rows: Characters
    columns: Characters


@dataclass(frozen=True, slots=True)
class StdioOrder:
    """What the standard streams of a worker are to be; with ``merged`` both outputs are one pipe.

    With ``terminal`` all three are one pseudo-terminal.
    """

    merged: bool
    terminal: TerminalSize | None

    @property
    def ends(self) -> int:
        """How many descriptors the server is given: the input's, then those of the outputs."""
        return 2 if self.merged or self.terminal else 3
