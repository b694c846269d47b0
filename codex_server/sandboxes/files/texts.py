"""Texts read by lines: several files at once, each whole or a range of its lines."""

import os
import re

from .problem import Problem, problem_of
from .workspace import Workspace, head_of, shown, tag_of_content

_RANGE = re.compile(r"^(?P<path>.+):(?P<first>[0-9]{1,9})(?:-(?P<last>[0-9]{1,9})?)?$", re.DOTALL)
MOST_TEXT = 2 * 2**20
"""Bytes of a file that are read as text."""


def read_texts(
    workspace: Workspace, paths: list[str], *, line_numbers: bool = False, most: int = MOST_TEXT
) -> dict[str, object]:
    """The content of each of ``paths``, such as ``a.py`` or ``a.py:10-20``, or why it cannot be read.

    ``most`` bounds the characters of all of them together; a file that does not fit any more is an error of its own.
    """
    found, left = [], most
    for path in paths:
        entry = _entry(workspace, path, left, line_numbers=line_numbers)
        left -= len(str(entry.get("content") or ""))
        found.append(entry)
    return {"files": found}


def _entry(workspace: Workspace, written: str, left: int, *, line_numbers: bool) -> dict[str, object]:
    path, first, last = split_range(workspace, written)
    try:
        text, tag = read_text(workspace, path)
        if last is not None and last < first:
            raise Problem("invalid", f"{written!r} names lines that end before they begin")
        lines = lines_of(text)
        chosen = lines[first - 1 : last]
        content = "".join(_numbered(chosen, first) if line_numbers else chosen)
        if len(content) > left:
            raise Problem("too-large", f"{path!r} does not fit into one response; read a range of its lines")
    except Problem as problem:
        return {"path": shown(path), "content": None, "error": {"code": problem.code, "detail": problem.detail}}
    facts = {"lines": [first, first + len(chosen) - 1] if chosen else None, "total_lines": len(lines), "etag": tag}
    return {"path": shown(path), "content": content, "error": None, **facts}


def split_range(workspace: Workspace, written: str) -> tuple[str, int, int | None]:
    """The path, and the first and last line that are wanted; a file whose name looks like a range is that file."""
    match = _RANGE.match(written)
    if match is None or _is_file(workspace, written):
        return written, 1, None
    first = max(1, int(match["first"]))
    open_end = written.endswith("-")
    return match["path"], first, None if open_end else int(match["last"] or first)


def _is_file(workspace: Workspace, path: str) -> bool:
    try:
        os.close(workspace.open_file(path))
    except (OSError, Problem):
        return False
    return True


def read_text(workspace: Workspace, path: str) -> tuple[str, str]:
    """A file's text with its line endings, and its entity tag. Raises ``Problem``."""
    try:
        file = workspace.open_file(path)
    except OSError as error:
        raise problem_of(error, path) from None
    try:
        content = head_of(file, MOST_TEXT + 1)
        if len(content) > MOST_TEXT:
            raise Problem("too-large", f"{path!r} is larger than the {MOST_TEXT} bytes that are read as text")
        return content.decode("utf-8"), tag_of_content(content)  # of this very content, whatever comes after it
    except UnicodeDecodeError:
        raise Problem("not-text", f"{path!r} is no UTF-8 text") from None
    finally:
        os.close(file)


def lines_of(text: str) -> list[str]:
    """Lines with their ends, which are line feeds and nothing else: so compilers, editors and searches count them."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _numbered(lines: list[str], first: int) -> list[str]:
    width = len(str(first + len(lines)))
    return [f"{number:>{width}}  {line}" for number, line in enumerate(lines, first)]
