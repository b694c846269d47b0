"""From an ``Outcome`` to the response: every field, the first contract's names, a reason that a model can act on."""

import base64
import signal as signals
from collections.abc import Callable, Mapping

from codex_server.mediatypes import media_type
from codex_server.model import Captured, Ending, Outcome, OutputFile, SessionState, Status, Stop
from codex_server.service.cell_results import readable_result
from codex_server.service.schemas import ExecuteResponse, LeftOutFile, LinkedFile, ResponseFile, Truncated, Usage
from codex_server.service.session_schemas import SessionExecuteResponse, SessionTruncated
from codex_server.units import format_seconds, format_size


def build_response(outcome: Outcome, reason: str | None) -> ExecuteResponse:
    """The whole response, however long, with the ``reason`` of ``explain``; ``truncation.fit`` shortens it."""
    ending, stdout, stderr = outcome.ending, outcome.stdout, outcome.stderr
    response = ExecuteResponse(
        execution_id=outcome.execution_id,
        status=outcome.status,
        output=stdout.text,
        error=join_error(reason, stderr.text),
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        execution_time=round(ending.wall_seconds, 6),
        timestamp=ending.started_at,
        stdout=stdout.text,
        stderr=stderr.text,
        truncated=Truncated(stdout=stdout.truncated, stderr=stderr.truncated),
        usage=_usage(outcome.queue_seconds, ending, stdout, stderr),
        files=[response_file(file) for file in ending.files],
        skipped_files=[
            LeftOutFile(path=readable_name(file.path), size=file.size, reason=readable_name(file.reason))
            for file in ending.skipped_files
        ],
    )
    return _in_session(response, outcome, outcome.session) if outcome.session else response


def _in_session(response: ExecuteResponse, outcome: Outcome, state: SessionState) -> SessionExecuteResponse:
    cell = outcome.ending.cell
    truncated = SessionTruncated(**dict(response.truncated), result=False)
    return SessionExecuteResponse(
        **dict(response) | {"truncated": truncated},
        execution_count=cell.execution_count if cell else None,
        result=readable_result(cell.result) if cell else None,
        interpreter_restarted=cell.interpreter_restarted if cell and not cell.session_lost else None,
        session_expires_at=state.expires_at,
    )


def explain(outcome: Outcome) -> str | None:
    """Why the program did not go well, the reason first; None when it did."""
    reasons = [_reason(outcome), _killed_children(outcome)]
    return "\n".join(reason for reason in reasons if reason) or None


def join_error(reason: str | None, stderr: str, hint: str | None = None) -> str | None:
    """The first contract's ``error``: the reason, what the program wrote to standard error, and what to do about it."""
    return "\n".join(part for part in (reason, stderr if hint is None else stderr.rstrip("\n"), hint) if part) or None


def _reason(outcome: Outcome) -> str | None:
    """The reason, and in a session what became of the interpreter."""
    reason = _REASONS[outcome.status](outcome)
    cell = outcome.ending.cell
    if reason is None or cell is None:
        return reason
    if cell.session_lost:
        return reason + _LOST
    if outcome.status in (Status.TIMED_OUT, Status.CANCELLED):
        return reason + (_DID_NOT_STOP if cell.interpreter_restarted else _INTERRUPTED)
    if cell.interpreter_restarted:
        return reason + _REPLACED
    return reason + _STAYS if cell.interrupted else reason


def _timed_out(outcome: Outcome) -> str:
    if outcome.ending.stop is Stop.WALL_TIME:
        return f"Timed out after {format_seconds(outcome.limits.wall_seconds)}"
    return f"Timed out: the limit of {format_seconds(outcome.limits.cpu_seconds)} of CPU time was used up"


def _out_of_memory(outcome: Outcome) -> str:
    return f"Out of memory: limit {format_size(outcome.limits.memory_bytes)}"


def _too_much_output(outcome: Outcome) -> str:
    total = format_size(outcome.stdout.total_bytes + outcome.stderr.total_bytes)
    return f"Too much output: stopped after {total}"


def _signalled(outcome: Outcome) -> str:
    try:
        meaning = signals.strsignal(outcome.ending.signal or 0)
    except ValueError:
        meaning = None
    return f"Killed by {outcome.signal}" + (f" ({meaning})" if meaning else "")


_REASONS: Mapping[Status, Callable[[Outcome], str | None]] = {
    Status.SUCCEEDED: lambda outcome: None,
    Status.FAILED: lambda outcome: f"Exit code {outcome.exit_code}",
    Status.SIGNALLED: _signalled,
    Status.TIMED_OUT: _timed_out,
    Status.MEMORY_EXCEEDED: _out_of_memory,
    Status.OUTPUT_EXCEEDED: _too_much_output,
    Status.CANCELLED: lambda outcome: "Cancelled before it ended",
}


_INTERRUPTED = "; the interpreter was interrupted and keeps its variables"
_LOST = "; the session ended with it: variables are gone, and the files that it alone had"
_STAYS = "; interrupted; the variables stay"
_DID_NOT_STOP = "; the interpreter did not stop, so it was replaced: variables are gone, files stay"
_REPLACED = "; the interpreter ended, so the next execution has a new one: variables are gone, files stay"


def _killed_children(outcome: Outcome) -> str | None:
    kills = outcome.ending.oom_kills
    if not kills or outcome.status is Status.MEMORY_EXCEEDED:
        return None
    which = "one of the program's processes was" if kills == 1 else f"{kills} of the program's processes were"
    return f"Out of memory: {which} killed, limit {format_size(outcome.limits.memory_bytes)}"


def _usage(queue_seconds: float, ending: Ending, stdout: Captured, stderr: Captured) -> Usage:
    return Usage(
        queue_seconds=round(queue_seconds, 6),
        wall_seconds=round(ending.wall_seconds, 6),
        cpu_seconds=None if ending.cpu_seconds is None else round(ending.cpu_seconds, 6),
        peak_memory_bytes=ending.peak_memory_bytes,
        stdout_bytes=stdout.total_bytes,
        stderr_bytes=stderr.total_bytes,
    )


def response_file(file: OutputFile) -> ResponseFile | LinkedFile:
    """A file as it stands in a response: as text where it is text, as a link where its content is elsewhere."""
    link = linked_file(file)
    if link and len(file.content) < link.size:
        return link
    text = as_text(file.content)
    return ResponseFile(
        path=readable_name(file.path),
        size=len(file.content),
        media_type=media_type(file.path, text=text is not None),
        content=base64.b64encode(file.content).decode() if text is None else text,
        encoding="base64" if text is None else "utf-8",
    )


def linked_file(file: OutputFile) -> LinkedFile | None:
    """Its entry without the content, where there is a link to it."""
    if file.link is None:
        return None
    link = file.link
    return LinkedFile(
        path=readable_name(file.path),
        size=link.size,
        media_type=link.media_type,
        url=link.url,
        expires_at=link.expires_at,
    )


def as_text(content: bytes) -> str | None:
    """``content`` as text, where it is text: UTF-8 without NUL."""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def readable_name(name: str) -> str:
    """A guest names its files as it likes; JSON takes only whole characters."""
    return name.encode("utf-8", "replace").decode()
