"""Which paths of a workspace a pattern means: ``*`` and ``?`` stay within a name, ``**`` crosses folders."""

import re
from collections.abc import Callable, Iterable


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path is meant by one of ``patterns``. One without ``/`` means names in every folder: ``*.csv``."""
    expressions = [re.compile(_expression(pattern)) for pattern in patterns]
    return lambda path: any(expression.fullmatch(path) for expression in expressions)


def _expression(pattern: str) -> str:
    written = pattern.removeprefix("./").rstrip("/")
    if "/" not in written:
        written = f"**/{written}"
    # A folder means all that is in it.
    return "".join(map(_piece, re.findall(r"\*\*/?|\*|\?|[^*?]+", written))) + r"(/.*)?"


def _piece(piece: str) -> str:
    match piece:
        case "**/":
            return r"(?:.*/)?"
        case "**":
            return r".*"
        case "*":
            return r"[^/]*"
        case "?":
            return r"[^/]"
        case _:
            return re.escape(piece)
