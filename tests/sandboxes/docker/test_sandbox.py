"""A container from the server's side, with a test in the place of its init and of the engine."""

import asyncio
import json
import math
import signal
import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_server.errors import ProtocolViolation, SandboxFault, SandboxUnavailable
from codex_server.interpreters import Interpreter
from codex_server.languages import Language
from codex_server.model import Ending, Execution, Status, Stop, Stream
from codex_server.sandboxes.docker import sandbox as module
from codex_server.sandboxes.docker.attachment import Attachment
from codex_server.sandboxes.docker.container import OWN_MEMORY_BYTES
from codex_server.sandboxes.docker.engine import EndState, EngineError
from codex_server.sandboxes.docker.sandbox import Container, DockerSandbox
from codex_server.sandboxes.protocol import frames, stream
from codex_server.sandboxes.protocol.codec import decode
from codex_server.sandboxes.protocol.payload import payload, run_order
from codex_server.sandboxes.protocol.report import read_ending
from codex_server.sandboxes.protocol.run import RunOrder
from tests.sandboxes.executions import (
    AGENT,
    BASH,
    CEILINGS,
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

pytestmark = pytest.mark.anyio


class FakeEngine:
    """What a sandbox asks of an engine."""

    def __init__(self) -> None:
        self.limits: list[int] = []
        self.kills = 0
        self.state = EndState(running=False, oom_killed=False)
        self.reachable = True
        self.killed = asyncio.Event()

    async def limit(self, container: str, *, memory_bytes: int) -> None:
        self._reach(container)
        self.limits.append(memory_bytes)

    async def kill(self, container: str) -> None:
        self.kills += 1
        self.killed.set()
        self._reach(container)

    async def end_state(self, container: str) -> EndState:
        self._reach(container)
        return self.state

    def _reach(self, container: str) -> None:
        assert container == "c1"
        if not self.reachable:
            raise EngineError("the engine cannot be reached")


class Init:
    """The guest side of a container's stream."""

    def __init__(self, attachment: Attachment, connection: socket.socket) -> None:
        self.engine = FakeEngine()
        self.connection = connection
        self.attachment = attachment
        self.removed = 0
        container = Container("c1", attachment, OWN_MEMORY_BYTES, self._remove)
        self.sandbox = DockerSandbox(self.engine, container, ENVIRONMENT, DEFAULTS)  # type: ignore[arg-type]
        self.output: list[tuple[Stream, bytes]] = []
        self.runs: list[asyncio.Future[Ending]] = []
        self._frames = stream.Unpacker(2**24)
        self._received: list[stream.Frame] = []

    async def _remove(self) -> None:
        self.removed += 1

    def start(self, execution: Execution = CODE, language: Language = PYTHON, **keeps: bool) -> asyncio.Future[Ending]:
        run = asyncio.ensure_future(self.sandbox.run(execution, language, sink_into(self.output, **keeps)))
        self.runs.append(run)
        return run

    async def receive(self) -> stream.Frame:
        async with asyncio.timeout(30):
            while not self._received:
                data = await asyncio.get_running_loop().sock_recv(self.connection, 2**16)
                assert data, "the server has closed the stream"
                self._received += self._frames.feed(data)
        return self._received.pop(0)

    async def receives_the_end(self) -> bool:
        """Whether the server closes the stream, and says nothing more before."""
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.connection, 1), 30) == b""

    async def say(self, data: bytes, number: int = 1) -> None:
        framed = struct.pack(">B3xI", number, len(data)) + data
        await asyncio.get_running_loop().sock_sendall(self.connection, framed)

    async def send(self, kind: frames.Kind, body: dict[str, Any], content: bytes = b"") -> None:
        await self.say(stream.pack(kind, body, content))

    async def answered(
        self, body: dict[str, Any], content: bytes = b"", kind: frames.Kind = frames.Kind.RESULT
    ) -> Ending:
        """What the server makes of ``body``."""
        run = self.start()
        await self.receive()
        await self.send(kind, body, content)
        return await asyncio.wait_for(run, 30)

    async def die(self) -> None:
        """End, and wait until the server knows."""
        self.connection.close()
        async with asyncio.timeout(30):
            while self.attachment.silent:
                await asyncio.sleep(0)


@pytest.fixture
async def init() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    init = Init(await Attachment.over(ours, DEFAULTS.inline_total_bytes), theirs)
    yield init
    for run in init.runs:
        run.cancel()
    await asyncio.gather(*init.runs, return_exceptions=True)
    await init.sandbox.destroy()
    theirs.close()
    async with asyncio.timeout(30):
        while ours.fileno() >= 0:
            await asyncio.sleep(0)
    assert init.removed == 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An init that is requested to stop gets no time for it."""
    monkeypatch.setattr(module, "_SOFT_STOP_SECONDS", 0)


@pytest.mark.parametrize("language", [PYTHON, AGENT], ids=["fork", "agent"])
async def test_an_execution_is_handed_over_whole_with_its_limits_and_behind_it_the_input(init, language):
    init.start(EVERYTHING, language)
    kind, body, content = await init.receive()
    assert kind is frames.Kind.RUN
    packed = payload(EVERYTHING, language, ENVIRONMENT, [])
    assert decode(RunOrder, body) == run_order(EVERYTHING, language, packed, DEFAULTS)
    assert content == b"".join([*packed.parts, b"for the program"])


async def test_a_command_is_sent_with_the_images_paths_and_a_mark_for_the_file(init):
    bash = replace(BASH, interpreter=Interpreter("bash", Path("/bin/bash")))
    init.start(replace(CODE, args=("a b", "{program}")), bash)
    _, body, content = await init.receive()
    header = json.loads(content[: body["header_bytes"]])
    assert header["argv"] == ["/bin/bash", "/opt/runners/bash/start", "\0file", "a b", "{program}"]
    assert header["file"] == "main.sh"


async def test_memory_below_the_ceiling_is_limited_by_the_engine_before_anything_is_handed_over(init):
    less = replace(LIMITS, memory_bytes=CEILINGS.memory_bytes - 1)
    init.start(replace(CODE, limits=less))
    await init.receive()
    assert init.engine.limits == [less.memory_bytes + OWN_MEMORY_BYTES]


async def test_memory_at_the_ceiling_costs_no_question(init):
    init.start()
    await init.receive()
    assert init.engine.limits == []


async def test_memory_that_cannot_be_limited_leaves_the_execution_unbegun(init):
    init.engine.reachable = False
    with pytest.raises(SandboxUnavailable, match="memory cannot be limited: the engine cannot be reached"):
        await init.start(replace(CODE, limits=replace(LIMITS, memory_bytes=2**26)))
    await init.sandbox.destroy()
    assert await init.receives_the_end()


async def test_what_is_reported_is_the_ending(init):
    body = WITH_FILES | {"exit_code": None, "signal": 9, "oom_kills": 1}
    ending = await init.answered(body, CONTENT)
    assert ending == read_ending(body, CONTENT, started_at=ending.started_at, requested=None)
    assert ending.status is Status.MEMORY_EXCEEDED


@pytest.mark.parametrize(
    "changes", [{"exit_code": 256}, {"wall_seconds": math.nan}, {"wall_seconds": 10**400}], ids=str
)
async def test_a_report_out_of_shape_is_a_violation_and_no_ending(init, changes):
    with pytest.raises(ProtocolViolation, match="malformed"):
        await init.answered(REPORT | changes)


async def test_files_without_their_content_are_a_violation(init):
    with pytest.raises(ProtocolViolation, match="malformed"):
        await init.answered(REPORT | {"files": [["a", 5]]}, b"1234")


async def test_a_report_of_a_stop_that_nobody_requested_is_a_violation(init):
    with pytest.raises(ProtocolViolation, match="nobody requested"):
        await init.answered(KILLED | {"stop": "stop_requested"})


@pytest.mark.parametrize(
    "noise", [b"what is this", struct.pack(">II", 4, 65537) + b"\2\7{}"], ids=["no frame", "large"]
)
async def test_bytes_that_are_no_frame_are_a_violation(init, noise):
    run = init.start()
    await init.receive()
    await init.say(noise)
    with pytest.raises(ProtocolViolation, match="broke the protocol"):
        await asyncio.wait_for(run, 30)


async def test_what_is_no_framing_of_the_engines_is_a_violation(init):
    run = init.start()
    await init.receive()
    await init.say(b"x", number=7)
    await init.say(b"x" * 100)
    with pytest.raises(ProtocolViolation, match="broke the protocol"):
        await asyncio.wait_for(run, 30)


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


async def test_output_passes_while_it_runs_and_what_pid_1_writes_to_stderr_is_no_output(init):
    run = init.start()
    await init.receive()
    await init.send(frames.Kind.STDOUT, {}, b"out")
    await init.send(frames.Kind.STDERR, {}, b"err")
    await init.say(b"a warning of PID 1", number=2)
    while len(init.output) < 2:
        await asyncio.sleep(0)
    assert not run.done()
    await init.send(frames.Kind.RESULT, REPORT)
    assert (await asyncio.wait_for(run, 30)).status is Status.SUCCEEDED
    assert init.output == [(Stream.STDOUT, b"out"), (Stream.STDERR, b"err")]


async def test_a_flood_is_stopped_once_and_no_more_of_it_is_passed_on(init):
    run = init.start(keeps=False)
    await init.receive()
    for _ in range(3):
        await init.send(frames.Kind.STDOUT, {}, b"flood")
    assert (await init.receive())[:2] == (frames.Kind.STOP, {})
    await init.send(frames.Kind.RESULT, KILLED | {"stop": "stop_requested"})
    assert (await asyncio.wait_for(run, 30)).status is Status.OUTPUT_EXCEEDED
    assert init.output == [(Stream.STDOUT, b"flood")]
    await init.sandbox.destroy()
    assert await init.receives_the_end()


async def test_a_program_that_ended_by_itself_as_it_was_stopped_keeps_its_own_end(init):
    run = init.start(keeps=False)
    await init.receive()
    await init.send(frames.Kind.STDOUT, {}, b"flood")
    await init.receive()
    await init.send(frames.Kind.RESULT, REPORT | {"exit_code": 3})
    ending = await asyncio.wait_for(run, 30)
    assert (ending.status, ending.stop) == (Status.FAILED, None)


async def test_the_wall_time_is_sent_to_an_init_that_listens_and_the_engine_is_not_needed(init):
    run = init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await init.receive()
    assert (await init.receive())[0] is frames.Kind.STOP
    await init.send(frames.Kind.RESULT, KILLED | {"stop": "stop_requested"})
    assert (await asyncio.wait_for(run, 30)).stop is Stop.WALL_TIME
    assert init.engine.kills == 0


async def test_an_init_that_does_not_listen_is_killed_by_the_engine_and_the_stop_is_still_reported(init, at_once):
    run = init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await asyncio.wait_for(init.engine.killed.wait(), 30)
    init.connection.close()
    ending = await asyncio.wait_for(run, 30)
    assert (ending.status, ending.signal, ending.exit_code) == (Status.TIMED_OUT, signal.SIGKILL, None)
    assert (ending.peak_memory_bytes, ending.oom_kills) == (None, 0)


async def test_a_container_that_the_engine_does_not_end_is_given_up_and_its_outcome_is_not_made_up(
    init, at_once, monkeypatch
):
    monkeypatch.setattr(module, "_HARD_STOP_SECONDS", 0)
    init.engine.reachable = False
    run = init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    with pytest.raises(SandboxFault, match=r"did not end the sandbox's container; .* unknown"):
        await asyncio.wait_for(run, 30)
    assert init.engine.kills == 1


async def test_the_wall_time_is_all_that_a_program_gets(init, monkeypatch):
    requested = timers_of(init.sandbox, monkeypatch)
    init.start()
    await init.receive()
    assert requested == [(LIMITS.wall_seconds, Stop.WALL_TIME)]


async def test_an_init_that_is_to_stop_has_a_second_to_report_and_the_engine_half_a_minute(init, monkeypatch):
    requested = timers_of(init.sandbox, monkeypatch)
    init.start(replace(CODE, limits=replace(LIMITS, wall_seconds=0)))
    await init.receive()
    await init.receive()
    assert requested == [(0, Stop.WALL_TIME), (1.0,)]
    init.sandbox._kill()
    await asyncio.wait_for(init.engine.killed.wait(), 30)
    assert requested == [(0, Stop.WALL_TIME), (1.0,), (30.0,)]


async def test_a_container_that_is_lost_is_a_fault(init):
    run = init.start()
    await init.receive()
    init.connection.close()
    with pytest.raises(SandboxFault, match="lost while the program ran; its outcome is unknown"):
        await asyncio.wait_for(run, 30)


async def test_a_container_that_is_lost_for_memory_is_reported_as_that(init):
    init.engine.state = EndState(running=False, oom_killed=True)
    run = init.start()
    await init.receive()
    init.connection.close()
    ending = await asyncio.wait_for(run, 30)
    assert (ending.status, ending.signal, ending.oom_kills) == (Status.MEMORY_EXCEEDED, signal.SIGKILL, 1)


async def test_a_container_that_runs_on_without_its_stream_is_a_fault_though_it_lacked_memory_before(init):
    init.engine.state = EndState(running=True, oom_killed=True)
    run = init.start()
    await init.receive()
    init.connection.close()
    with pytest.raises(SandboxFault):
        await asyncio.wait_for(run, 30)


async def test_an_end_that_the_engine_cannot_report_is_a_fault_with_the_cause(init):
    init.engine.reachable = False
    run = init.start()
    await init.receive()
    init.connection.close()
    with pytest.raises(SandboxFault, match="outcome is unknown: the engine cannot be reached"):
        await asyncio.wait_for(run, 30)


async def test_nothing_is_sent_to_a_container_that_died_before_its_turn(init):
    assert init.sandbox.alive
    await init.die()
    assert not init.sandbox.alive
    with pytest.raises(SandboxUnavailable, match="died before it was used"):
        await init.start()


async def test_nothing_is_sent_to_one_that_died_although_the_loop_has_not_looked_since(init):
    assert init.sandbox.alive
    init.connection.close()
    assert not init.sandbox.alive
    with pytest.raises(SandboxUnavailable, match="died before it was used"):
        await init.start()


@pytest.mark.parametrize("number", [1, 2], ids=["stdout", "stderr"])
async def test_a_container_that_speaks_before_its_turn_is_dead_and_is_sent_nothing(init, number):
    await init.say(stream.pack(frames.Kind.FAULT, {"message": "x"}), number)
    while init.sandbox.alive:
        await asyncio.sleep(0)
    with pytest.raises(SandboxUnavailable):
        await init.start()
    await init.sandbox.destroy()
    assert await init.receives_the_end()


async def test_a_run_that_is_cancelled_cuts_the_stream_at_once_so_that_all_in_it_end(init):
    run = init.start()
    await init.receive()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await init.receives_the_end()
    assert init.removed == 0


async def test_destroying_closes_the_stream_and_removes_the_container_once(init):
    await init.sandbox.destroy()
    await init.sandbox.destroy()
    assert init.removed == 1
    assert not init.sandbox.alive
    assert await init.receives_the_end()
