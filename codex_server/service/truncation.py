"""Making a response fit into so many characters of JSON: files give way first, then the middle of long streams.

Pure. Sizes are characters of the encoded response, for that is what ChatGPT counts: a control character costs six.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from codex_server.execution.capture import mark
from codex_server.languages import Languages
from codex_server.model import MANY, Execution, Outcome
from codex_server.sandboxes.guest.rank import rank
from codex_server.service.cell_results import shorten_result
from codex_server.service.hints import hint_for
from codex_server.service.response import build_response, explain, join_error, linked_file
from codex_server.service.schemas import ExecuteResponse, LeftOutFile, LinkedFile, ResponseFile
from codex_server.service.session_schemas import SessionExecuteResponse

_NO_ROOM = "left out to keep the response within its size; print what matters, or write less"
_LIST_SHARE = 10
"""The list of files that are left out takes at most a tenth of the response when room is short."""
_LIST_SLACK = 300
"""What its last words, that some are not listed here or in the sandbox, take beyond that."""

_MOST_BESIDE_STREAMS = 2_000
"""Characters of a response without its streams, ``error`` and files: names, numbers and one id, under 900."""
_MOST_FOR_A_CHARACTER = 6


Links = tuple[LinkedFile | None, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """How a response is written: its JSON, how often each stream stands in it, and what hangs on the streams.

    ``slack`` is what their being there may cost beside their text.
    """

    encode: Callable[[ExecuteResponse], str]
    copies: int
    slack: int


def encode(response: ExecuteResponse) -> str:
    """The JSON that goes out."""
    return response.model_dump_json()


WHOLE = Form(encode, copies=2, slack=8)
"""Every field. stdout is in it also as `output`, stderr also in `error`. The slack is two `false` for `true`, a line
break in `error`, quotes for null."""


def fitted_response(
    execution: Execution, outcome: Outcome, languages: Languages, max_chars: int, form: Form = WHOLE
) -> ExecuteResponse:
    """The response for ``outcome``, with hints, whose JSON has at most ``max_chars`` characters (10,000 or more)."""
    reason = explain(outcome)
    hint = hint_for(execution, outcome, languages)
    return fit(build_response(outcome, reason), reason, max_chars, hint, form, links=links_of(outcome))


def links_of(outcome: Outcome) -> Links:
    """The entry of each file without its content, or None, in the order of the response's files."""
    return tuple(map(linked_file, outcome.ending.files))


def fit(
    response: ExecuteResponse,
    reason: str | None,
    max_chars: int,
    hint: str | None = None,
    form: Form = WHOLE,
    *,
    links: Links = (),
) -> ExecuteResponse:
    """``response``, changed as little as makes its JSON at most ``max_chars`` long (10,000 or more).

    ``reason`` is the part of ``error`` before standard error, ``hint`` the one after; they are never shortened.
    Where there is no room for a file's content, its entry in ``links`` takes the place, if there is one.
    """
    response = _with_streams(
        response, _clip(response.stdout, max_chars), _clip(response.stderr, max_chars), reason, hint
    )
    if _surely_fits(response, max_chars) or len(form.encode(response)) <= max_chars:
        return response
    response = _leave_out_files(_shorten_result(response, max_chars, form), max_chars, form, links)
    if len(form.encode(response)) <= max_chars:
        return response
    return _shorten_streams(_shorten_list(response, max_chars // _LIST_SHARE), reason, max_chars, hint, form)


def _surely_fits(response: ExecuteResponse, max_chars: int) -> bool:
    """Whether even the longest JSON of ``response`` is short enough: then it need not be encoded to be measured."""
    if response.files or response.skipped_files or (isinstance(response, SessionExecuteResponse) and response.result):
        return False
    texts = response.output, response.stdout, response.stderr, response.error or ""
    return _MOST_BESIDE_STREAMS + _MOST_FOR_A_CHARACTER * sum(map(len, texts)) <= max_chars


def shorten(text: str, room: int, total_bytes: int) -> str:
    """``text`` when its JSON costs at most ``room`` characters, else its head and tail with a mark between.

    The mark says how many of the stream's ``total_bytes`` are left out, here and before.
    """
    if len(text) <= room and _cost(text) <= room:
        return text
    kept = _most_kept(text, room - _cost(mark(max(total_bytes, len(text)))))
    head, tail = text[: (kept + 1) // 2], text[len(text) - kept // 2 :]
    return head + mark(max(1, total_bytes - len(head.encode()) - len(tail.encode()))) + tail


def _shorten_result(response: ExecuteResponse, max_chars: int, form: Form) -> ExecuteResponse:
    """The result of a cell in what streams and a list of files leave of the room; half of the room in any case."""
    if not isinstance(response, SessionExecuteResponse) or response.result is None:
        return response
    others = response.model_copy(update={"result": None, "files": [], "skipped_files": []})
    listed = max_chars // _LIST_SHARE + _LIST_SLACK if response.files or response.skipped_files else 0
    room = max(max_chars // 2, max_chars - len(form.encode(others)) - form.slack - listed)
    result = shorten_result(response.result, room, shorten)
    if result == response.result:
        return response
    truncated = response.truncated.model_copy(update={"result": True})
    return response.model_copy(update={"result": result, "truncated": truncated})


def _leave_out_files(response: ExecuteResponse, max_chars: int, form: Form, links: Links) -> ExecuteResponse:
    """As many files as there is room for: figures first, then the shortest; the rest is listed, in order of paths.

    Links go before contents: a file that is only listed is lost.
    """
    room = max_chars - len(form.encode(response.model_copy(update={"files": [], "skipped_files": []}))) - form.slack
    files = dict(enumerate(response.files))
    entries = {index: _left_out(file) for index, file in files.items()}
    listed = sum(map(_entry_cost, [*response.skipped_files, *entries.values()]))
    chosen: dict[int, ResponseFile | LinkedFile] = {}
    forms = ({index: link for index, link in enumerate(links) if link}, files)
    for choice in forms:
        for index in sorted(choice, key=lambda index: rank(choice[index].path, _entry_cost(files[index]))):
            before = _entry_cost(chosen[index]) if index in chosen else 0
            rest = listed if index in chosen else listed - _entry_cost(entries[index])
            cost = _entry_cost(choice[index]) - before
            if cost + min(rest, max_chars // _LIST_SHARE + _LIST_SLACK) <= room:
                chosen[index], room, listed = choice[index], room - cost, rest
    left_out = (entry for index, entry in entries.items() if index not in chosen)
    skipped = sorted([*response.skipped_files, *left_out], key=lambda entry: (entry.path == MANY, entry.path))
    return response.model_copy(update={"files": [chosen[index] for index in sorted(chosen)], "skipped_files": skipped})


def _left_out(file: ResponseFile | LinkedFile) -> LeftOutFile:
    return LeftOutFile(path=file.path, size=file.size, reason=_NO_ROOM)


def _entry_cost(entry: ResponseFile | LinkedFile | LeftOutFile) -> int:
    return len(entry.model_dump_json()) + 1


def _shorten_list(response: ExecuteResponse, room: int) -> ExecuteResponse:
    listed = [entry for entry in response.skipped_files if entry.path != MANY]
    kept = sum(used <= room for used in accumulate(map(_entry_cost, listed)))
    if kept == len(listed):
        return response
    more = len(listed) - kept
    rest = LeftOutFile(path=MANY, size=None, reason=f"{more} more are not listed, to keep the response within its size")
    many = [entry for entry in response.skipped_files if entry.path == MANY]
    return response.model_copy(update={"skipped_files": [*listed[:kept], *many, rest]})


def _shorten_streams(
    response: ExecuteResponse, reason: str | None, max_chars: int, hint: str | None, form: Form
) -> ExecuteResponse:
    room = (max_chars - len(form.encode(_with_streams(response, "", "", reason, hint))) - form.slack) // form.copies
    out_cost, err_cost = (_cost(text) if len(text) < room else room for text in (response.stdout, response.stderr))
    stdout = shorten(response.stdout, max(room // 2, room - err_cost), response.usage.stdout_bytes)
    stderr = shorten(response.stderr, max(room // 2, room - out_cost), response.usage.stderr_bytes)
    return _with_streams(response, stdout, stderr, reason, hint)


def _clip(text: str, max_chars: int) -> str:
    """``text`` without a middle that has no room in any case: what comes after costs by what is left."""
    return text if len(text) <= 2 * max_chars else text[:max_chars] + text[-max_chars:]


def _with_streams(
    response: ExecuteResponse, stdout: str, stderr: str, reason: str | None, hint: str | None
) -> ExecuteResponse:
    cut = {
        "stdout": response.truncated.stdout or stdout != response.stdout,
        "stderr": response.truncated.stderr or stderr != response.stderr,
    }
    truncated = response.truncated.model_copy(update=cut)
    streams = {"stdout": stdout, "output": stdout, "stderr": stderr, "error": join_error(reason, stderr, hint)}
    return response.model_copy(update={**streams, "truncated": truncated})


def _most_kept(text: str, room: int) -> int:
    """How many characters, half from each end, cost at most ``room``."""
    low, high = 0, min(len(text), max(0, room))
    while low < high:
        middle = (low + high + 1) // 2
        if _cost(text[: (middle + 1) // 2]) + _cost(text[len(text) - middle // 2 :]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _cost(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False)) - 2
