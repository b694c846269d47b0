"""Executions, what a sandbox's init reports of them, and a sink for their output: what the tests of sandboxes share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from codex_server.languages import Language, Start
from codex_server.limits import Limits
from codex_server.model import Execution, InputFile, Stream
from codex_server.sandboxes.base import OutputSink
from codex_server.sandboxes.protocol.launch import SlotSetup
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.protocol.run import RunOrder
from codex_server.sandboxes.protocol.slot import SlotOrder
from codex_server.sandboxes.protocol.stdio import StdioOrder

CEILINGS = Limits()
LIMITS = replace(CEILINGS, wall_seconds=30, cpu_seconds=7.5, processes=5, file_bytes=2**20)
DEFAULTS = BackendDefaults(CEILINGS, inline_bytes=1000, inline_total_bytes=5000)
ENVIRONMENT = {"PATH": "/usr/bin", "LANG": "C.UTF-8"}
PYTHON = Language(
    name="python",
    title="Python",
    aliases=(),
    file_name="main.py",
    start=Start.FORK,
    command=(),
    env={"PYTHONUNBUFFERED": "1"},
    pool="python",
    folder=Path("/srv/runners/python"),
    interpreter=None,
    version="3",
)
AGENT = replace(PYTHON, name="javascript", file_name="main.mjs", start=Start.AGENT)
BASH = replace(
    PYTHON,
    name="bash",
    file_name="main.sh",
    start=Start.COMMAND,
    command=("{program}", "{runner}/start", "{file}"),
    env={"LANG": "C"},
    folder=Path("/srv/runners/bash"),
)
CODE = Execution("exe_1", "python", "print(1)", LIMITS)
EVERYTHING = replace(
    CODE,
    code="print('жук')",
    args=("one", "2"),
    env={"LANG": "ru", "MINE": "x"},
    stdin=b"for the program",
    files=(InputFile("data/in.bin", b"\x00\xff"), InputFile("empty", b""), InputFile("b", b"bb")),
)
"""An execution that uses all that a request may bring."""
SETUP = SlotSetup(
    cgroups=False,
    uid_per_slot=False,
    process_margin=3,
    workspace_bytes=2**22,
    pending_signals=77,
    import_path="/opt/codex",
    agent=None,
    preload=(),
    seccomp="",
    seccomp_of_sessions="",
    namespaces=None,
    landlock=None,
)
SLOT_ORDER = SlotOrder(
    uid=7, agent=None, env=ENVIRONMENT, folder=None, number=0, stdio=StdioOrder(merged=False, terminal=None)
)
RUN_ORDER = RunOrder(
    header_bytes=17,
    payload_bytes=21,
    cpu_seconds=7.5,
    memory_bytes=2**26,
    processes=5,
    file_bytes=2**20,
    data_limit=True,
    inline_bytes=1000,
    inline_total_bytes=5000,
    keep_stdin_open=False,
)
FAULT: dict[str, Any] = {"step": "worker", "errno": None, "message": "the step that failed"}
REPORT: dict[str, Any] = {
    "exit_code": 0,
    "signal": None,
    "stop": None,
    "wall_seconds": 1.5,
    "cpu_seconds": 0.25,
    "peak_memory_bytes": 4096,
    "oom_kills": 0,
    "files": [],
    "skipped": [],
    "unlisted": 0,
}
"""The least that init reports: of a program that went well and left nothing."""
KILLED = REPORT | {"exit_code": None, "signal": 9}
WITH_FILES = REPORT | {
    "files": [["out/a", 3], ["b", 0], ["c", 2]],
    "skipped": [["link", None, "it is a symbolic link"], ["big", 9999, "it is large"]],
    "unlisted": 4,
}
"""A report whose files' content is ``CONTENT``."""
CONTENT = b"aaacc"


def sink_into(output: list[tuple[Stream, bytes]], *, keeps: bool = True) -> OutputSink:
    """A sink that puts each chunk into ``output``; where it no longer ``keeps`` up, it asks for the program's end."""

    def sink(stream: Stream, chunk: bytes) -> bool:
        output.append((stream, chunk))
        return keeps

    return sink
