"""What is in a project, at one glance: its languages, what it says of itself, its git state, its tree."""

import os
import stat
from collections.abc import Iterator
from itertools import islice

from .git_state import git_state
from .problem import Problem
from .texts import read_text
from .tree import walk
from .workspace import Workspace, shown

_MOST_ENTRIES = 20_000
_MOST_GUIDE = 4000
_MOST_LANGUAGES = 20
_GUIDES = ("AGENTS.md", "CLAUDE.md", "README.md", "README.rst", "README.txt", "README")
_LEFT_OUT = frozenset((".git", "node_modules", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"))
_MARKS = frozenset(
    (*_GUIDES, "pyproject.toml", "package.json", "Makefile", "Cargo.toml", "go.mod", "Dockerfile", "requirements.txt")
)
"""Files that say what a project is: they come first."""
_LANGUAGES = {
    "Bash": "sh bash",
    "C": "c h",
    "C#": "cs",
    "C++": "cc cpp cxx hpp hh",
    "CSS": "css scss less",
    "Go": "go",
    "HTML": "html htm",
    "Java": "java",
    "JavaScript": "js mjs cjs jsx",
    "Jupyter": "ipynb",
    "Kotlin": "kt kts",
    "Lua": "lua",
    "Markdown": "md",
    "PHP": "php",
    "Perl": "pl pm",
    "Python": "py pyi",
    "R": "r",
    "Ruby": "rb",
    "Rust": "rs",
    "SQL": "sql",
    "Swift": "swift",
    "TypeScript": "ts mts cts tsx",
}
_BY_ENDING = {ending: language for language, endings in _LANGUAGES.items() for ending in endings.split()}


def overview(workspace: Workspace, *, most: int = 20_000) -> dict[str, object]:
    """``most`` bounds the characters of the tree. What is installed or generated is left out."""
    found = list(islice(_kept(workspace), _MOST_ENTRIES + 1))
    whole = len(found) <= _MOST_ENTRIES
    files = {path: status for path, status in found if not stat.S_ISDIR(status.st_mode)}
    shown_tree = _tree(found[:_MOST_ENTRIES], most)
    return {
        "files": len(files),
        "truncated": not whole,
        "languages": _languages(files),
        "guides": [guide for name in _GUIDES if (guide := _guide(workspace, name))],
        "git": git_state(workspace, files, whole=whole),
        "tree": shown_tree,
        "tree_truncated": len(shown_tree) < len(found),
    }


def _kept(workspace: Workspace) -> Iterator[tuple[str, os.stat_result]]:
    return ((path, status) for path, status in walk(workspace, "", 32) if not _LEFT_OUT & set(path.split("/")))


def _languages(files: dict[str, os.stat_result]) -> list[dict[str, object]]:
    """Those with the most bytes first."""
    sums: dict[str, tuple[int, int]] = {}
    for path, status in files.items():
        language = _BY_ENDING.get(path.rpartition("/")[2].rpartition(".")[2].lower()) if "." in path else None
        if language:
            count, size = sums.get(language, (0, 0))
            sums[language] = count + 1, size + status.st_size
    ranked = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
    return [{"name": name, "files": count, "bytes": size} for name, (count, size) in ranked[:_MOST_LANGUAGES]]


def _guide(workspace: Workspace, name: str) -> dict[str, object] | None:
    try:
        text, _ = read_text(workspace, name)
    except Problem:
        return None
    return {"path": name, "head": text[:_MOST_GUIDE], "truncated": len(text) > _MOST_GUIDE}


def _tree(found: list[tuple[str, os.stat_result]], most: int) -> list[str]:
    """As many paths as fit, in the order of the paths: what is high up, says what it is, or was changed last."""
    chosen, left = [], most
    for path, status in sorted(found, key=lambda one: _rank(*one)):
        line = shown(path) + ("/" if stat.S_ISDIR(status.st_mode) else "")
        left -= len(line) + 1
        if left < 0:
            break
        chosen.append((path.split("/"), line))
    return [line for _, line in sorted(chosen)]


def _rank(path: str, status: os.stat_result) -> tuple[object, ...]:
    name = path.rpartition("/")[2]
    return path.count("/"), name not in _MARKS, name.startswith("."), -status.st_mtime, path
