"""One execution in a container: hand it to its init, enforce the limits from outside, return the ending."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from codex_server.errors import ProtocolViolation, SandboxFault, SandboxUnavailable
from codex_server.languages import Language, Start
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, Stop, Stream
from codex_server.sandboxes.base import Sandbox
from codex_server.sandboxes.docker.attachment import Attachment
from codex_server.sandboxes.docker.engine import Engine, EngineError
from codex_server.sandboxes.docker.images import command_in_image
from codex_server.sandboxes.protocol import frames, stream
from codex_server.sandboxes.protocol.codec import BadMessage, decode, encode
from codex_server.sandboxes.protocol.payload import FILE_MARK, BackendDefaults, payload, run_order
from codex_server.sandboxes.protocol.report import ending_without_report, failure_in, read_ending
from codex_server.sandboxes.protocol.run import InputPiece, InputTaken
from codex_server.sandboxes.session import OutputSink
from codex_server.sandboxes.stdin import StandardInput

_SOFT_STOP_SECONDS = 1.0
"""How long an init may take to kill, reap and report before the engine is requested to kill the container."""
_HARD_STOP_SECONDS = 30.0
"""How long the engine may take for that before the execution is given up, for nobody knows whether it has begun; the
container is removed when the engine answers."""
_STREAMS = {frames.Kind.STDOUT: Stream.STDOUT, frames.Kind.STDERR: Stream.STDERR}


@dataclass(frozen=True, slots=True)
class Container:
    """A started container with its stream. ``remove`` frees everything that belongs to it."""

    id: str
    attachment: Attachment
    own_memory_bytes: int
    remove: Callable[[], Awaitable[None]] = field(repr=False)


class DockerSandbox(Sandbox):
    """An armed container; it serves one execution and is then removed.

    INVARIANT: what an ending reports was said by PID 1 of the container, which waits for the program as its parent and
    which no guest can kill, look into or write for; or by the engine, where PID 1 has ended before it could.
    """

    def __init__(
        self, engine: Engine, container: Container, environment: dict[str, str], defaults: BackendDefaults
    ) -> None:
        self._engine = engine
        self._container = container
        self._attachment = container.attachment
        self._environment = environment
        self._defaults = defaults
        self._stop: Stop | None = None
        self._over = False
        self._stdin = StandardInput()
        self._input_taken = False
        self._given_up = False
        self._destroyed = False
        self._killing: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def alive(self) -> bool:
        """An armed container sends nothing: any byte, or its end, means that it died."""
        return not self._destroyed and self._attachment.silent

    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """See ``Sandbox.run``."""
        await self._tighten(execution.limits)
        started_at = datetime.now(UTC)
        self._stdin = stdin or StandardInput.of(execution)
        self._hand_over(execution, language)
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._timers.append(loop.call_later(execution.limits.wall_seconds, self._end, Stop.WALL_TIME))
        try:
            reported = await self._receive_ending(output, started_at)
            self._over = True
            return reported or await self._ending_of_the_killed(started_at, loop.time() - started)
        except asyncio.CancelledError:
            self._attachment.close()
            raise
        finally:
            self._over = True
            self._stdin.abandon()
            for timer in self._timers:
                timer.cancel()

    async def _tighten(self, limits: Limits) -> None:
        """The kernel bounds memory; nothing of the execution has begun when the engine cannot do so."""
        if limits.memory_bytes >= self._defaults.ceilings.memory_bytes:
            return
        try:
            memory_bytes = limits.memory_bytes + self._container.own_memory_bytes
            await self._engine.limit(self._container.id, memory_bytes=memory_bytes)
        except EngineError as error:
            raise SandboxUnavailable(f"the sandbox's memory cannot be limited: {error}") from error

    def _hand_over(self, execution: Execution, language: Language) -> None:
        """Send the execution. INVARIANT: raises ``SandboxUnavailable`` only while no byte of it has left."""
        if not self.alive:
            raise SandboxUnavailable("the sandbox died before it was used; try again")
        packed = payload(execution, language, self._environment, _argv(language))
        order = run_order(execution, language, packed, self._defaults)
        try:
            self._attachment.send(frames.Kind.RUN, encode(order), b"".join([*packed.parts, execution.stdin]))
        except frames.Closed as error:
            raise SandboxUnavailable("the sandbox died before it was used; try again") from error
        self._stdin.take(len(execution.stdin))
        self._stdin.read_by(self._send_input)

    def _send_input(self) -> None:
        """Send the next piece of what was written since the start, once the container has taken the one before."""
        if self._over or not self._input_taken:
            return
        piece = bytes(self._stdin.peek(stream.CHUNK))
        self._stdin.take(len(piece))
        if piece or self._stdin.ended:
            self._input_taken = False
            with contextlib.suppress(frames.Closed):  # whoever waits for the ending learns of it
                self._attachment.send(frames.Kind.STDIN, encode(InputPiece(self._stdin.ended)), piece)

    def _note_taken(self, taken: InputTaken) -> None:
        if taken.closed:
            self._stdin.abandon()
        elif not self._stdin.ended:
            self._input_taken = True
            self._send_input()

    async def _receive_ending(self, output: OutputSink, started_at: datetime) -> Ending | None:
        """Pass output on until init reports the ending; None when the container ended without a report."""
        wanted = True
        while True:
            try:
                kind, body, content = await self._attachment.receive()
            except frames.Closed:
                return None
            except frames.BadFrame as error:
                raise ProtocolViolation(f"the sandbox broke the protocol ({error})") from error
            if kind is frames.Kind.STDIN_TAKEN:
                self._note_taken(_taken(body))
                continue
            if kind is frames.Kind.RESULT:
                return read_ending(body, content, started_at=started_at, requested=self._stop)
            if kind not in _STREAMS:
                raise SandboxFault(f"the sandbox failed while it served the program: {_failure_in(kind, body)}")
            wanted = wanted and output(_STREAMS[kind], content)
            if not wanted:
                self._end(Stop.OUTPUT)

    def _end(self, reason: Stop) -> None:
        """Two steps: request that the init kill and report; if it does not, have the engine kill the container."""
        if self._stop is not None or self._over:
            return
        self._stop = reason
        with contextlib.suppress(frames.Closed):
            self._attachment.send(frames.Kind.STOP, {})
        self._timers.append(asyncio.get_running_loop().call_later(_SOFT_STOP_SECONDS, self._kill))

    def _kill(self) -> None:
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(_HARD_STOP_SECONDS, self._give_up))
        self._killing = loop.create_task(self._kill_now())

    async def _kill_now(self) -> None:
        with contextlib.suppress(EngineError):  # then the stream is closed in the end, and removing is tried again
            await self._engine.kill(self._container.id)

    def _give_up(self) -> None:
        self._given_up = True
        self._attachment.close()

    async def _ending_of_the_killed(self, started_at: datetime, wall_seconds: float) -> Ending:
        """PID 1 died: by our hand, or for memory, as the engine saw it; anything else is a fault of ours."""
        if self._given_up:
            raise SandboxFault("the Docker engine did not end the sandbox's container; its outcome is unknown")
        oom_killed = self._stop is None and await self._was_out_of_memory()
        if self._stop is None and not oom_killed:
            raise SandboxFault("the sandbox's container was lost while the program ran; its outcome is unknown")
        return ending_without_report(started_at, wall_seconds, self._stop, oom_kills=int(oom_killed))

    async def _was_out_of_memory(self) -> bool:
        try:
            state = await self._engine.end_state(self._container.id)
        except EngineError as error:
            raise SandboxFault(
                f"the sandbox was lost while the program ran; its outcome is unknown: {error}"
            ) from error
        return not state.running and state.oom_killed

    async def destroy(self) -> None:
        """See ``Sandbox.destroy``."""
        if self._destroyed:
            return
        self._destroyed = True
        self._attachment.close()
        await self._container.remove()


def _failure_in(kind: frames.Kind, body: frames.Body) -> str:
    try:
        return failure_in(kind, body)
    except BadMessage as error:
        raise ProtocolViolation(f"the sandbox broke the protocol ({error})") from error


def _taken(body: frames.Body) -> InputTaken:
    try:
        return decode(InputTaken, body)
    except BadMessage as error:
        raise ProtocolViolation(f"the sandbox broke the protocol ({error})") from error


def _argv(language: Language) -> tuple[str, ...]:
    return command_in_image(language, file=FILE_MARK) if language.start is Start.COMMAND else ()
