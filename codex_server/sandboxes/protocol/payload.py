"""An execution as its sandbox's init receives it: a header, the content of every file, and the limits. All pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codex_server.languages import Language, Start
from codex_server.limits import Limits
from codex_server.model import Execution, Stdio
from codex_server.sandboxes.protocol.codec import render
from codex_server.sandboxes.protocol.run import RunHeader, RunOrder
from codex_server.sandboxes.protocol.source import readable_source
from codex_server.sandboxes.protocol.stdio import StdioOrder, TerminalSize
from codex_server.settings import Settings

FILE_MARK = "\0file"
"""Stands in an argv for the path of the program's file, which only init knows."""


class Payload(NamedTuple):
    """The header and every file's content, to be sent one after the other, and the header's length."""

    parts: list[bytes]
    header_bytes: int


def payload(execution: Execution, language: Language, environment: Mapping[str, str], argv: Sequence[str]) -> Payload:
    """The payload of ``execution``.

    ``argv`` starts the language's program (empty: its agent does); the execution's arguments are put behind it.
    """
    code = readable_source(execution.code, language).encode()
    contents = [code, *(file.content for file in execution.files)]
    names = [language.file_name, *(file.path for file in execution.files)]
    header = render(
        RunHeader(
            file=language.file_name,
            files=tuple((name, len(content)) for name, content in zip(names, contents, strict=True)),
            args=tuple(execution.args),
            argv=(*argv, *execution.args) if argv else (),
            env={**environment, **_terminal_variables(execution.stdio), **language.env, **execution.env},
        )
    )
    return Payload([header, *contents], len(header))


def _terminal_variables(stdio: Stdio) -> Mapping[str, str]:
    return {"TERM": "xterm-256color"} if stdio.terminal else {}


def stdio_order(stdio: Stdio) -> StdioOrder:
    """What is sent for ``stdio`` to whoever starts the worker."""
    size = stdio.terminal
    return StdioOrder(stdio.merged, TerminalSize(size.rows, size.columns) if size else None)


@dataclass(frozen=True, slots=True)
class BackendDefaults:
    """What is the same for every sandbox of a backend; ``inline``: files handed back, each and all together.

    The total is twice a response's size, and what is kept of an execution's files: figures and other files enough to
    fill the response each, so that whatever it has room for is there.
    """

    ceilings: Limits
    inline_bytes: int
    inline_total_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "BackendDefaults":
        """Those that ``settings`` ask for."""
        largest = max(settings.max_inline_file, min(settings.max_artifact, settings.max_artifacts_execution))
        kept = settings.max_artifacts_execution if settings.max_artifact else 0
        return cls(settings.ceilings, largest, 2 * settings.max_response + kept)


def run_order(execution: Execution, language: Language, payload: Payload, defaults: BackendDefaults) -> RunOrder:
    """What is sent beside ``payload``."""
    limits = execution.limits
    return RunOrder(
        header_bytes=payload.header_bytes,
        payload_bytes=sum(map(len, payload.parts)),
        cpu_seconds=limits.cpu_seconds,
        memory_bytes=limits.memory_bytes,
        processes=limits.processes,
        file_bytes=limits.file_bytes,
        data_limit=language.start is not Start.AGENT,  # V8 reserves far more than it uses
        inline_bytes=defaults.inline_bytes,
        inline_total_bytes=defaults.inline_total_bytes,
        keep_stdin_open=execution.keep_stdin_open or execution.stdio.terminal is not None,  # its end is a key
    )
