"""The scripts that fake sandboxes interpret.

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

In a session also:

    set NAME TEXT / get NAME    a variable of the language's interpreter, which stays / its text on stdout
    result TEXT                 the value of the last expression
    quit                        end the interpreter

Another word ends the script with exit code 2 and a line on stderr. A script that comes to its end exits with 0.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from signal import SIGKILL

from codex_server.errors import SandboxFault
from codex_server.model import CellFacts, Ending, Execution, OutputFile, SkippedFile, Stop, Stream
from codex_server.sandboxes.session import OutputSink
from codex_server.sandboxes.stdin import StandardInput

CHUNK = 64 * 2**10


@dataclass(slots=True)
class Kept:
    """What a session keeps between scripts: the ``files`` of its workspace, and one interpreter's ``variables``."""

    files: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    count: int = 0
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)


class _End(Exception):
    """The script ends here, so."""

    def __init__(self, exit_code: int | None = None, signal: int | None = None, stop: Stop | None = None) -> None:
        super().__init__()
        self.exit_code = exit_code
        self.signal = signal
        self.stop = stop


class Script:
    """One script. ``kept``: what it finds of the session's earlier ones, and leaves there; None outside of one."""

    def __init__(
        self,
        execution: Execution,
        output: OutputSink,
        stdin: StandardInput,
        event: Callable[[str], asyncio.Event],
        kept: Kept | None = None,
    ) -> None:
        self._execution = execution
        self._output = output
        self._stdin = stdin
        self._more = asyncio.Event()
        stdin.read_by(self._more.set)
        self._event = event
        self._kept = kept
        self._result: Mapping[str, object] | None = None
        self._quit = self._interrupted = False
        self._inputs = {**(kept.files if kept else {}), **{file.path: file.content for file in execution.files}}
        self._files: dict[str, bytes] = {}
        self._skipped: list[SkippedFile] = []
        self._cpu_seconds = 0.0
        self._oom_kills = 0

    async def run(self) -> Ending:
        """Interpret it to its end."""
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
            cell=self._cell(end) if self._kept else None,
        )

    def _cell(self, end: _End) -> CellFacts:
        """What the session keeps of this script: its files always, its variables unless the interpreter ended."""
        assert self._kept is not None  # noqa: S101 - asked before
        lost = self._quit or end.exit_code is None
        self._kept.count += 1
        self._kept.files = {**self._inputs, **self._files}
        if lost:
            self._kept.variables.clear()
        found = self._interrupted
        return CellFacts(
            self._kept.count, self._result, claimed=not lost, interpreter_restarted=lost, interrupted=found
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
            waiting = bytes(self._stdin.peek(CHUNK))
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
                await self._unless_interrupted(event)
        except TimeoutError:
            raise _End(signal=SIGKILL, stop=Stop.WALL_TIME) from None

    async def _unless_interrupted(self, event: asyncio.Event) -> None:
        """Wait for ``event``; an interrupt of the session ends the script as an exception would."""
        events = [event, *([self._kept.interrupted] if self._kept else [])]
        waits = [asyncio.ensure_future(each.wait()) for each in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._kept and self._kept.interrupted.is_set():
            self._kept.interrupted.clear()
            self._interrupted = True
            self._write(b"KeyboardInterrupt\n", Stream.STDERR)
            raise _End(exit_code=130)

    def _write(self, data: bytes, stream: Stream = Stream.STDOUT) -> None:
        for start in range(0, len(data), CHUNK):
            if not self._output(stream, data[start : start + CHUNK]):
                raise _End(signal=SIGKILL, stop=Stop.OUTPUT)

    def _json(self, value: object) -> None:
        self._write(json.dumps(value, sort_keys=True).encode() + b"\n")

    def _cat(self, path: str) -> None:
        content = {**self._inputs, **self._files}.get(path)
        if content is None:
            self._write(f"there is no file {path}\n".encode(), Stream.STDERR)
            raise _End(exit_code=1)
        self._write(content)

    def _set(self, rest: str) -> None:
        name, _, text = rest.partition(" ")
        self._variables()[name] = text

    def _get(self, name: str) -> None:
        if name not in self._variables():
            self._write(f"there is no variable {name}\n".encode(), Stream.STDERR)
            raise _End(exit_code=1)
        self._write(f"{self._variables()[name]}\n".encode())

    def _variables(self) -> dict[str, str]:
        if self._kept is None:
            raise SandboxFault("the fake keeps variables in a session alone")
        return self._kept.variables

    def _value(self, rest: str) -> None:
        self._result = {"text/plain": rest}

    def _leave(self, _: str) -> None:
        self._quit = True
        raise _End(exit_code=0)

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


_WORDS: dict[str, Callable[[Script, str], None]] = {
    "print": lambda script, rest: script._write(f"{rest}\n".encode()),
    "error": lambda script, rest: script._write(f"{rest}\n".encode(), Stream.STDERR),
    "bytes": lambda script, rest: script._write(bytes.fromhex(rest)),
    "error-bytes": lambda script, rest: script._write(bytes.fromhex(rest), Stream.STDERR),
    "flood": lambda script, rest: script._write(b"x" * int(rest)),
    "args": lambda script, _: script._json(list(script._execution.args)),
    "env": lambda script, _: script._json(dict(script._execution.env)),
    "cat": Script._cat,
    "write": Script._save,
    "skip": Script._skip,
    "cpu": Script._spend,
    "oom": Script._oom,
    "exit": Script._exit,
    "signal": Script._signal,
    "hang": Script._hang,
    "die": Script._die,
    "set": Script._set,
    "get": Script._get,
    "result": Script._value,
    "quit": Script._leave,
}
