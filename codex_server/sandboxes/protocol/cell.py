"""A cell as its session's init receives it, and as its report is read. All pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from os import WEXITSTATUS, WIFEXITED, WTERMSIG

from codex_server.errors import ProtocolViolation
from codex_server.languages import Language
from codex_server.limits import Limits
from codex_server.model import CellFacts, Ending, Execution, InputFile, Stop
from codex_server.sandboxes.protocol.codec import BadMessage, render
from codex_server.sandboxes.protocol.payload import BackendDefaults, Payload
from codex_server.sandboxes.protocol.report import output_files, skipped_files
from codex_server.sandboxes.protocol.session import FILES, CellHeader, CellOrder, CellReport, InterpreterOrder
from codex_server.sandboxes.protocol.source import readable_source

_INTERRUPTED = 130
_MOST_SECONDS_OF_FILES = 60.0
_NO_BOUND_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class CellRequest:
    """What to send: the order, and its payload in parts."""

    order: CellOrder
    parts: list[bytes]


def cell_of(
    execution: Execution, language: Language, identifier: int, number: int, defaults: BackendDefaults
) -> CellRequest:
    """``execution`` as the ``number``-th of its session. Its own input is left out where more of it may follow."""
    packed = _payload(
        code=readable_source(execution.code, language).encode(),
        stdin=b"" if execution.keep_stdin_open else execution.stdin,
        options={"args": list(execution.args), "env": dict(execution.env), "file": language.file_name},
        files=execution.files,
    )
    order = CellOrder(
        id=identifier,
        interpreter=language.name,
        number=number,
        header_bytes=packed.header_bytes,
        payload_bytes=sum(map(len, packed.parts)),
        cpu_seconds=execution.limits.cpu_seconds,
        memory_bytes=execution.limits.memory_bytes,
        inline_bytes=defaults.inline_bytes,
        inline_total_bytes=defaults.inline_total_bytes,
        collect=True,
        open_stdin=execution.keep_stdin_open,
    )
    return CellRequest(order, packed.parts)


def operation_of(request: Mapping[str, object], identifier: int, limits: Limits, *, with_content: bool) -> CellRequest:
    """An operation on files, for the interpreter that carries them out."""
    packed = _payload(code=json.dumps(request).encode(), stdin=b"", options={}, files=())
    order = _plain_order(FILES, identifier, packed, limits, open_stdin=with_content)
    return CellRequest(order, packed.parts)


def files_of(files: tuple[InputFile, ...], identifier: int, limits: Limits) -> CellRequest:
    """Files alone: nothing is run."""
    packed = _payload(code=b"", stdin=b"", options={}, files=files)
    return CellRequest(_plain_order("", identifier, packed, limits, open_stdin=False), packed.parts)


def prompt_of(name: str, identifier: int, limits: Limits) -> CellRequest:
    """What is typed at the shell ``name``, until its next prompt: as long, and with as much CPU time, as it takes."""
    packed = _payload(code=b"", stdin=b"", options={}, files=())
    order = _plain_order(name, identifier, packed, limits, open_stdin=False)
    return CellRequest(replace(order, cpu_seconds=_NO_BOUND_SECONDS), packed.parts)


def interpreter_order(
    name: str, agent: tuple[str, ...] | None, env: Mapping[str, str], limits: Limits, *, data_limit: bool = True
) -> InterpreterOrder:
    """How to start the interpreter ``name``."""
    return InterpreterOrder(name, agent, env, limits.memory_bytes, limits.processes, limits.file_bytes, data_limit)


def _plain_order(name: str, identifier: int, packed: Payload, limits: Limits, *, open_stdin: bool) -> CellOrder:
    return CellOrder(
        id=identifier,
        interpreter=name,
        number=0,
        header_bytes=packed.header_bytes,
        payload_bytes=sum(map(len, packed.parts)),
        cpu_seconds=_MOST_SECONDS_OF_FILES,
        memory_bytes=limits.memory_bytes,
        inline_bytes=0,
        inline_total_bytes=0,
        collect=False,
        open_stdin=open_stdin,
    )


def _payload(code: bytes, stdin: bytes, options: Mapping[str, object], files: tuple[InputFile, ...]) -> Payload:
    listed = tuple((file.path, len(file.content)) for file in files)
    header = render(CellHeader(json.dumps(options), len(code), len(stdin), listed))
    return Payload([header, code, stdin, *(file.content for file in files)], len(header))


@dataclass(frozen=True, slots=True)
class CellEnd:
    """What init reported of a cell, with the content that came beside it: the reply, then the kept files."""

    report: CellReport
    content: memoryview

    @property
    def was_run(self) -> bool:
        """Whether there was an interpreter to run it."""
        return self.report.reply_bytes is not None or self.report.status is not None

    @property
    def reply(self) -> Mapping[str, object] | None:
        """The interpreter's reply, where it is one; whatever else it sent counts as an empty one."""
        if self.report.reply_bytes is None:
            return None
        try:
            reply = json.loads(bytes(self.content[: self.report.reply_bytes]))
        except (ValueError, RecursionError):
            return {}
        return reply if isinstance(reply, dict) else {}

    def ending(self, number: int, started_at: datetime, requested: Stop | None, *, restarted: bool) -> Ending:
        """The ending of the cell. ``requested``: why the server had it interrupted or killed, if it had.

        ``restarted``: its interpreter is not the one of the cell before, or has ended with it.

        Raises ``ProtocolViolation``.
        """
        report, reply = self.report, self.reply
        code, signal = _how(report, reply)
        stop = requested or (Stop(report.stop) if report.stop and report.stop != "stop_requested" else None)
        content = self.content[report.reply_bytes or 0 :]
        try:
            return Ending(
                exit_code=code,
                signal=signal,
                started_at=started_at,
                wall_seconds=report.wall_seconds,
                cpu_seconds=report.cpu_seconds,
                peak_memory_bytes=report.peak_memory_bytes,
                oom_kills=report.oom_kills,
                stop=stop,
                files=output_files(report.files, content),
                skipped_files=skipped_files(report.skipped, report.unlisted),
                cell=CellFacts(
                    execution_count=number,
                    result=_result(reply),
                    claimed=reply is not None,
                    interpreter_restarted=restarted,
                ),
            )
        except BadMessage as error:
            raise ProtocolViolation(f"the sandbox's report is malformed ({error})") from error


def _how(report: CellReport, reply: Mapping[str, object] | None) -> tuple[int | None, int | None]:
    """The exit code, which a living interpreter claims, or the signal that ended it."""
    if reply is not None:
        code = reply.get("exit_code")
        return (code if type(code) is int and 0 <= code <= 255 else 1), None
    status = report.status
    if status is None:
        raise ProtocolViolation("the sandbox reported the end of a cell, and neither a reply nor a death")
    return (WEXITSTATUS(status), None) if WIFEXITED(status) else (None, WTERMSIG(status))


def _result(reply: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """What is claimed to be the value, by media type; whoever shows it takes what has the shape of its type."""
    found = reply.get("result") if reply else None
    return found if isinstance(found, dict) and found else None
