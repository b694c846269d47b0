"""A backend in memory, for the tests of everything above it; it passes the same contract as the real ones.

The code of an execution is a script, one word and its argument a line; an empty line or one with # is skipped:

    print TEXT / error TEXT     a line on stdout / stderr
    bytes HEX / error-bytes HEX bytes on stdout / stderr
    flood COUNT                 that many bytes on stdout, in chunks of 64 KiB
    stdin                       standard input to its end, on stdout
    read                        the next line of standard input, on stdout; nothing at its end
    args / env                  the arguments / the environment as JSON, on stdout
    cat PATH                    a file of the workspace, on stdout
    write PATH TEXT             a file in the workspace
    skip PATH REASON            something in the workspace that is not handed back
    cpu SECONDS                 use CPU time (none is used: the clock is set so)
    oom                         be killed for memory
    exit CODE / signal NUMBER   end
    hang                        reach the wall time, at once
    wait NAME                   until the test sets ``backend.event(NAME)``, at most the wall time
    die                         lose the sandbox: ``SandboxFault``

Another word ends the script with exit code 2 and a line on stderr. A script that comes to its end exits with 0.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from signal import SIGKILL

from codex_server.errors import SandboxFault, SandboxUnavailable
from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Languages, Start
from codex_server.model import PIPES, Ending, Execution, OutputFile, SkippedFile, Stdio, Stop, Stream
from codex_server.sandboxes.base import Backend, Isolation, IsolationLevel, OutputSink, Sandbox
from codex_server.sandboxes.stdin import StandardInput

_CHUNK = 64 * 2**10


class FakeBackend(Backend):
    """Arms fake sandboxes, and keeps account of them. A test sets the public fields to bring bad luck."""

    name = "fake"

    def __init__(self) -> None:
        self.arms_that_fail = 0
        """So many of the next calls of ``arm`` raise ``SandboxUnavailable``."""
        self.runs_that_find_death = 0
        """So many of the next calls of ``Sandbox.run`` raise ``SandboxUnavailable``."""
        self.extra_pools: tuple[str, ...] = ()
        self.no_terminal: str | None = None
        """What ``refusal`` answers for a terminal."""
        self.trouble: str | None = None
        """What ``problem`` answers."""
        self.arming: Callable[[], asyncio.Future[None]] | None = None
        """Awaited by ``arm`` when set: lets a test hold arming up."""
        self.armed: list[FakeSandbox] = []
        """Every sandbox ever armed, oldest first."""
        self.executions: list[Execution] = []
        """Every execution whose code began."""
        self.started = False
        self._events: dict[str, asyncio.Event] = {}

    @property
    def living(self) -> "list[FakeSandbox]":
        """Sandboxes that were armed and are not destroyed: empty when nothing leaked."""
        return [sandbox for sandbox in self.armed if not sandbox.destroyed]

    def event(self, name: str) -> asyncio.Event:
        """The event that the word ``wait NAME`` of a script waits for."""
        return self._events.setdefault(name, asyncio.Event())

    async def start(self) -> None:
        """Nothing to make ready."""
        self.started = True

    async def close(self) -> None:
        """Destroy what the caller left; a test asks ``living`` before."""
        self.started = False
        for sandbox in self.living:
            await sandbox.destroy()

    @property
    def isolation(self) -> Isolation:
        """Full: nothing is run."""
        return Isolation(IsolationLevel.FULL, "nothing is run, so nothing can get out")

    def problem(self) -> str | None:
        """``trouble``, as the test set it."""
        return self.trouble

    def pool_keys(self, language: Language) -> tuple[str, ...]:
        """As the runner says, and those of ``extra_pools``."""
        return (language.pool, *self.extra_pools)

    def pool_key(self, language: Language, code: str, given: Iterable[str] = ()) -> str:
        """The one of ``extra_pools`` that the code names, else the runner's."""
        return next((pool for pool in self.extra_pools if pool in code), language.pool)

    def refusal(self, stdio: Stdio) -> str | None:
        """``no_terminal``, as the test set it, for a terminal."""
        return self.no_terminal if stdio.terminal else None

    async def arm(self, language: Language, pool: str = "", stdio: Stdio = PIPES) -> Sandbox:
        """A sandbox that serves one script."""
        await (self.arming() if self.arming else asyncio.sleep(0))
        if self.arms_that_fail:
            self.arms_that_fail -= 1
            raise SandboxUnavailable(f"the fake was told not to arm a sandbox for {language.name}")
        sandbox = FakeSandbox(self, stdio)
        self.armed.append(sandbox)
        return sandbox


class FakeSandbox(Sandbox):
    """Interprets one script. ``dead`` may be set by a test: it died while it waited."""

    def __init__(self, backend: FakeBackend, stdio: Stdio) -> None:
        self._backend = backend
        self._stdio = stdio
        self.dead = False
        self.used = False
        self.destroyed = False

    @property
    def alive(self) -> bool:
        """Whether it waits for its one script."""
        return not (self.dead or self.used or self.destroyed)

    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """Interpret the script."""
        if not self.alive:
            raise SandboxUnavailable("the fake sandbox was found dead")
        self.used = True
        if self._backend.runs_that_find_death:
            self._backend.runs_that_find_death -= 1
            raise SandboxUnavailable("the fake sandbox was told to be dead")
        self._backend.executions.append(execution)
        into = partial(_into_one, output) if self._stdio != PIPES else output
        return await _Script(execution, into, stdin or StandardInput.of(execution), self._backend.event).run()

    async def destroy(self) -> None:
        """Take it off the account."""
        self.destroyed = True
        await asyncio.sleep(0)


def _into_one(output: OutputSink, _: Stream, chunk: bytes) -> bool:
    """What a sandbox with one stream for both passes on."""
    return output(Stream.STDOUT, chunk)


class _End(Exception):
    """The script ends here, so."""

    def __init__(self, exit_code: int | None = None, signal: int | None = None, stop: Stop | None = None) -> None:
        super().__init__()
        self.exit_code = exit_code
        self.signal = signal
        self.stop = stop


class _Script:
    def __init__(
        self, execution: Execution, output: OutputSink, stdin: StandardInput, event: Callable[[str], asyncio.Event]
    ) -> None:
        self._execution = execution
        self._output = output
        self._stdin = stdin
        self._more = asyncio.Event()
        stdin.read_by(self._more.set)
        self._event = event
        self._inputs = {file.path: file.content for file in execution.files}
        self._files: dict[str, bytes] = {}
        self._skipped: list[SkippedFile] = []
        self._cpu_seconds = 0.0
        self._oom_kills = 0

    async def run(self) -> Ending:
        started_at, began = datetime.now(UTC), time.monotonic()
        try:
            end = await self._end()
        finally:
            self._stdin.abandon()
        hung = end.stop is Stop.WALL_TIME
        return Ending(
            exit_code=end.exit_code,
            signal=end.signal,
            started_at=started_at,
            wall_seconds=self._execution.limits.wall_seconds if hung else time.monotonic() - began,
            cpu_seconds=self._cpu_seconds,
            peak_memory_bytes=2**20,
            stop=end.stop,
            oom_kills=self._oom_kills,
            files=tuple(OutputFile(path, content) for path, content in sorted(self._files.items())),
            skipped_files=tuple(sorted(self._skipped, key=lambda file: file.path)),
        )

    async def _end(self) -> _End:
        try:
            for line in self._execution.code.splitlines():
                word, _, rest = line.strip().partition(" ")
                if word and not word.startswith("#"):
                    await self._do(word, rest)
        except _End as end:
            return end
        return _End(exit_code=0)

    async def _do(self, word: str, rest: str) -> None:
        if word == "wait":
            await self._wait(self._event(rest))
        elif word in ("stdin", "read"):
            self._write(await self._read(line=word == "read"))
        elif word in _WORDS:
            _WORDS[word](self, rest)
        else:
            self._write(f"the fake does not know the word {word!r}\n".encode(), Stream.STDERR)
            raise _End(exit_code=2)

    async def _read(self, *, line: bool) -> bytes:
        """The next line, or all up to the end."""
        found = bytearray()
        while not (line and found.endswith(b"\n")):
            waiting = bytes(self._stdin.peek(_CHUNK))
            if not waiting and self._stdin.ended:
                break
            if not waiting:
                self._more.clear()
                await self._wait(self._more)
                continue
            part = waiting[: waiting.find(b"\n") + 1 or len(waiting)] if line else waiting
            self._stdin.take(len(part))
            found += part
        return bytes(found)

    async def _wait(self, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._execution.limits.wall_seconds):
                await event.wait()
        except TimeoutError:
            raise _End(signal=SIGKILL, stop=Stop.WALL_TIME) from None

    def _write(self, data: bytes, stream: Stream = Stream.STDOUT) -> None:
        for start in range(0, len(data), _CHUNK):
            if not self._output(stream, data[start : start + _CHUNK]):
                raise _End(signal=SIGKILL, stop=Stop.OUTPUT)

    def _json(self, value: object) -> None:
        self._write(json.dumps(value, sort_keys=True).encode() + b"\n")

    def _cat(self, path: str) -> None:
        content = {**self._inputs, **self._files}.get(path)
        if content is None:
            self._write(f"there is no file {path}\n".encode(), Stream.STDERR)
            raise _End(exit_code=1)
        self._write(content)

    def _save(self, rest: str) -> None:
        path, _, text = rest.partition(" ")
        self._files[path] = text.encode()

    def _skip(self, rest: str) -> None:
        path, _, reason = rest.partition(" ")
        self._skipped.append(SkippedFile(path, None, reason))

    def _spend(self, rest: str) -> None:
        self._cpu_seconds += float(rest)
        if self._cpu_seconds > self._execution.limits.cpu_seconds:
            raise _End(signal=SIGKILL, stop=Stop.CPU_TIME)

    def _oom(self, _: str) -> None:
        self._oom_kills += 1
        raise _End(signal=SIGKILL)

    def _exit(self, rest: str) -> None:
        raise _End(exit_code=int(rest) & 0xFF)

    def _signal(self, rest: str) -> None:
        raise _End(signal=int(rest))

    def _hang(self, _: str) -> None:
        raise _End(signal=SIGKILL, stop=Stop.WALL_TIME)

    def _die(self, _: str) -> None:
        raise SandboxFault("the fake sandbox was lost")


_WORDS: dict[str, Callable[[_Script, str], None]] = {
    "print": lambda script, rest: script._write(f"{rest}\n".encode()),
    "error": lambda script, rest: script._write(f"{rest}\n".encode(), Stream.STDERR),
    "bytes": lambda script, rest: script._write(bytes.fromhex(rest)),
    "error-bytes": lambda script, rest: script._write(bytes.fromhex(rest), Stream.STDERR),
    "flood": lambda script, rest: script._write(b"x" * int(rest)),
    "args": lambda script, _: script._json(list(script._execution.args)),
    "env": lambda script, _: script._json(dict(script._execution.env)),
    "cat": _Script._cat,
    "write": _Script._save,
    "skip": _Script._skip,
    "cpu": _Script._spend,
    "oom": _Script._oom,
    "exit": _Script._exit,
    "signal": _Script._signal,
    "hang": _Script._hang,
    "die": _Script._die,
}


def fake_languages() -> Languages:
    """Python, JavaScript, TypeScript and Bash as though this machine had them, and Cobol, which it has not."""
    return Languages(
        [
            _language("python", "python", ("py", "python3")),
            _language("javascript", "javascript", ("js", "node")),
            _language("typescript", "javascript", ("ts",)),
            _language("bash", "python", ("sh",)),
            _language("cobol", "python", (), available=False),
        ]
    )


def _language(name: str, pool: str, aliases: tuple[str, ...], *, available: bool = True) -> Language:
    return Language(
        name=name,
        title=name.capitalize(),
        aliases=aliases,
        file_name=f"main.{name}",
        start=Start.COMMAND,
        command=("{program}", "{file}"),
        env={},
        pool=pool,
        folder=Path(f"/nonexistent/{name}"),
        interpreter=Interpreter(f"/nonexistent/bin/{name}", Path(f"/nonexistent/bin/{name}")) if available else None,
        version="1.2.3" if available else None,
    )
