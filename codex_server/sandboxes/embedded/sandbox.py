"""One execution in a slot: hand it to the init, enforce the limits from outside, return the ending."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from codex_server.errors import ProtocolViolation, SandboxFault, SandboxUnavailable
from codex_server.languages import Language, Start
from codex_server.model import Ending, Execution, Stop, Stream
from codex_server.sandboxes.base import Sandbox
from codex_server.sandboxes.embedded.cgroup import CgroupUsage
from codex_server.sandboxes.embedded.channel import close_all
from codex_server.sandboxes.embedded.commands import command_of
from codex_server.sandboxes.embedded.pipes import InputPipe, OutputPipe
from codex_server.sandboxes.embedded.slot import PATIENCE_SECONDS, Slot
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import encode
from codex_server.sandboxes.protocol.payload import FILE_MARK, BackendDefaults, payload, run_order
from codex_server.sandboxes.protocol.report import ending_without_report, failure_in, read_ending
from codex_server.sandboxes.session import OutputSink
from codex_server.sandboxes.stdin import StandardInput

_HARD_KILL_SECONDS = 0.25
"""How long an init may take to kill, reap and report before it is killed with everything in it."""
_LOOK_SECONDS = 0.1
"""The shortest time between two looks at the CPU time that a slot's cgroup has counted."""
_PROCESSORS = os.cpu_count() or 1
"""Asked once: each time costs as much as three reads of a file."""
_READ_AT_ONCE = 2**21
"""Bytes of a program's files that are read in one turn of the event loop."""


class EmbeddedSandbox(Sandbox):
    """An armed worker in ``slot``: it serves one execution, then it is dead, and the slot may serve another.

    ``streams`` are the server's ends: its input's, then its outputs'. ``on_clean`` is given the slot when everything
    went its usual way; a slot in which anything else happened, or that nobody may use again, is ended.
    """

    def __init__(
        self, slot: Slot, streams: list[int], defaults: BackendDefaults, on_clean: Callable[[Slot], None] | None
    ) -> None:
        self.slot = slot
        self._streams = streams
        self._defaults = defaults
        self._on_clean = on_clean
        self._stop: Stop | None = None
        self._over = False
        self._next_look: asyncio.TimerHandle | None = None
        self._clean = False
        self._destroyed = False

    @property
    def alive(self) -> bool:
        """An armed slot sends nothing: any byte, or its end, means that it died."""
        return not self._destroyed and self.slot.alive

    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """See ``Sandbox.run``."""
        started_at = datetime.now(UTC)
        self._hand_over(execution, language)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(execution.limits.wall_seconds, self._end, Stop.WALL_TIME)
        stdin_end, *output_ends = self._streams
        self._streams = []  # the pipes close them from here on
        pipes = [
            OutputPipe(descriptor, partial(self._take, output, stream))
            for stream, descriptor in zip((Stream.STDOUT, Stream.STDERR), output_ends, strict=False)
        ]
        source = InputPipe(stdin_end, stdin or StandardInput.of(execution))
        started = loop.time()
        if self.slot.cgroup:
            self._look_later(execution.limits.cpu_seconds, left=execution.limits.cpu_seconds)
        try:
            reported = await self._receive_ending(started_at)
            self._over = True
            for pipe in pipes:
                pipe.finish()
            return self._ending(reported) if reported else self._ending_of_the_killed(started_at, loop.time() - started)
        finally:
            self._over = True
            timer.cancel()
            if self._next_look:
                self._next_look.cancel()
            source.close()
            for pipe in pipes:
                pipe.close()

    def _hand_over(self, execution: Execution, language: Language) -> None:
        """Send the execution. INVARIANT: raises ``SandboxUnavailable`` only while no byte of it has left."""
        if not self.alive:
            raise SandboxUnavailable("the sandbox died before it was used; try again")
        if self.slot.cgroup:
            self.slot.cgroup.begin()
            self.slot.cgroup.limit(execution.limits)
        argv = _argv(language, confined=self.slot.folder is not None)
        packed = payload(execution, language, self.slot.environment, argv)
        order = run_order(execution, language, packed, self._defaults)
        content = in_memory(packed.parts)
        try:
            self.slot.channel.send(frames.Kind.RUN, encode(order), (content,))
        except (frames.Closed, OSError) as error:
            raise SandboxUnavailable("the sandbox died before it was used; try again") from error
        finally:
            os.close(content)

    def _take(self, output: OutputSink, stream: Stream, chunk: bytes) -> bool:
        wanted = output(stream, chunk)
        if not wanted:
            self._end(Stop.OUTPUT)
        return wanted

    def _end(self, reason: Stop) -> None:
        """Two steps: request that the init kill and report; if it does not, kill it with everything in it."""
        if self._stop is not None or self._over:
            return
        self._stop = reason
        with contextlib.suppress(frames.Closed, OSError):
            self.slot.channel.send(frames.Kind.STOP, {})
        patience = PATIENCE_SECONDS if self.slot.folder else _HARD_KILL_SECONDS
        asyncio.get_running_loop().call_later(patience, self._kill_if_late)

    def _look_later(self, allowed: float, left: float) -> None:
        """Look at the CPU time when ``left`` seconds of it can be used up at the earliest."""
        pause = max(_LOOK_SECONDS, left / _PROCESSORS)
        self._next_look = asyncio.get_running_loop().call_later(pause, self._look_at_processor, allowed)

    def _look_at_processor(self, allowed: float) -> None:
        """Stop the program when its cgroup counted too much: init does not see children whose death nobody awaits."""
        if self.slot.cgroup is None or self._over:
            return
        left = allowed - self.slot.cgroup.usage().cpu_seconds
        if left <= 0:
            self._end(Stop.CPU_TIME)
        else:
            self._look_later(allowed, left)

    def _kill_if_late(self) -> None:
        if not self._destroyed:
            self.slot.kill()

    async def _receive_ending(self, started_at: datetime) -> Ending | None:
        """The ending as init reports it, with the kept files' content, or None when it died without a report."""
        try:
            kind, body, descriptors = await self.slot.channel.receive()
        except frames.Closed:
            return None
        except frames.BadFrame as error:
            raise ProtocolViolation(f"the sandbox broke the protocol ({error})") from error
        try:
            if kind is not frames.Kind.RESULT:
                raise SandboxFault(f"the sandbox failed while it served the program: {failure_in(kind, body)}")
            self._over = True  # nothing runs any more, and no limit can pass while the files are read
            content = await content_behind(descriptors, self._defaults.inline_total_bytes)
            return read_ending(body, content, started_at=started_at, requested=self._stop)
        except frames.BadFrame as error:
            raise ProtocolViolation(f"the sandbox broke the protocol ({error})") from error
        finally:
            close_all(descriptors)

    def _ending(self, reported: Ending) -> Ending:
        """What init ``reported``, with what the slot's cgroup has counted, where there is one."""
        usage = self._usage()
        self._clean = self._stop is None and reported.stop is None and not (usage and usage.oom_kills)
        if usage is None:
            return reported
        return replace(
            reported,
            cpu_seconds=usage.cpu_seconds,
            peak_memory_bytes=usage.peak_memory_bytes,
            oom_kills=usage.oom_kills,
        )

    def _usage(self) -> CgroupUsage | None:
        try:
            return self.slot.cgroup.usage() if self.slot.cgroup else None
        except OSError as error:
            raise SandboxFault(f"the sandbox's cgroup cannot be read: {error}") from error

    def _ending_of_the_killed(self, started_at: datetime, wall_seconds: float) -> Ending:
        """The init died: by our hand, or for memory; anything else is a fault of ours."""
        usage = self._usage()
        oom_kills = usage.oom_kills if usage else 0
        if self._stop is None and not oom_kills:
            raise SandboxFault("the sandbox was lost while the program ran; its outcome is unknown")
        return ending_without_report(
            started_at,
            wall_seconds,
            self._stop,
            oom_kills=oom_kills,
            cpu_seconds=usage.cpu_seconds if usage else None,
            peak_memory_bytes=usage.peak_memory_bytes if usage else None,
        )

    async def destroy(self) -> None:
        """See ``Sandbox.destroy``."""
        if self._destroyed:
            return
        self._destroyed = True
        for descriptor in self._streams:
            os.close(descriptor)
        if self._on_clean and self._clean and self.slot.reusable:
            self._on_clean(self.slot)
        else:
            await self.slot.end()


async def content_behind(descriptors: list[int], most: int) -> memoryview:
    """What is behind the first descriptor, bounded: one byte more than ``most`` says that there was too much.

    Others have their turn while much of it is read. Raises ``ProtocolViolation``.
    """
    try:
        size = min(os.fstat(descriptors[0]).st_size, most + 1) if descriptors else 0
        content = memoryview(bytearray(size))
        for offset in range(0, size, _READ_AT_ONCE):
            if offset:
                await asyncio.sleep(0)
            os.preadv(descriptors[0], [content[offset : offset + _READ_AT_ONCE]], offset)
    except OSError as error:
        raise ProtocolViolation(f"the sandbox's report is malformed ({error!r})") from error
    return content


def in_memory(parts: list[bytes]) -> int:
    """A memfd with all of ``parts``; the caller closes it. Raises ``OSError``."""
    payload = os.memfd_create("execution", os.MFD_CLOEXEC)
    try:
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[os.write(payload, left) :]
    except BaseException:
        os.close(payload)
        raise
    return payload


def _argv(language: Language, *, confined: bool) -> tuple[str, ...]:
    return command_of(language, confined=confined, file=FILE_MARK) if language.start is Start.COMMAND else ()
