"""What a sandbox's init reports of its program, checked, as an ending.

INVARIANT: a report that is not exactly what was agreed is refused, never turned into an ending that did not happen.
"""

from datetime import datetime
from signal import SIGKILL
from typing import Any

from codex_server.errors import ProtocolViolation
from codex_server.model import MANY, Ending, OutputFile, SkippedFile, Stop

_ASKED = "asked"
_WATCHED = (Stop.CPU_TIME, Stop.MEMORY)
"""The limits that init itself watches."""
_MOST = 2**53
"""Above any second or byte that is reported."""


def read_ending(body: dict[str, Any], content: bytes, *, started_at: datetime, asked: Stop | None) -> Ending:
    """The ending in a RESULT frame; ``content`` is that of the kept files, one after the other.

    ``asked`` is why the server has asked init to end the program, if it has. Raises ``ProtocolViolation``.
    """
    try:
        exit_code, signal = _end(body["exit_code"], body["signal"])
        return Ending(
            exit_code=exit_code,
            signal=signal,
            started_at=started_at,
            wall_seconds=_seconds(body["wall_seconds"]),
            cpu_seconds=_seconds(body["cpu_seconds"]),
            peak_memory_bytes=_whole(body["peak_memory_bytes"], 0, _MOST),
            stop=_stop(body["stop"], asked),
            oom_kills=_whole(body.get("oom_kills", 0), 0, _MOST),  # left out where somebody else counts them
            files=_files(body["files"], content),
            skipped_files=_skipped(body["skipped"], _whole(body["unlisted"], 0, _MOST)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolViolation(f"the sandbox's report is malformed ({error!r})") from error


def ending_without_report(
    started_at: datetime,
    wall_seconds: float,
    stop: Stop | None,
    *,
    oom_kills: int = 0,
    cpu_seconds: float | None = None,
    peak_memory_bytes: int | None = None,
) -> Ending:
    """The ending of a program whose init was killed with it: by the server, or by the kernel for memory.

    What it used is known only where something outside of it has counted.
    """
    return Ending(
        exit_code=None,
        signal=SIGKILL,
        started_at=started_at,
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        peak_memory_bytes=peak_memory_bytes,
        stop=stop,
        oom_kills=oom_kills,
    )


def _end(exit_code: Any, signal: Any) -> tuple[int | None, int | None]:
    if exit_code is None:
        return None, _whole(signal, 1, 64)
    if signal is not None:
        raise ValueError("an exit code and a signal")
    return _whole(exit_code, 0, 255), None


def _stop(told: Any, asked: Stop | None) -> Stop | None:
    """Why init ended the program: a limit that it watches, or the reason for which it was ``asked`` to."""
    if told is None:
        return None
    if told == _ASKED:
        if asked is None:
            raise ProtocolViolation("the sandbox was stopped as if asked, and nobody asked")
        return asked
    if told in _WATCHED:
        return Stop(told)
    raise ValueError("an unknown reason to stop")


def _whole(value: Any, least: int, most: int) -> int:
    if type(value) is int and least <= value <= most:
        return value
    raise ValueError(f"no whole number from {least} to {most}")


def _seconds(value: Any) -> float:
    if type(value) in (int, float) and 0 <= value < _MOST:  # NaN is not
        return float(value)
    raise ValueError("no number of seconds")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError("no text")


def _files(listed: list[Any], content: bytes) -> tuple[OutputFile, ...]:
    files, offset = [], 0
    for path, size in listed:
        end = offset + _whole(size, 0, len(content) - offset)
        files.append(OutputFile(_text(path), content[offset:end]))
        offset = end
    if offset != len(content):
        raise ValueError("more content than was listed")
    return tuple(files)


def _skipped(listed: list[Any], unlisted: int) -> tuple[SkippedFile, ...]:
    skipped = [
        SkippedFile(_text(path), None if size is None else _whole(size, 0, 2**63), _text(reason))
        for path, size, reason in listed
    ]
    if unlisted:
        skipped.append(SkippedFile(MANY, None, f"{unlisted} more entries are not listed"))
    return tuple(skipped)
