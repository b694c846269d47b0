"""What the standard streams of a program are to be, for whoever starts its worker. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StdioOrder:
    """What the standard streams of a worker are to be; with ``merged`` both outputs are one pipe."""

    merged: bool

    @property
    def ends(self) -> int:
        """How many descriptors the server is given: the input's, then those of the outputs."""
        return 2 if self.merged else 3
