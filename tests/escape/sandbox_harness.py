"""A backend at one isolation level, to which a test gives programs; and baits for them on the host."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from codex_server.languages import Languages
from codex_server.limits import Limits
from codex_server.model import PIPES, Ending, Execution, InputFile, Status, Stdio, Stream
from codex_server.sandboxes.base import Backend, IsolationLevel
from codex_server.sandboxes.docker.backend import DockerBackend
from codex_server.sandboxes.docker.container import OWNER_LABEL
from codex_server.sandboxes.docker.engine import EngineRefused
from codex_server.sandboxes.embedded.backend import EmbeddedBackend
from codex_server.sandboxes.embedded.sandbox import EmbeddedSandbox
from codex_server.sandboxes.embedded.slot import Slot
from codex_server.sandboxes.seccomp import syscalls
from codex_server.settings import Settings
from tests.engine import HOST
from tests.host_snapshot import next_guest_ids
from tests.waiting import until

T = TypeVar("T")
FLOOD = 8 * 2**20
"""Bytes after which the sink of these tests calls a program's output a flood."""

PRELUDE = f"""
import ctypes, errno, json, os, sys
NUMBERS = {syscalls.numbers(os.uname().machine)!r}
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    '''The name of the errno that the kernel answers, or "done".'''
    number = NUMBERS[name] if isinstance(name, str) else name
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *wide)
    return errno.errorcode.get(ctypes.get_errno(), "?") if result == -1 else "done"
def attempt(action, *arguments, **named):
    '''The name of the errno that ``action`` fails with, or "done".'''
    try:
        action(*arguments, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    return "done"
def tell(value):
    print(json.dumps(value))
"""


@dataclass(frozen=True)
class Seen:
    """What came of a program: the supervisor's ending, and what was read from its streams."""

    ending: Ending
    stdout: str
    stderr: str

    @property
    def status(self) -> Status:
        """One word."""
        return self.ending.status

    @property
    def told(self) -> Any:
        """The JSON that the program printed, and nothing else went wrong."""
        assert (self.stderr, self.ending.exit_code) == ("", 0), self
        return json.loads(self.stdout)


@dataclass
class Sink:
    """Keeps the output of a program up to ``FLOOD``."""

    chunks: dict[Stream, bytearray] = field(default_factory=lambda: {stream: bytearray() for stream in Stream})
    heard: Callable[[bytes], None] | None = None

    def __call__(self, stream: Stream, chunk: bytes) -> bool:
        self.chunks[stream] += chunk
        if self.heard:
            self.heard(bytes(self.chunks[Stream.STDOUT]))
        return sum(map(len, self.chunks.values())) <= FLOOD

    def seen(self, ending: Ending) -> Seen:
        """What the program did."""
        return Seen(ending, *(self.chunks[stream].decode("utf-8", "replace") for stream in Stream))


class SandboxHarness:
    """A started backend with an event loop of its own; every method waits for its end."""

    def __init__(self, runner: asyncio.Runner, languages: Languages, level: IsolationLevel, **settings: Any) -> None:
        self.level = level
        self.languages = languages
        self.settings = Settings(min_isolation=str(level), guest_ids=next_guest_ids(), **settings)
        self.backend: Any = self._backend()
        self._runner = runner
        self.in_container = False
        self.last_slot: Slot | None = None
        """The one that served the last program."""

    def _backend(self) -> Backend:
        return EmbeddedBackend(self.settings, self.languages, most=self.level)

    def open(self) -> None:
        """Start the backend. Raises ``IsolationTooWeak`` where the host does not allow the level."""
        self.wait(self.backend.start())
        self.languages = self.wait(self.backend.survey(self.languages))

    def close(self) -> None:
        """End it."""
        self.wait(self.backend.close())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work`` in this harness's event loop."""
        return self._runner.run(work)

    def settle(self) -> None:
        """End the slots that stand empty, as they would be by themselves after a moment."""
        for supervisor in self.backend._supervisors():
            self.wait(supervisor.idle.close())

    def python(self, code: str, **wishes: Any) -> Seen:
        """Run a Python program that may use ``call``, ``attempt`` and ``tell``."""
        return self.run("python", PRELUDE + textwrap.dedent(code), **wishes)

    def bash(self, code: str, **wishes: Any) -> Seen:
        """Run a bash program."""
        return self.run("bash", textwrap.dedent(code), **wishes)

    def run(self, language: str, code: str, **wishes: Any) -> Seen:
        """Run ``code`` exactly as it is; ``wishes``: limits by their names, args, env, stdin, stdio, files."""
        return self.wait(self._run(language, code, wishes, Sink()))

    def together(self, *codes: str, **wishes: Any) -> list[Seen]:
        """Run Python programs at the same time, each in a sandbox of its own."""

        async def all_of_them() -> list[Seen]:
            runs = (self._run("python", PRELUDE + textwrap.dedent(code), dict(wishes), Sink()) for code in codes)
            return list(await asyncio.gather(*runs))

        return self.wait(all_of_them())

    def disturbed(
        self, code: str, word: str, deed: Callable[[EmbeddedSandbox], Awaitable[None] | None], **wishes: Any
    ) -> Seen:
        """Run a Python program, and do ``deed`` as soon as it has printed ``word``."""

        async def meanwhile() -> Seen:
            said = asyncio.Event()
            sink = Sink(heard=lambda text: said.set() if word.encode() in text else None)
            sandbox = await self.arm("python")
            run = asyncio.ensure_future(self._run_in(sandbox, "python", PRELUDE + textwrap.dedent(code), wishes, sink))
            try:
                await asyncio.wait([run, asyncio.ensure_future(said.wait())], return_when=asyncio.FIRST_COMPLETED)
                if isinstance(done := deed(sandbox), Awaitable):
                    await done
                return await run
            finally:
                run.cancel()
                await asyncio.gather(run, return_exceptions=True)
                said.set()

        return self.wait(meanwhile())

    async def arm(self, language: str, stdio: Stdio = PIPES) -> Any:
        """An armed sandbox."""
        return await self.backend.arm(self.languages.find(language), stdio=stdio)

    async def _run(self, language: str, code: str, wishes: dict[str, Any], sink: Sink) -> Seen:
        sandbox = await self.arm(language, wishes.get("stdio", PIPES))
        return await self._run_in(sandbox, language, code, wishes, sink)

    async def _run_in(self, sandbox: Any, language: str, code: str, wishes: dict[str, Any], sink: Sink) -> Seen:
        execution = self._execution(language, code, dict(wishes))
        self.last_slot = getattr(sandbox, "slot", None)
        try:
            return sink.seen(await sandbox.run(execution, self.languages.find(language), sink))
        finally:
            await sandbox.destroy()

    def _execution(self, language: str, code: str, wishes: dict[str, Any]) -> Execution:
        ours = {name: wishes.pop(name) for name in ("args", "env", "stdin", "stdio") if name in wishes}
        files = tuple(InputFile(path, content) for path, content in wishes.pop("files", {}).items())
        limits = self.settings.ceilings.tightened({"wall_seconds": 20, **wishes})
        assert isinstance(limits, Limits)
        return Execution("exe_test", language, code, limits, files=files, **ours)


class ContainerHouse(SandboxHarness):
    """The docker backend on this machine's engine; what it promises is what the strongest level does."""

    def __init__(self, runner: asyncio.Runner, languages: Languages, **settings: Any) -> None:
        super().__init__(runner, languages, IsolationLevel.FULL, docker_host=HOST, **settings)
        self.in_container = True

    def _backend(self) -> Backend:
        return DockerBackend(self.settings, self.languages)

    def settle(self) -> None:
        """See that no container is left; close the connections to the engine that wait to be used again.

        The engine now and then keeps a container that has ended, for its root is in use still: the server's own sweep
        removes it, which this does not wait a minute for.
        """
        assert until(lambda: self.wait(self._left()) == [], 30)
        self.backend._engine.close()

    async def _left(self) -> list[Any]:
        owner = self.backend._ownership.owner
        with contextlib.suppress(EngineRefused):
            await self.backend._sweeper.sweep()
        found: list[Any] = await self.backend._engine.containers([f"{OWNER_LABEL}={owner}"])
        return found


class Host:
    """What a guest must not reach: each bait has the server's uid and stands on the host while guests run."""

    SECRET = "the-secret-of-the-host-6f1d"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret_file = folder / "state.sqlite3"
        self.secret_file.write_text(self.SECRET)
        self.secret_file.chmod(0o644)
        folder.chmod(0o755)
        self.open_secret = os.open(self.secret_file, os.O_RDWR)
        os.set_inheritable(self.open_secret, True)
        os.environ["CODEX_API_TOKEN"] = self.SECRET
        os.environ["HOST_SECRET"] = self.SECRET
        self.abstract = f"\0codex-escape-bait-{os.getpid()}"
        self.knocks: list[str] = []
        self._sockets = [self._listen("tcp"), self._listen("abstract"), self._listen("path")]
        self.port = self._sockets[0].getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.setblocking(False)
        self.victim = subprocess.Popen(
            [sys.executable, "-c", "import signal; signal.pause()"], env={"HOST_SECRET": self.SECRET}, cwd="/"
        )
        # Its arguments show a moment after it was started; until then a snapshot would take it for another process.
        assert until(lambda: Path(f"/proc/{self.victim.pid}/cmdline").read_bytes())

    def _listen(self, kind: str) -> socket.socket:
        listener = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
        address = {"tcp": ("127.0.0.1", 0), "abstract": self.abstract, "path": str(self.folder / "docker.sock")}
        listener.bind(address[kind])
        listener.listen()
        threading.Thread(target=self._serve, args=(listener, kind), daemon=True).start()
        return listener

    def _serve(self, listener: socket.socket, kind: str) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            self.knocks.append(kind)
            caller.close()

    def close(self) -> None:
        """Take the baits away."""
        self.victim.kill()
        self.victim.wait()
        os.close(self.open_secret)
        self.udp.close()
        for listener in self._sockets:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
