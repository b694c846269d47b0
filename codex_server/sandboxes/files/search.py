"""Search in the files of a workspace: by ripgrep where the guest has it, else by Python."""

import contextlib
import fnmatch
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .problem import Problem
from .tree import walk
from .workspace import Workspace, shown

_MOST_LINE = 500
_MOST_FILE = 4 * 2**20
_SKIPPED = frozenset((".git", "node_modules", "__pycache__", ".venv"))
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Query:
    """``pattern`` is a regular expression; ``glob`` chooses files by name, or by path where it has a slash."""

    pattern: str
    path: str = ""
    glob: str | None = None
    ignore_case: bool = False


def search(workspace: Workspace, query: Query, *, most: int = 200) -> dict[str, object]:
    """Lines that match, at most ``most``; ``truncated``: there are more.

    ``engine`` is ``ripgrep``, which honours .gitignore, or ``python``, which leaves out version control and installed
    packages.
    """
    os.close(workspace.open_folder(query.path))
    program = shutil.which("rg")
    with contextlib.closing(
        _by_ripgrep(workspace, program, query) if program else _by_python(workspace, query)
    ) as found:
        matches = list(islice(found, most + 1))
    engine = "ripgrep" if program else "python"
    return {"matches": matches[:most], "truncated": len(matches) > most, "engine": engine}


def _by_python(workspace: Workspace, query: Query) -> Generator[dict[str, object], None, None]:
    try:
        wanted = re.compile(query.pattern.encode(), re.IGNORECASE if query.ignore_case else 0)
    except re.error as error:
        raise Problem("bad-pattern", f"the pattern is no regular expression: {error}") from None
    due, glob = time.monotonic() + SECONDS, query.glob
    for entry, _ in walk(workspace, query.path, 64):
        if _SKIPPED & set(entry.split("/")):
            continue
        if glob and not fnmatch.fnmatchcase(entry if "/" in glob else entry.rpartition("/")[2], glob):
            continue
        yield from _in_file(workspace, entry, wanted, due)


def _in_file(workspace: Workspace, path: str, wanted: "re.Pattern[bytes]", due: float) -> Iterator[dict[str, object]]:
    try:
        file = workspace.open_file(path)
    except (OSError, Problem):
        return
    try:
        content = os.pread(file, _MOST_FILE, 0)
    finally:
        os.close(file)
    if b"\0" in content[:8192]:
        return
    for number, line in enumerate(content.splitlines(), 1):
        if time.monotonic() > due:
            raise Problem("timeout", f"the search took more than {SECONDS:g} s; narrow it with `glob` or `path`")
        if wanted.search(line):
            yield {"path": shown(path), "line": number, "text": line.decode("utf-8", "replace")[:_MOST_LINE]}


def _by_ripgrep(workspace: Workspace, program: str, query: Query) -> Generator[dict[str, object], None, None]:
    options = ["--json", "--no-config", "--no-require-git", "--sort=path", "--max-filesize=4M"]
    options += ["--ignore-case"] if query.ignore_case else []
    options += ["--glob", query.glob] if query.glob else []
    command = [program, *options, "-e", query.pattern, "--", query.path or "."]
    folder, pipe = f"/proc/self/fd/{workspace.top}", subprocess.PIPE
    running = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    due = time.monotonic() + SECONDS
    try:
        for line in running.stdout or ():
            if time.monotonic() > due:
                raise Problem("timeout", f"the search took more than {SECONDS:g} s; narrow it with `glob` or `path`")
            message = json.loads(line)
            if message["type"] == "match":
                yield _match_of(message["data"])
        errors = running.stderr.read(2000).decode("utf-8", "replace").strip() if running.stderr else ""
        if running.wait() == 2 and "regex" in errors:
            raise Problem("bad-pattern", f"the pattern is no regular expression: {errors}")
    finally:
        running.kill()
        running.wait()


def _match_of(data: dict[str, Any]) -> dict[str, object]:
    text = data["lines"].get("text", "").rstrip("\n")
    path = data["path"].get("text", "?").removeprefix("./")
    return {"path": path, "line": data["line_number"], "text": text[:_MOST_LINE]}
