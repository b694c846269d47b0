"""A sandbox from the server's side, with a test in the place of its init: what is sent, what is made of the report."""

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_server.errors import ProtocolViolation, SandboxFault, SandboxUnavailable
from codex_server.interpreters import Interpreter
from codex_server.languages import Language
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, Status, Stop, Stream
from codex_server.sandboxes.embedded import sandbox
from codex_server.sandboxes.embedded.cgroup import CgroupUsage
from codex_server.sandboxes.embedded.channel import Channel
from codex_server.sandboxes.embedded.sandbox import EmbeddedSandbox
from codex_server.sandboxes.embedded.slot import Slot, SlotParts
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode
from codex_server.sandboxes.protocol.payload import payload, run_order
from codex_server.sandboxes.protocol.report import read_ending
from codex_server.sandboxes.protocol.run import RunOrder
from tests.sandboxes.executions import (
    AGENT,
    BASH,
    CODE,
    CONTENT,
    DEFAULTS,
    ENVIRONMENT,
    EVERYTHING,
    FAULT,
    KILLED,
    LIMITS,
    PYTHON,
    REPORT,
    WITH_FILES,
    sink_into,
)
from tests.sandboxes.timers import timers_of

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]


def memfd(content: bytes) -> int:
    descriptor = os.memfd_create("content", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor


class Init:
    """The guest side of a slot. Its process is a real one, so that it can be killed."""

    def __init__(self) -> None:
        ours, self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        pipes = [os.pipe() for _ in Stream]
        self.stdin, stdin = os.pipe()
        self.writers = dict(zip(Stream, (writer for _, writer in pipes), strict=True))
        readers = [reader for reader, _ in pipes]
        self.freed: list[int] = []
        self.clean: list[Slot] = []
        self.slot = Slot(
            SlotParts(3, Channel(ours), os.pidfd_open(self.process.pid), ENVIRONMENT, None, None), self.freed.append
        )
        self.sandbox = EmbeddedSandbox(self.slot, [stdin, *readers], DEFAULTS, self.clean.append)
        self.output: list[tuple[Stream, bytes]] = []
        self.run: asyncio.Future[Ending] | None = None

    def start(self, execution: Execution = CODE, language: Language = PYTHON, **keeps: bool) -> asyncio.Future[Ending]:
        self.run = asyncio.ensure_future(self.sandbox.run(execution, language, sink_into(self.output, **keeps)))
        return self.run

    async def receive(self) -> tuple[frames.Kind, dict[str, Any], list[int]]:
        while True:
            try:
                return frames.receive(self.channel)
            except BlockingIOError:
                await asyncio.sleep(0)

    async def receive_payload(self) -> tuple[dict[str, Any], bytes]:
        """The body of the RUN frame and the payload."""
        kind, body, (payload,) = await self.receive()
        assert kind is frames.Kind.RUN
        content = os.pread(payload, 2**24, 0)
        os.close(payload)
        return body, content

    async def answered(self, body: dict[str, Any], *descriptors: int, kind: frames.Kind = frames.Kind.RESULT) -> Ending:
        """What the server makes of ``body``."""
        run = self.start()
        await self.receive_payload()
        frames.send(self.channel, kind, body, descriptors)
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


@pytest.mark.parametrize("language", [PYTHON, AGENT], ids=["fork", "agent"])
async def test_an_execution_is_handed_over_whole_and_with_its_limits(init, language):
    init.start(EVERYTHING, language)
    body, content = await init.receive_payload()
    packed = payload(EVERYTHING, language, ENVIRONMENT, [])
    assert decode(RunOrder, body) == run_order(EVERYTHING, language, packed, DEFAULTS)
    assert content == b"".join(packed.parts)


async def test_a_command_is_sent_with_the_guests_paths_and_a_mark_for_the_file(init):
    interpreter = Interpreter("python3", Path("/srv/py/bin/python3"), Path("/srv/py"))
    init.start(replace(CODE, args=("a b", "{program}")), replace(BASH, interpreter=interpreter))
    body, content = await init.receive_payload()
    header = json.loads(content[: body["header_bytes"]])
    assert header["argv"] == ["/opt/python3/bin/python3", "/opt/runners/bash/start", "\0file", "a b", "{program}"]
    assert header["file"] == "main.sh"


async def test_what_is_reported_is_the_ending(init):
    ending = await init.answered(WITH_FILES, memfd(CONTENT))
    assert ending == read_ending(WITH_FILES, CONTENT, started_at=ending.started_at, requested=None)


async def test_a_report_of_a_stop_that_nobody_requested_is_a_violation(init):
    with pytest.raises(ProtocolViolation, match="nobody requested"):
        await init.answered(KILLED | {"stop": "stop_requested"})


@pytest.mark.parametrize(
    "changes", [{"exit_code": 256}, {"wall_seconds": math.nan}, {"wall_seconds": 10**400}], ids=str
)
async def test_a_report_out_of_shape_is_a_violation_and_no_ending(init, changes):
    with pytest.raises(ProtocolViolation, match="malformed"):
        await init.answered(REPORT | changes)


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
    await init.receive_payload()
    init.channel.send(b"what is this")
    with pytest.raises(ProtocolViolation, match="broke the protocol"):
        await run


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (frames.Kind.FAULT, "worker: the step that failed"),
        (frames.Kind.READY, "it sent READY"),
        (frames.Kind.RUN, "it sent RUN"),
    ],
)
async def test_a_fault_or_any_other_frame_is_a_fault_of_the_sandbox(init, kind, reason):
    with pytest.raises(SandboxFault, match=f"while it served the program: {reason}") as caught:
        await init.answered(FAULT, kind=kind)
    assert not isinstance(caught.value, ProtocolViolation)


async def test_a_fault_out_of_shape_is_a_violation(init):
    with pytest.raises(ProtocolViolation, match="step is missing"):
        await init.answered({"message": "x", "errno": None}, kind=frames.Kind.FAULT)


async def test_a_death_that_nobody_requested_is_a_fault(init):
    run = init.start()
    await init.receive_payload()
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
    frames.send(init.channel, frames.Kind.FAULT, {"message": "x"})
    assert not init.sandbox.alive
    with pytest.raises(SandboxUnavailable):
        await init.start()


async def test_output_and_input_pass_while_it_runs_and_what_came_last_is_kept(init):
    run = init.start(replace(CODE, stdin=b"for the program"))
    await init.receive_payload()
    assert os.read(init.stdin, 100) == b"for the program"
    assert os.read(init.stdin, 100) == b""
    os.write(init.writers[Stream.STDOUT], b"out")
    os.write(init.writers[Stream.STDERR], b"err")
    frames.send(init.channel, frames.Kind.RESULT, REPORT)
    assert (await run).status is Status.SUCCEEDED
    assert sorted(init.output) == [(Stream.STDERR, b"err"), (Stream.STDOUT, b"out")]


async def test_a_flood_is_stopped_and_the_report_reports_why(init):
    run = init.start(keeps=False)
    await init.receive_payload()
    os.write(init.writers[Stream.STDOUT], b"flood")
    assert (await init.receive())[:2] == (frames.Kind.STOP, {})
    frames.send(init.channel, frames.Kind.RESULT, KILLED | {"stop": "stop_requested"})
    assert (await run).status is Status.OUTPUT_EXCEEDED


async def test_a_program_that_ended_by_itself_as_it_was_stopped_keeps_its_own_end(init):
    run = init.start(keeps=False)
    await init.receive_payload()
    os.write(init.writers[Stream.STDOUT], b"flood")
    await init.receive()
    frames.send(init.channel, frames.Kind.RESULT, REPORT | {"exit_code": 3})
    ending = await run
    assert (ending.status, ending.stop) == (Status.FAILED, None)


async def test_the_wall_time_is_sent_to_an_init_that_listens(init):
    run = init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await init.receive_payload()
    assert (await init.receive())[0] is frames.Kind.STOP
    frames.send(init.channel, frames.Kind.RESULT, KILLED | {"stop": "stop_requested"})
    assert (await run).stop is Stop.WALL_TIME


async def test_an_init_that_does_not_listen_is_killed_and_the_stop_is_still_reported(init):
    run = init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await init.receive_payload()
    await asyncio.to_thread(init.process.wait, 30)
    init.channel.close()
    ending = await run
    assert init.process.returncode == -signal.SIGKILL
    assert (ending.status, ending.signal, ending.exit_code) == (Status.TIMED_OUT, signal.SIGKILL, None)
    assert ending.peak_memory_bytes is None


async def test_the_wall_time_is_all_that_a_program_gets(init, monkeypatch):
    requested = timers_of(init.sandbox, monkeypatch)
    init.start()
    await init.receive_payload()
    assert requested == [(LIMITS.wall_seconds, Stop.WALL_TIME)]


@pytest.mark.parametrize(("confined", "seconds"), [(False, 0.25), (True, 5.0)])
async def test_an_init_that_is_to_stop_has_a_moment_to_report(init, confined, seconds, tmp_path, monkeypatch):
    requested = timers_of(init.sandbox, monkeypatch)
    init.slot.folder = tmp_path / "slot" if confined else None
    init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await init.receive_payload()
    await init.receive()
    assert requested == [(0, Stop.WALL_TIME), (seconds,)]


class Cgroup:
    """One that has counted the next of ``cpu_seconds`` at each look."""

    def __init__(self, *cpu_seconds: float) -> None:
        self._counted = iter(cpu_seconds)
        self.limits: list[Limits] = []

    def begin(self) -> None:
        pass

    def limit(self, limits: Limits) -> None:
        self.limits.append(limits)

    def usage(self) -> CgroupUsage:
        return CgroupUsage(next(self._counted), 4096, 0)

    async def remove_soon(self) -> None:
        pass


async def test_processor_time_is_looked_at_when_all_of_it_can_be_used_up_and_not_in_a_frenzy(init, monkeypatch):
    monkeypatch.setattr(sandbox, "_PROCESSORS", 4)
    init.slot.cgroup = Cgroup(3.5, 7.3, 7.5, 7.5)
    requested = timers_of(init.sandbox, monkeypatch)
    run = init.start()
    await init.receive_payload()
    assert init.slot.cgroup.limits == [LIMITS]
    for _ in range(3):
        init.sandbox._look_at_processor(LIMITS.cpu_seconds)
    assert (await init.receive())[0] is frames.Kind.STOP
    looks = [delay for delay, *args in requested if args == [LIMITS.cpu_seconds]]
    assert looks == [7.5 / 4, 1.0, 0.1]
    frames.send(init.channel, frames.Kind.RESULT, KILLED | {"stop": "stop_requested"})
    assert (await run).stop is Stop.CPU_TIME


async def test_destroying_kills_the_init_and_frees_the_number_once(init):
    await init.sandbox.destroy()
    await init.sandbox.destroy()
    assert init.process.wait(30) == -signal.SIGKILL
    assert init.freed == [3]
    assert not init.sandbox.alive


async def test_a_run_that_is_cancelled_leaves_no_descriptor_and_can_be_destroyed(init):
    run = init.start()
    await init.receive_payload()
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
    await init.receive_payload()
    os.write(init.writers[Stream.STDOUT], b"flood")
    await init.receive()
    frames.send(init.channel, frames.Kind.RESULT, REPORT)
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
