"""A sandbox from the server's side, with a test in the place of its init: what is told, what is made of the answer."""

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.errors import ProtocolViolation, SandboxFault, SandboxUnavailable
from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Start
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, InputFile, OutputFile, SkippedFile, Status, Stop, Stream
from codex_server.sandboxes.embedded.channel import Channel
from codex_server.sandboxes.embedded.sandbox import EmbeddedSandbox
from codex_server.sandboxes.embedded.slot import Slot, SlotParts
from codex_server.sandboxes.payload import Terms
from codex_server.sandboxes.report import read_ending
from codex_server.sandboxes.room import wire

pytestmark = pytest.mark.anyio

LIMITS = Limits(wall_seconds=30, cpu_seconds=7.5, memory_bytes=2**26, processes=5, file_bytes=2**20)
TERMS = Terms(Limits(), inline_bytes=1000, inline_total_bytes=5000)
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
    interpreter=Interpreter("python3", Path("/srv/py/bin/python3"), Path("/srv/py")),
    version="3",
)
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
REPORT: dict[str, Any] = {
    "exit_code": 0,
    "signal": None,
    "stop": None,
    "wall_seconds": 1.5,
    "cpu_seconds": 0.25,
    "peak_memory_bytes": 4096,
    "files": [],
    "skipped": [],
    "unlisted": 0,
}


def memfd(content: bytes) -> int:
    descriptor = os.memfd_create("content", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor


class Init:
    """The far side of a slot. Its process is a real one, so that it can be killed."""

    def __init__(self) -> None:
        ours, self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        pipes = [os.pipe() for _ in Stream]
        self.stdin, stdin = os.pipe()
        self.writers = dict(zip(Stream, (writer for _, writer in pipes), strict=True))
        readers = [reader for reader, _ in pipes]
        environment = {"PATH": "/usr/bin", "LANG": "C.UTF-8"}
        self.freed: list[int] = []
        self.clean: list[Slot] = []
        self.slot = Slot(
            SlotParts(3, Channel(ours), os.pidfd_open(self.process.pid), environment, None, None), self.freed.append
        )
        self.sandbox = EmbeddedSandbox(self.slot, [stdin, *readers], TERMS, self.clean.append)
        self.output: list[tuple[Stream, bytes]] = []
        self.run: asyncio.Future[Ending] | None = None

    def start(self, execution: Execution = CODE, language: Language = PYTHON, **keeps: bool) -> asyncio.Future[Ending]:
        def sink(stream: Stream, chunk: bytes) -> bool:
            self.output.append((stream, chunk))
            return keeps.get("keeps", True)

        self.run = asyncio.ensure_future(self.sandbox.run(execution, language, sink))
        return self.run

    async def hear(self) -> tuple[wire.Kind, dict[str, Any], list[int]]:
        while True:
            try:
                return wire.receive(self.channel)
            except BlockingIOError:
                await asyncio.sleep(0)

    async def hear_payload(self) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        """The body of the RUN frame, the payload's header, and what follows it."""
        kind, body, (payload,) = await self.hear()
        assert kind is wire.Kind.RUN
        content = os.pread(payload, 2**24, 0)
        os.close(payload)
        size = body["header_bytes"]
        return body, json.loads(content[:size]), content[size:]

    async def answered(self, body: dict[str, Any], *descriptors: int, kind: wire.Kind = wire.Kind.RESULT) -> Ending:
        """What the server makes of ``body``."""
        run = self.start()
        await self.hear_payload()
        wire.send(self.channel, kind, body, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return await asyncio.wait_for(run, 30)

    def die(self) -> None:
        self.process.kill()
        self.channel.close()

    def close(self) -> None:
        self.die()
        self.process.wait()
        for descriptor in (self.stdin, *self.writers.values()):
            os.close(descriptor)
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
async def init() -> Any:
    before = len(os.listdir("/proc/self/fd"))
    init = Init()
    yield init
    if init.run:
        init.run.cancel()
        await asyncio.gather(init.run, return_exceptions=True)
    init.die()
    await init.sandbox.destroy()
    await init.slot.end()
    init.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert init.freed == [3]


async def test_the_limits_of_the_execution_and_the_terms_of_the_server_are_told(init):
    init.start()
    body, _, _ = await init.hear_payload()
    del body["header_bytes"]
    assert body == {
        "cpu_seconds": 7.5,
        "memory_bytes": 2**26,
        "processes": 5,
        "file_bytes": 2**20,
        "data_limit": True,
        "inline_bytes": 1000,
        "inline_total_bytes": 5000,
    }


async def test_the_payload_is_a_header_then_the_code_then_each_file(init):
    execution = replace(
        CODE,
        code="print('жук')",
        args=("one", "2"),
        env={"LANG": "ru", "MINE": "x"},
        files=(InputFile("data/in.bin", b"\x00\xff"), InputFile("empty", b""), InputFile("b", b"bb")),
    )
    init.start(execution)
    _, header, content = await init.hear_payload()
    code = execution.code.encode()
    assert header == {
        "file": "main.py",
        "files": [["main.py", len(code)], ["data/in.bin", 2], ["empty", 0], ["b", 2]],
        "args": ["one", "2"],
        "argv": [],
        "env": {"PATH": "/usr/bin", "LANG": "ru", "PYTHONUNBUFFERED": "1", "MINE": "x"},
    }
    assert content == code + b"\x00\xffbb"


async def test_a_command_is_told_with_the_guests_paths_and_a_mark_for_the_file(init):
    init.start(replace(CODE, args=("a b", "{program}")), BASH)
    _, header, _ = await init.hear_payload()
    assert header["argv"] == ["/opt/python3/bin/python3", "/opt/runners/bash/start", "\0file", "a b", "{program}"]
    assert header["file"] == "main.sh"


async def test_an_agent_has_no_limit_of_data(init):
    init.start(CODE, replace(PYTHON, start=Start.AGENT))
    body, header, _ = await init.hear_payload()
    assert body["data_limit"] is False
    assert header["argv"] == []


async def test_what_is_reported_is_the_ending(init):
    body = REPORT | {
        "files": [["out/a", 3], ["b", 0], ["c", 2]],
        "skipped": [["link", None, "it is a symbolic link"], ["big", 9999, "it is large"]],
        "unlisted": 4,
    }
    ending = await init.answered(body, memfd(b"aaacc"))
    assert (ending.status, ending.exit_code, ending.signal) == (Status.SUCCEEDED, 0, None)
    assert (ending.wall_seconds, ending.cpu_seconds, ending.peak_memory_bytes) == (1.5, 0.25, 4096)
    assert ending.files == (OutputFile("out/a", b"aaa"), OutputFile("b", b""), OutputFile("c", b"cc"))
    assert ending.skipped_files == (
        SkippedFile("link", None, "it is a symbolic link"),
        SkippedFile("big", 9999, "it is large"),
        SkippedFile("", None, "4 more entries are not listed"),
    )


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"exit_code": 255}, Status.FAILED),
        ({"exit_code": None, "signal": 11}, Status.SIGNALLED),
        ({"exit_code": None, "signal": 64}, Status.SIGNALLED),
        ({"exit_code": None, "signal": 9, "stop": "cpu_time"}, Status.TIMED_OUT),
        ({"exit_code": None, "signal": 9, "stop": "memory"}, Status.MEMORY_EXCEEDED),
        ({"exit_code": 0, "stop": "cpu_time"}, Status.TIMED_OUT),
        ({"wall_seconds": 0, "cpu_seconds": 3}, Status.SUCCEEDED),
    ],
)
async def test_each_kind_of_end_has_its_word(init, changes, status):
    assert (await init.answered(REPORT | changes)).status is status


WRONG: list[dict[str, Any]] = [
    {"exit_code": None},
    {"exit_code": 0, "signal": 9},
    {"exit_code": "0"},
    {"exit_code": True},
    {"exit_code": 256},
    {"exit_code": -1},
    {"exit_code": 0.0},
    {"exit_code": None, "signal": 0},
    {"exit_code": None, "signal": 65},
    {"exit_code": None, "signal": "9"},
    {"exit_code": [], "signal": 9},
    {"stop": "asked"},
    {"stop": "whim"},
    {"stop": "cancelled"},
    {"stop": ""},
    {"stop": False},
    {"stop": ["memory"]},
    {"wall_seconds": "1"},
    {"wall_seconds": None},
    {"wall_seconds": -0.1},
    {"wall_seconds": math.nan},
    {"wall_seconds": math.inf},
    {"wall_seconds": 10**400},
    {"cpu_seconds": math.nan},
    {"cpu_seconds": True},
    {"peak_memory_bytes": 1.5},
    {"peak_memory_bytes": -1},
    {"peak_memory_bytes": None},
    {"files": None},
    {"files": 3},
    {"files": [["a"]]},
    {"files": [["a", 1, 2]]},
    {"files": [["a", 6]]},
    {"files": [["a", 5], ["b", 1]]},
    {"files": [["a", 9], ["b", -4]]},
    {"files": [["a", True], ["b", 4]]},
    {"files": [["a", "5"]]},
    {"files": [[7, 5]]},
    {"files": [["a", 4]]},
    {"skipped": None},
    {"skipped": [["a", 1]]},
    {"skipped": [[None, 1, "why"]]},
    {"skipped": [["a", "1", "why"]]},
    {"skipped": [["a", -1, "why"]]},
    {"skipped": [["a", 1, None]]},
    {"unlisted": None},
    {"unlisted": "many"},
    {"unlisted": -1},
]


@pytest.mark.parametrize("changes", WRONG, ids=str)
async def test_a_report_out_of_shape_is_a_violation_and_no_ending(init, changes):
    good = REPORT | {"files": [["a", 5]]}
    with pytest.raises(ProtocolViolation):
        await init.answered(good | changes, memfd(b"12345"))


@pytest.mark.parametrize("key", REPORT)
async def test_a_report_without_one_of_its_parts_is_a_violation(init, key):
    with pytest.raises(ProtocolViolation, match=key):
        await init.answered({name: value for name, value in REPORT.items() if name != key})


async def test_files_without_content_are_a_violation(init):
    with pytest.raises(ProtocolViolation, match="malformed"):
        await init.answered(REPORT | {"files": [["a", 5]]})


async def test_content_that_is_no_file_is_a_violation(init):
    reader, writer = os.pipe()
    os.write(writer, b"12345")
    with pytest.raises(ProtocolViolation, match="malformed"):
        await init.answered(REPORT | {"files": [["a", 5]]}, reader, writer)


async def test_a_huge_content_is_a_violation_and_is_not_read(init):
    huge = memfd(b"")
    os.truncate(huge, 2**50)
    with pytest.raises(ProtocolViolation, match="malformed"):
        await init.answered(REPORT, huge)


async def test_bytes_that_are_no_frame_are_a_violation(init):
    run = init.start()
    await init.hear_payload()
    init.channel.send(b"what is this")
    with pytest.raises(ProtocolViolation, match="broke the protocol"):
        await run


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.sampled_from(["", "asked", "memory", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(REPORT)), JUNK, max_size=4))
def test_any_report_is_an_ending_that_can_be_told_or_a_violation(changes):
    try:
        ending = read_ending(REPORT | changes, b"", started_at=datetime.now(UTC), asked=None)
    except ProtocolViolation:
        return
    assert (ending.exit_code is None) != (ending.signal is None)
    assert math.isfinite(ending.wall_seconds + ending.cpu_seconds)
    assert ending.files == ()
    assert ending.stop in (None, Stop.CPU_TIME, Stop.MEMORY)
    assert all(isinstance(file.path, str) and isinstance(file.reason, str) for file in ending.skipped_files)


@pytest.mark.parametrize("kind", [wire.Kind.FAULT, wire.Kind.READY, wire.Kind.RUN])
async def test_a_fault_or_any_other_frame_is_a_fault_of_the_sandbox(init, kind):
    with pytest.raises(SandboxFault, match="while it served the program: the step that failed") as caught:
        await init.answered({"message": "the step that failed"}, kind=kind)
    assert not isinstance(caught.value, ProtocolViolation)


async def test_a_death_that_nobody_asked_for_is_a_fault(init):
    run = init.start()
    await init.hear_payload()
    init.die()
    with pytest.raises(SandboxFault, match="its outcome is unknown"):
        await run


async def test_a_death_before_the_run_leaves_the_execution_unbegun(init):
    assert init.sandbox.alive
    init.die()
    assert not init.sandbox.alive
    with pytest.raises(SandboxUnavailable):
        await init.start()


async def test_a_word_before_the_run_means_that_it_died(init):
    wire.send(init.channel, wire.Kind.FAULT, {"message": "x"})
    assert not init.sandbox.alive
    with pytest.raises(SandboxUnavailable):
        await init.start()


async def test_output_and_input_pass_while_it_runs_and_what_came_last_is_kept(init):
    run = init.start(replace(CODE, stdin=b"for the program"))
    await init.hear_payload()
    assert os.read(init.stdin, 100) == b"for the program"
    assert os.read(init.stdin, 100) == b""
    os.write(init.writers[Stream.STDOUT], b"out")
    os.write(init.writers[Stream.STDERR], b"err")
    wire.send(init.channel, wire.Kind.RESULT, REPORT)
    assert (await run).status is Status.SUCCEEDED
    assert sorted(init.output) == [(Stream.STDERR, b"err"), (Stream.STDOUT, b"out")]


async def test_a_flood_is_stopped_and_the_report_tells_why(init):
    run = init.start(keeps=False)
    await init.hear_payload()
    os.write(init.writers[Stream.STDOUT], b"flood")
    assert (await init.hear())[:2] == (wire.Kind.STOP, {})
    wire.send(init.channel, wire.Kind.RESULT, REPORT | {"exit_code": None, "signal": 9, "stop": "asked"})
    assert (await run).status is Status.OUTPUT_EXCEEDED


async def test_a_program_that_ended_by_itself_as_it_was_stopped_keeps_its_own_end(init):
    run = init.start(keeps=False)
    await init.hear_payload()
    os.write(init.writers[Stream.STDOUT], b"flood")
    await init.hear()
    wire.send(init.channel, wire.Kind.RESULT, REPORT | {"exit_code": 3})
    ending = await run
    assert (ending.status, ending.stop) == (Status.FAILED, None)


async def test_the_wall_time_is_told_to_an_init_that_listens(init):
    run = init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await init.hear_payload()
    assert (await init.hear())[0] is wire.Kind.STOP
    wire.send(init.channel, wire.Kind.RESULT, REPORT | {"exit_code": None, "signal": 9, "stop": "asked"})
    assert (await run).stop is Stop.WALL_TIME


async def test_an_init_that_does_not_listen_is_killed_and_the_stop_is_still_told(init):
    run = init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await init.hear_payload()
    await asyncio.to_thread(init.process.wait, 30)
    init.channel.close()
    ending = await run
    assert init.process.returncode == -signal.SIGKILL
    assert (ending.status, ending.signal, ending.exit_code) == (Status.TIMED_OUT, signal.SIGKILL, None)
    assert ending.peak_memory_bytes is None


async def test_destroying_kills_the_init_and_frees_the_number_once(init):
    await init.sandbox.destroy()
    await init.sandbox.destroy()
    assert init.process.wait(30) == -signal.SIGKILL
    assert init.freed == [3]
    assert not init.sandbox.alive


async def test_a_run_that_is_cancelled_leaves_no_descriptor_and_can_be_destroyed(init):
    run = init.start()
    await init.hear_payload()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await init.sandbox.destroy()
    assert init.process.wait(30) == -signal.SIGKILL


async def test_a_slot_whose_program_ended_as_usual_lives_on_and_is_given_back(init):
    await init.answered(REPORT | {"exit_code": 1})
    await init.sandbox.destroy()
    await init.sandbox.destroy()
    assert init.clean == [init.slot]
    assert init.slot.alive
    assert init.freed == []


@pytest.mark.parametrize(
    "changes",
    [
        {"exit_code": None, "signal": 9, "stop": "cpu_time"},
        {"exit_code": None, "signal": 9, "stop": "memory"},
    ],
)
async def test_a_slot_in_which_a_limit_was_passed_is_ended(init, changes):
    await init.answered(REPORT | changes)
    await init.sandbox.destroy()
    assert init.clean == []
    assert init.freed == [3]


async def test_a_slot_whose_program_was_stopped_is_ended(init):
    run = init.start(keeps=False)
    await init.hear_payload()
    os.write(init.writers[Stream.STDOUT], b"flood")
    await init.hear()
    wire.send(init.channel, wire.Kind.RESULT, REPORT)
    await run
    await init.sandbox.destroy()
    assert init.clean == []
    assert init.freed == [3]


async def test_a_slot_whose_report_was_out_of_shape_is_ended(init):
    with pytest.raises(ProtocolViolation):
        await init.answered({})
    await init.sandbox.destroy()
    assert init.clean == []
    assert init.freed == [3]


async def test_a_slot_that_was_armed_for_nothing_is_ended(init):
    await init.sandbox.destroy()
    assert init.clean == []
    assert init.freed == [3]
