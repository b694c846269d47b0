"""Finds the packages that a Python program imports, from its text; nothing is run.

The result only selects the pool where a program runs fastest: a wrong result costs time and nothing else. So this is
fast rather than exact: it reads only the first lines of a long program, or of one that Python cannot parse.
"""

import ast
import re
import warnings
from collections.abc import Collection, Iterable, Iterator

_MOST_PARSED = 12_000
"""Characters; parsing that many takes about 4 ms, in the event loop."""
_MOST_READ = 32_000
"""Characters of a longer program that are searched: imports are at its beginning."""
_STATEMENT = re.compile(r"^[ \t]*(import|from)[ \t]+([^\n;#]{1,300})", re.MULTILINE)
_CALL = re.compile(r"""(?:__import__|import_module)\(\s*["'](\w+)""")
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def needs(code: str, names: Collection[str]) -> bool:
    """Return whether the program imports any of ``names`` (top-level packages)."""
    return any(name in code for name in names) and not imported_packages(code).isdisjoint(names)


def speaks_of(texts: Iterable[str], words: Collection[str]) -> bool:
    """Return whether a word in ``texts``, or its part after an underscore, begins with one of ``words``."""
    if not words:
        return False
    beginning = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, sorted(words)))})")
    return any(beginning.search(text) for text in texts)


def imported_packages(code: str) -> frozenset[str]:
    """Return the top-level packages that the program imports anywhere, without relative imports."""
    tree = _parse(code) if len(code) <= _MOST_PARSED else None
    found = set(_imports_of_lines(code) if tree is None else _imports_of_tree(tree))
    found.update(_CALL.findall(code[:_MOST_READ]))
    return frozenset(found)


def _parse(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # about the program's own escapes; shown when it runs
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # NUL, surrogates, depth
        return None


def _imports_of_tree(tree: ast.Module) -> Iterator[str]:
    """Walk statements only: no expression can contain an import."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        for block in _BLOCKS:
            waiting += getattr(node, block, ())


def _imports_of_lines(code: str) -> Iterator[str]:
    for keyword, rest in _STATEMENT.findall(code[:_MOST_READ]):
        for part in rest.split(",") if keyword == "import" else (rest,):
            if name := part.strip().partition(" ")[0].partition(".")[0]:
                yield name
