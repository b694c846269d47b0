"""Which paths of a workspace a pattern means: ``*`` and ``?`` stay within a name, ``**`` crosses folders.

A caller writes the patterns, a guest the paths, and the server compares them: by an automaton, whose time grows with
the length of the path. A regular expression with many ``*`` could go back and forth for ever.
"""

import re
from collections.abc import Callable, Iterable


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path is meant by one of ``patterns``. One without ``/`` means names in every folder: ``*.csv``."""
    return _Automaton(patterns).takes


class _Automaton:
    """That of all patterns, which lie one after the other. A set of its states is a number with a bit for each."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._advance: dict[str, int] = {}
        """States that a character leads on to the next one."""
        self._advance_in_name = self._stay_in_name = self._stay = 0
        """States that any character of a name leads on, that it leaves as they are, and that any character does."""
        self._pass = self._pass_folders = 0
        """States that lead on by themselves: to the next one, and to the one after that."""
        starts = self._ends = 0
        state = 1
        for pattern in patterns:
            starts |= state
            written = pattern.removeprefix("./").rstrip("/")
            if "/" not in written:
                written = f"**/{written}"
            for piece in re.findall(r"\*\*/?|\*|\?|[^*?]", written, re.DOTALL):
                state = self._add(piece, state)
            self._ends |= state
            state <<= 1
        self._start = self._passed(starts)

    def _add(self, piece: str, state: int) -> int:
        """The state after ``piece``, which begins in ``state``."""
        match piece:
            case "**/":  # nothing, or anything that ends with a slash
                self._pass |= state
                self._pass_folders |= state
                self._stay |= state << 1
                self._advance["/"] = self._advance.get("/", 0) | state << 1
                return state << 2
            case "**":
                self._stay |= state
                self._pass |= state
            case "*":
                self._stay_in_name |= state
                self._pass |= state
            case "?":
                self._advance_in_name |= state
            case _:
                self._advance[piece] = self._advance.get(piece, 0) | state
        return state << 1

    def takes(self, path: str) -> bool:
        """Whether a pattern ends with ``path``, or with a folder above it: a folder means all that is in it."""
        states = self._start
        for character in path:
            if character == "/" and states & self._ends:
                return True
            led = states & self._advance.get(character, 0)
            kept = states & self._stay
            if character != "/":
                led |= states & self._advance_in_name
                kept |= states & self._stay_in_name
            states = self._passed(led << 1 | kept)
            if not states:
                return False
        return bool(states & self._ends)

    def _passed(self, states: int) -> int:
        """``states`` with those that they lead to by themselves."""
        while more := ((states & self._pass) << 1 | (states & self._pass_folders) << 2) & ~states:
            states |= more
        return states
