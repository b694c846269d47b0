"""Which paths a pattern means."""

import re
from collections.abc import Callable

_WILD = re.compile(r"\*\*/|\*\*|\*|\?|\[[^/\]]+\]")
_MEANINGS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matcher(pattern: str | None) -> Callable[[str], bool]:
    """Whether a path is meant: by its name, or by the whole path where ``pattern`` has a slash.

    ``*`` stays within a name, ``**`` crosses folders.
    """
    if not pattern:
        return lambda path: True
    wanted = re.compile(_expression(pattern), re.DOTALL)
    if "/" in pattern:
        return lambda path: wanted.fullmatch(path) is not None
    return lambda path: wanted.fullmatch(path.rpartition("/")[2]) is not None


def _expression(pattern: str) -> str:
    parts, end = [], 0
    for wild in _WILD.finditer(pattern):
        parts += [re.escape(pattern[end : wild.start()]), _MEANINGS.get(wild[0]) or _class(wild[0])]
        end = wild.end()
    return "".join([*parts, re.escape(pattern[end:])])


def _class(written: str) -> str:
    """``[a-z]``, or ``[!a-z]`` for all others; one that is no class is meant as it stands."""
    inside = written[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    expression = f"[^{inside[1:]}]" if inside.startswith("!") and len(inside) > 1 else f"[{inside}]"
    try:
        re.compile(expression)
    except re.error:
        return re.escape(written)
    return f"(?!/){expression}"
