"""Edits of a text: search and replace blocks, all of them or none."""

import ast
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .content import replace, write_all
from .problem import Problem, problem_of
from .texts import read_text
from .workspace import Workspace

_MOST_LINES_COMPARED, _MOST_COMPARED = 2000, 200
_SHOWN_LINES = 3
_LIKE = 0.3
"""How much of a line another one must have to be shown; unrelated lines of one language have less."""
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the one place where ``search`` stands by ``replace``."""

    search: str
    replace: str


@dataclass(frozen=True, slots=True)
class _Span:
    """Lines ``first`` to ``last`` (exclusive) of a text, or for an exact match characters of it."""

    begin: int
    end: int


def edit(workspace: Workspace, path: str, edits: list[Edit], *, if_match: str | None = None) -> dict[str, object]:
    """Apply ``edits`` to a file, one after the other; a text is found exactly once, or nothing is changed.

    A search that is not found as it stands is tried without regard to white space at line ends, then to indentation;
    ``applied`` says how each was found. ``warnings`` are syntax errors of the result.
    """
    text, tag = read_text(workspace, path)
    if if_match not in (None, "*", tag):
        raise Problem("changed", f"{path!r} is not what it was when you read it", etag=tag)
    bom, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    ending = "\r\n" if "\r\n" in body and "\n" not in body.replace("\r\n", "") else "\n"
    body = body.replace("\r\n", "\n") if ending == "\r\n" else body
    applied = []
    for number, each in enumerate(edits):
        body, how, line = _apply(body, each, number, path)
        applied.append({"line": line, "match": how})
    result = bom + (body.replace("\n", ending) if ending != "\n" else body)
    facts = _write(workspace, path, result, tag)
    return {"path": path, "etag": facts["etag"], "was": tag, "applied": applied, "warnings": warnings_of(path, body)}


def _write(workspace: Workspace, path: str, text: str, tag: str) -> Mapping[str, object]:
    def fill(file: int, _: str) -> None:
        write_all(file, text.encode())

    try:
        with workspace.at(path) as place:
            return replace(workspace, place, fill, if_match=tag)
    except OSError as error:
        raise problem_of(error, path) from None


def _apply(body: str, edit: Edit, number: int, path: str) -> tuple[str, str, int]:
    """The text after one edit, how its place was found, and in which line."""
    if not edit.search:
        raise Problem("invalid", f"edit {number}: `search` is empty; to make a file, write it", edit=number)
    search, new = edit.search.replace("\r\n", "\n"), edit.replace.replace("\r\n", "\n")
    found = [match.start() for match in re.finditer(f"(?={re.escape(search)})", body)]
    if len(found) == 1:
        begin = found[0]
        return body[:begin] + new + body[begin + len(search) :], "exact", body.count("\n", 0, begin) + 1
    if found:
        raise _ambiguous(number, [body.count("\n", 0, begin) + 1 for begin in found])
    for how, form in (("trailing-whitespace", str.rstrip), ("indentation", str.strip)):
        spans = list(_spans(body, search, form))
        if len(spans) > 1:
            raise _ambiguous(number, [span.begin + 1 for span in spans])
        if spans:
            return _replace_lines(body, spans[0], search, new, how), how, spans[0].begin + 1
    raise _not_found(body, search, number, path)


def _spans(body: str, search: str, form: Callable[[str], str]) -> Iterator[_Span]:
    """Where lines stand that are those of ``search`` once ``form`` was applied to both."""
    lines, wanted = [form(line) for line in body.split("\n")], [form(line) for line in search.strip("\n").split("\n")]
    if not any(wanted):
        return
    for begin in range(len(lines) - len(wanted) + 1):
        if lines[begin : begin + len(wanted)] == wanted:
            yield _Span(begin, begin + len(wanted))


def _replace_lines(body: str, span: _Span, search: str, new: str, how: str) -> str:
    lines = body.split("\n")
    new = _without_ends(search, new)
    fresh = new.split("\n") if new else []
    if how == "indentation":
        fresh = _indented(fresh, search.strip("\n").split("\n"), lines[span.begin : span.end])
    return "\n".join([*lines[: span.begin], *fresh, *lines[span.end :]])


def _without_ends(search: str, new: str) -> str:
    """``new`` without as many line feeds at its ends as ``search`` has at its own: whole lines are replaced."""
    for _ in range(len(search) - len(search.lstrip("\n"))):
        new = new.removeprefix("\n")
    for _ in range(len(search) - len(search.rstrip("\n"))):
        new = new.removesuffix("\n")
    return new


def _indented(fresh: list[str], wanted: list[str], found: list[str]) -> list[str]:
    """``fresh`` moved as far as the first line was that is not empty."""
    for one, other in zip(wanted, found, strict=True):
        if one.strip():
            before, after = _indent(one), _indent(other)
            break
    return [_moved(line, before, after) if line.strip() else line for line in fresh]


def _moved(line: str, before: str, after: str) -> str:
    """``line`` with the indentation ``after`` where the text that was searched for had ``before``."""
    if line.startswith(before):
        return after + line[len(before) :]
    if after.startswith(before):
        return after[len(before) :] + line
    surplus = len(before) - len(after)
    return line[min(surplus, len(_indent(line))) :] if surplus > 0 else line


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _ambiguous(number: int, lines: list[int]) -> Problem:
    places = ", ".join(map(str, lines[:10]))
    detail = f"edit {number}: `search` stands at {len(lines)} places (lines {places}); add lines around it to name one"
    return Problem("ambiguous", detail, edit=number, lines=lines[:10])


def _not_found(body: str, search: str, number: int, path: str) -> Problem:
    near = closest(body.split("\n"), search.strip("\n").split("\n"))
    detail = f"edit {number}: `search` does not stand in {path!r}; nothing was changed, "
    detail += f"the closest lines are in `closest`, from line {near['line']} on" if near else "and no line is like it"
    return Problem("no-match", detail, edit=number, closest=near)


def closest(lines: list[str], wanted: list[str]) -> dict[str, object] | None:
    """The lines that are most like ``wanted``, with the number of the first; None where no line is like one of it.

    They are found by the longest line of ``wanted``. Bounded, for comparing is slow.
    """
    best, place = _LIKE, -1
    above = max(range(len(wanted)), key=lambda index: len(wanted[index].strip()))
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted[above].strip()[:_MOST_COMPARED])
    for index, line in enumerate(lines[:_MOST_LINES_COMPARED]):
        matcher.set_seq1(line.strip()[:_MOST_COMPARED])
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best and (ratio := matcher.ratio()) > best:
            best, place = ratio, index
    if place < 0:
        return None
    place = max(0, place - above)
    shown = lines[place : place + max(_SHOWN_LINES, min(len(wanted), 20))]
    return {"line": place + 1, "text": "\n".join(shown)[:4000]}


def warnings_of(path: str, text: str) -> list[str]:
    """Syntax errors of a Python or JSON file."""
    try:
        if path.endswith(".py"):
            ast.parse(text)
        elif path.endswith(".json"):
            json.loads(text)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    except (ValueError, RecursionError, MemoryError) as error:  # the parser's stack is full, not the memory
        return [str(error) or "it is nested too deeply to be checked"]
    return []
