"""Search in the files of a workspace: by ripgrep where the guest has it, else by Python."""

import base64
import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .globs import matcher
from .problem import Problem
from .time_limit import ended_after
from .tree import MOST_IN_NAMES, walk
from .workspace import Workspace, head_of, shown

_MOST_LINE = 500
_MOST_FILE = 4 * 2**20
_SKIPPED = frozenset((".git", "node_modules", "__pycache__", ".venv"))
SECONDS = 10.0


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
        matches = list(islice(_with_room(found), most + 1))
    engine = "ripgrep" if program else "python"
    return {"matches": matches[:most], "truncated": len(matches) > most, "engine": engine}


def _with_room(found: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Matches as long as their paths and texts fit into a reply, and one more."""
    room = MOST_IN_NAMES
    for match in found:
        yield match
        room -= len(str(match["path"])) + len(str(match["text"]))
        if room < 0:
            return


def _by_python(workspace: Workspace, query: Query) -> Generator[dict[str, object], None, None]:
    try:
        wanted = re.compile(query.pattern, re.IGNORECASE if query.ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise Problem("bad-pattern", f"the pattern is no regular expression: {error}") from None
    meant = matcher(query.glob)
    with ended_after(SECONDS, _took_too_long()):
        for entry, _ in walk(workspace, query.path):
            if _SKIPPED.isdisjoint(entry.split("/")) and meant(entry):
                yield from _in_file(workspace, entry, wanted)


def _in_file(workspace: Workspace, path: str, wanted: "re.Pattern[str]") -> Iterator[dict[str, object]]:
    try:
        file = workspace.open_file(path)
    except (OSError, Problem):
        return
    try:
        content = head_of(file, _MOST_FILE)
    finally:
        os.close(file)
    if b"\0" in content[:8192]:
        return
    for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), 1):
        if wanted.search(line):
            yield {"path": shown(path), "line": number, "text": line.rstrip("\r")[:_MOST_LINE]}


def _by_ripgrep(workspace: Workspace, program: str, query: Query) -> Generator[dict[str, object], None, None]:
    options = ["--json", "--no-config", "--no-messages", "--no-require-git", "--sort=path", "--max-filesize=4M"]
    options += ["--ignore-case"] if query.ignore_case else []
    options += ["--glob", query.glob] if query.glob else []
    command, pipe = [program, *options, "-e", query.pattern, "--", "."], subprocess.PIPE
    folder = workspace.open_folder(query.path)  # what ripgrep is given by name it would follow, were it a link by then
    try:
        running = subprocess.Popen(
            command, cwd=f"/proc/self/fd/{folder}", stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    finally:
        os.close(folder)
    with running, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(running.kill)
        for line in _lines(running, time.monotonic() + SECONDS):
            message = json.loads(line)
            if message["type"] == "match":
                yield _match_of(message["data"], query.path)
        _check_end(running)


def _lines(running: "subprocess.Popen[bytes]", due: float) -> Iterator[bytes]:
    assert running.stdout is not None  # noqa: S101 - it is a pipe
    pending = b""
    while True:
        ready, _, _ = select.select([running.stdout], [], [], max(0.0, due - time.monotonic()))
        if not ready:
            raise Problem("timeout", _took_too_long())
        part = os.read(running.stdout.fileno(), 2**16)
        if not part:
            return
        *whole, pending = (pending + part).split(b"\n")
        yield from whole


def _took_too_long() -> str:
    return (
        f"the search took more than {SECONDS:g} s; narrow it with `glob` or `path`, and repeat nothing in `pattern` "
        "that repeats something itself, such as `(a+)+`"
    )


def _check_end(running: "subprocess.Popen[bytes]") -> None:
    errors = running.stderr.read(2000).decode("utf-8", "replace").strip() if running.stderr else ""
    if running.wait() not in (0, 1) and errors:
        raise Problem("bad-pattern", f"ripgrep cannot search for that: {errors}")


def _match_of(data: dict[str, Any], below: str) -> dict[str, object]:
    path = _text(data["path"]).removeprefix("./")
    text = _text(data["lines"]).rstrip("\r\n")[:_MOST_LINE]
    return {"path": f"{below}/{path}" if below else path, "line": data["line_number"], "text": text}


def _text(found: dict[str, str]) -> str:
    """What ripgrep found, which is in base64 where it is no UTF-8."""
    return found["text"] if "text" in found else base64.b64decode(found["bytes"]).decode("utf-8", "replace")
