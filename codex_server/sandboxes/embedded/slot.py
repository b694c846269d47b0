"""A slot as the server sees it: hand the execution to its init, enforce the limits from outside, tell the ending."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from codex_server.errors import ProtocolViolation, SandboxFault, SandboxUnavailable
from codex_server.languages import Language, Start
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, Stop, Stream
from codex_server.sandboxes.base import OutputSink, Sandbox
from codex_server.sandboxes.embedded.cgroup import CgroupUsage, SlotCgroup
from codex_server.sandboxes.embedded.channel import Channel, close_all, wait_for_exit
from codex_server.sandboxes.embedded.pipes import InputPipe, OutputPipe
from codex_server.sandboxes.embedded.report import Report, read_report
from codex_server.sandboxes.embedded.room import wire
from codex_server.sandboxes.embedded.room.removal import remove_tree
from codex_server.sandboxes.embedded.rooms import guest_path, runner_folder

_HARD_KILL_SECONDS = 0.25
"""How long an init may take to kill, reap and report before it is killed with everything in it."""
_PATIENCE_SECONDS = 5.0
"""The same at level ``confined``, where an init that is killed takes nobody with it: its zygote must hunt them down."""
_DEATH_SECONDS = 10.0
_LOOK_SECONDS = 0.1
"""The shortest time between two looks at the processor time that a slot's cgroup has counted."""
_FILE_MARK = "\0file"


@dataclass(frozen=True, slots=True)
class SlotParts:
    """Everything that belongs to one armed slot."""

    number: int
    channel: Channel
    pidfd: int
    stdin: int
    stdout: int
    stderr: int
    environment: dict[str, str]
    cgroup: SlotCgroup | None
    folder: Path | None
    """Its own folder on the host, at level ``confined``."""


@dataclass(frozen=True, slots=True)
class SlotTerms:
    """What is the same for every slot of a backend."""

    ceilings: Limits
    inline_bytes: int
    inline_total_bytes: int


class EmbeddedSandbox(Sandbox):
    """One armed slot: it serves one execution, then dies."""

    def __init__(self, parts: SlotParts, terms: SlotTerms, on_freed: Callable[[int], None]) -> None:
        self._parts = parts
        self._terms = terms
        self._on_freed = on_freed
        self._streams = [parts.stdin, parts.stdout, parts.stderr]
        self._stop: Stop | None = None
        self._over = False
        self._next_look: asyncio.TimerHandle | None = None
        self._destroyed = False

    @property
    def alive(self) -> bool:
        """An armed slot says nothing: any byte, or its end, means that it died."""
        return not self._destroyed and self._parts.channel.is_silent()

    async def run(self, execution: Execution, language: Language, output: OutputSink) -> Ending:
        """See ``Sandbox.run``."""
        started_at = datetime.now(UTC)
        self._hand_over(execution, language)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(execution.limits.wall_seconds, self._end, Stop.WALL_TIME)
        stdin_end, *output_ends = self._streams
        self._streams = []  # the pipes close them from here on
        pipes = [
            OutputPipe(descriptor, partial(self._take, output, stream))
            for stream, descriptor in zip((Stream.STDOUT, Stream.STDERR), output_ends, strict=True)
        ]
        stdin = InputPipe(stdin_end, execution.stdin)
        started = loop.time()
        if self._parts.cgroup:
            self._look_later(execution.limits.cpu_seconds, left=execution.limits.cpu_seconds)
        try:
            report = await self._hear_report()
            self._over = True
            for pipe in pipes:
                pipe.finish()
            return self._ending(report, started_at, loop.time() - started)
        finally:
            self._over = True
            timer.cancel()
            if self._next_look:
                self._next_look.cancel()
            stdin.close()
            for pipe in pipes:
                pipe.close()

    def _hand_over(self, execution: Execution, language: Language) -> None:
        """Send the execution. INVARIANT: raises ``SandboxUnavailable`` only while no byte of it has left."""
        if not self.alive:
            raise SandboxUnavailable("the sandbox died before it was used; try again")
        if self._parts.cgroup:
            self._parts.cgroup.begin()
            if _in_cgroup(execution.limits) != _in_cgroup(self._terms.ceilings):
                self._parts.cgroup.limit(execution.limits)
        payload, header_bytes = _payload(
            execution, language, self._parts.environment, confined=self._parts.folder is not None
        )
        limits = execution.limits
        body = {
            "header_bytes": header_bytes,
            "cpu_seconds": limits.cpu_seconds,
            "memory_bytes": limits.memory_bytes,
            "processes": limits.processes,
            "file_bytes": limits.file_bytes,
            "data_limit": language.start is not Start.AGENT,  # V8 reserves far more than it uses
            "inline_bytes": self._terms.inline_bytes,
            "inline_total_bytes": self._terms.inline_total_bytes,
        }
        try:
            self._parts.channel.send(wire.Kind.RUN, body, (payload,))
        except (wire.Closed, OSError) as error:
            raise SandboxUnavailable("the sandbox died before it was used; try again") from error
        finally:
            os.close(payload)

    def _take(self, output: OutputSink, stream: Stream, chunk: bytes) -> bool:
        wanted = output(stream, chunk)
        if not wanted:
            self._end(Stop.OUTPUT)
        return wanted

    def _end(self, reason: Stop) -> None:
        """Two steps: ask the init to kill and report; if it does not, kill it with everything in it."""
        if self._stop is not None or self._over:
            return
        self._stop = reason
        with contextlib.suppress(wire.Closed, OSError):
            self._parts.channel.send(wire.Kind.STOP, {})
        patience = _PATIENCE_SECONDS if self._parts.folder else _HARD_KILL_SECONDS
        asyncio.get_running_loop().call_later(patience, self._kill_if_late)

    def _look_later(self, allowed: float, left: float) -> None:
        """Look at the processor time when ``left`` seconds of it can be used up at the earliest."""
        pause = max(_LOOK_SECONDS, left / (os.cpu_count() or 1))
        self._next_look = asyncio.get_running_loop().call_later(pause, self._look_at_processor, allowed)

    def _look_at_processor(self, allowed: float) -> None:
        """Stop the program when its cgroup counted too much: init does not see children whose death nobody awaits."""
        if self._parts.cgroup is None or self._over:
            return
        left = allowed - self._parts.cgroup.usage().cpu_seconds
        if left <= 0:
            self._end(Stop.CPU_TIME)
        else:
            self._look_later(allowed, left)

    def _kill_if_late(self) -> None:
        if not self._destroyed:
            self._kill()

    def _kill(self) -> None:
        # INVARIANT: killing the init, PID 1 of the slot, kills the whole tree, daemons and double forks too.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._parts.pidfd, signal.SIGKILL)

    async def _hear_report(self) -> Report | None:
        """The init's report with the kept files' content, or None when it died without one."""
        try:
            kind, body, descriptors = await self._parts.channel.receive()
        except wire.Closed:
            return None
        except wire.BadFrame as error:
            raise ProtocolViolation(f"the sandbox broke the protocol ({error})") from error
        try:
            if kind is not wire.Kind.RESULT:
                raise SandboxFault(f"the sandbox failed while it served the program: {body.get('message', kind.name)}")
            report = read_report(body, descriptors, self._terms.inline_total_bytes)
        finally:
            close_all(descriptors)
        if report.asked and self._stop is None:
            raise ProtocolViolation("the sandbox was stopped as if asked, and nobody asked")
        return report

    def _ending(self, report: Report | None, started_at: datetime, wall_seconds: float) -> Ending:
        usage = self._usage()
        if report is None:
            return self._ending_of_the_killed(usage, started_at, wall_seconds)
        return Ending(
            exit_code=report.exit_code,
            signal=report.signal,
            started_at=started_at,
            wall_seconds=report.wall_seconds,
            cpu_seconds=usage.cpu_seconds if usage else report.cpu_seconds,
            peak_memory_bytes=usage.peak_memory_bytes if usage else report.peak_memory_bytes,
            stop=self._stop if report.asked else report.passed,
            oom_kills=usage.oom_kills if usage else 0,
            files=report.files,
            skipped_files=report.skipped_files,
        )

    def _usage(self) -> CgroupUsage | None:
        try:
            return self._parts.cgroup.usage() if self._parts.cgroup else None
        except OSError as error:
            raise SandboxFault(f"the sandbox's cgroup cannot be read: {error}") from error

    def _ending_of_the_killed(self, usage: CgroupUsage | None, started_at: datetime, wall_seconds: float) -> Ending:
        """The init died: by our hand, or for memory; anything else is a fault of ours."""
        oom_kills = usage.oom_kills if usage else 0
        if self._stop is None and not oom_kills:
            raise SandboxFault("the sandbox was lost while the program ran; its outcome is unknown")
        return Ending(
            exit_code=None,
            signal=signal.SIGKILL,
            started_at=started_at,
            wall_seconds=wall_seconds,
            cpu_seconds=usage.cpu_seconds if usage else 0.0,
            peak_memory_bytes=usage.peak_memory_bytes if usage else None,
            stop=self._stop,
            oom_kills=oom_kills,
        )

    async def destroy(self) -> None:
        """See ``Sandbox.destroy``."""
        if self._destroyed:
            return
        self._destroyed = True
        if not self._parts.folder:
            self._kill()
        self._parts.channel.close()
        for descriptor in self._streams:
            os.close(descriptor)
        try:
            if not await self._init_ended():
                return  # its id and cgroup stay taken: they are not given to another slot
            if self._parts.cgroup:
                await self._parts.cgroup.remove_soon()
            if self._parts.folder:
                await _remove_soon(str(self._parts.folder))
            self._on_freed(self._parts.number)
        finally:
            os.close(self._parts.pidfd)

    async def _init_ended(self) -> bool:
        """Whether the init is dead, and all of its guest: at level ``confined`` it must kill them before it goes."""
        if self._parts.folder and await wait_for_exit(self._parts.pidfd, _PATIENCE_SECONDS):
            return True
        self._kill()
        return await wait_for_exit(self._parts.pidfd, _DEATH_SECONDS)


async def _remove_soon(folder: str) -> None:
    """Remove a slot's folder. Where its init was killed its zygote may still be ending the guest, who may still write.

    What is left after that goes when the backend is closed.
    """
    for pause in (0.0, 0.05, 0.5):
        await asyncio.sleep(pause)
        with contextlib.suppress(OSError):
            return await asyncio.to_thread(remove_tree, folder)


def _payload(
    execution: Execution, language: Language, environment: dict[str, str], *, confined: bool
) -> tuple[int, int]:
    """A memfd with the header and every file's content, and the header's length."""
    code = execution.code.encode()
    contents = [code, *(file.content for file in execution.files)]
    names = [language.file_name, *(file.path for file in execution.files)]
    header = json.dumps(
        {
            "file": language.file_name,
            "files": [[name, len(content)] for name, content in zip(names, contents, strict=True)],
            "args": list(execution.args),
            "argv": _argv(execution, language, confined=confined),
            "env": environment | dict(language.env) | dict(execution.env),
        }
    ).encode("ascii")
    payload = os.memfd_create("execution", os.MFD_CLOEXEC)
    with open(payload, "wb", closefd=False) as file:
        file.writelines([header, *contents])
    return payload, len(header)


def _in_cgroup(limits: Limits) -> tuple[int, int]:
    """The limits that the cgroup holds; an armed one has the ceilings."""
    return limits.memory_bytes, limits.processes


def _argv(execution: Execution, language: Language, *, confined: bool) -> list[str]:
    if language.start is not Start.COMMAND:
        return []
    return [*command_of(language, confined=confined, file=_FILE_MARK), *execution.args]


def command_of(language: Language, *, confined: bool, file: str = "") -> list[str]:
    """The language's command with paths as the guest sees them: its own room's, or the host's at level ``confined``."""
    if language.interpreter is None:
        raise SandboxUnavailable(f"{language.title} has no interpreter on this machine")
    program = str(language.interpreter.path) if confined else guest_path(language.interpreter)
    runner = str(language.folder) if confined else runner_folder(language)
    return list(language.render_command(program=program, runner=runner, file=file))
