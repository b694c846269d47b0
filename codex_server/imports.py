"""Which packages a Python program imports, read from its text; nothing is run.

It decides only where a program runs fastest, never what it may do: a wrong answer costs time, and nothing else. So it
may be quick rather than right: of a long program, or one that Python cannot parse, it looks at the first lines.
"""

import ast
import re
import warnings
from collections.abc import Collection, Iterable, Iterator

_MOST_PARSED = 12_000
"""Characters; parsing that many takes some 4 ms, in the event loop."""
_MOST_READ = 32_000
"""Characters of a longer program that are looked at: imports stand at its beginning."""
_STATEMENT = re.compile(r"^[ \t]*(import|from)[ \t]+([^\n;#]{1,300})", re.MULTILINE)
_CALL = re.compile(r"""(?:__import__|import_module)\(\s*["'](\w+)""")
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def needs(code: str, names: Collection[str]) -> bool:
    """Whether the program imports any of ``names`` (of top-level packages)."""
    return any(name in code for name in names) and not imported_packages(code).isdisjoint(names)


def speaks_of(texts: Iterable[str], words: Collection[str]) -> bool:
    """Whether a word in any of ``texts`` begins with one of ``words``, or the part of it after an underscore does."""
    if not words:
        return False
    beginning = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, sorted(words)))})")
    return any(beginning.search(text) for text in texts)


def imported_packages(code: str) -> frozenset[str]:
    """The top-level packages that the program imports, wherever in it; relative imports apart."""
    tree = _parse(code) if len(code) <= _MOST_PARSED else None
    found = set(_imports_of_lines(code) if tree is None else _imports_of_tree(tree))
    found.update(_CALL.findall(code[:_MOST_READ]))
    return frozenset(found)


def _parse(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # the program's own escapes, which it hears of when it runs
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # NUL, half characters, depth
        return None


def _imports_of_tree(tree: ast.Module) -> Iterator[str]:
    """Statements only are walked: no expression can hold an import."""
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
