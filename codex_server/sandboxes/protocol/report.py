"""What a sandbox's init reports of its program, checked, as an ending.

INVARIANT: a report that is not exactly what was agreed is refused, never turned into an ending that did not happen.
"""

from collections.abc import Sequence
from datetime import datetime
from signal import SIGKILL

from codex_server.errors import ProtocolViolation
from codex_server.model import MANY, Ending, OutputFile, SkippedFile, Stop
from codex_server.sandboxes.protocol.codec import BadMessage, decode
from codex_server.sandboxes.protocol.frames import Body, Kind
from codex_server.sandboxes.protocol.run import KeptFile, RunReport, SkippedEntry, StopReason
from codex_server.sandboxes.protocol.slot import StepFailure


def read_ending(body: Body, content: bytes | memoryview, *, started_at: datetime, requested: Stop | None) -> Ending:
    """The ending in a RESULT frame; ``content`` is that of the kept files, one after the other.

    ``requested`` is why the server has requested the program's end, if it has. Raises ``ProtocolViolation``.
    """
    try:
        report = decode(RunReport, body)
        if (report.exit_code is None) == (report.signal is None):
            raise BadMessage("RunReport.signal: an exit code or a signal, not both")
        return Ending(
            exit_code=report.exit_code,
            signal=report.signal,
            started_at=started_at,
            wall_seconds=report.wall_seconds,
            cpu_seconds=report.cpu_seconds,
            peak_memory_bytes=report.peak_memory_bytes,
            stop=_stop(report.stop, requested),
            oom_kills=report.oom_kills,
            files=output_files(report.files, content),
            skipped_files=skipped_files(report.skipped, report.unlisted),
        )
    except BadMessage as error:
        raise ProtocolViolation(f"the sandbox's report is malformed ({error})") from error


def failure_in(kind: Kind, body: Body) -> str:
    """What failed, by a frame that came where another was due: the step and why, or the frame's kind.

    Raises ``BadMessage``.
    """
    if kind is not Kind.FAULT:
        return f"it sent {kind.name}"
    failure = decode(StepFailure, body)
    return f"{failure.step}: {failure.message}"


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


def _stop(reported: StopReason | None, requested: Stop | None) -> Stop | None:
    """Why init ended the program: a limit that it watches, or the reason for which the server ``requested`` it."""
    if reported is None:
        return None
    if reported != "stop_requested":
        return Stop(reported)
    if requested is None:
        raise ProtocolViolation("the sandbox was stopped as if requested, and nobody requested it")
    return requested


def output_files(listed: Sequence[KeptFile], content: bytes | memoryview) -> tuple[OutputFile, ...]:
    """The kept files, whose content comes one after the other. Raises ``BadMessage``."""
    files, offset = [], 0
    for path, size in listed:
        files.append(OutputFile(path, bytes(content[offset : offset + size])))
        offset += size
    if offset != len(content):
        raise BadMessage(f"RunReport.files: {offset} bytes are listed, {len(content)} came")
    return tuple(files)


def skipped_files(listed: Sequence[SkippedEntry], unlisted: int) -> tuple[SkippedFile, ...]:
    """What was left out, and how much more is not even listed."""
    skipped = [SkippedFile(path, size, reason) for path, size, reason in listed]
    if unlisted:
        skipped.append(SkippedFile(MANY, None, f"{unlisted} more entries are not listed"))
    return tuple(skipped)
