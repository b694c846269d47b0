"""A session in memory: a workspace of files, and for each language the variables that scripts set."""

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from codex_server.errors import SandboxFault
from codex_server.languages import Language
from codex_server.model import Ending, Execution, Terminal
from codex_server.sandboxes.files.service import Ends, perform
from codex_server.sandboxes.files.workspace import Workspace
from codex_server.sandboxes.guest import kernel
from codex_server.sandboxes.session import Content, OutputSink, SessionPlan, SessionSandbox, Shell
from codex_server.sandboxes.stdin import StandardInput
from codex_server.sandboxes.testing.fake_shell import FakeShell
from codex_server.sandboxes.testing.script import CHUNK, Kept, Script


class FakeSession(SessionSandbox):
    """Interprets one script after another. A test calls ``die`` to have it lost."""

    def __init__(self, plan: SessionPlan, event: Callable[[str], asyncio.Event], executions: list[Execution]) -> None:
        self.plan = plan
        self.destroyed = False
        self.shells: dict[str, FakeShell] = {}
        self.files = {file.path: file.content for file in plan.files}
        self._event = event
        self._executions = executions
        self._interpreters: dict[str, Kept] = {}
        self._alive: set[str] = set()
        self._running: Kept | None = None
        self._count = 0
        self._death: str | None = None
        self._on_death: Callable[[str], None] = lambda reason: None

    @property
    def alive(self) -> bool:
        """Whether it was neither lost nor destroyed."""
        return self._death is None and not self.destroyed

    def on_death(self, callback: Callable[[str], None]) -> None:
        """See ``SessionSandbox.on_death``."""
        self._on_death = callback

    def die(self, reason: str) -> None:
        """Be lost."""
        self._death = reason
        self._on_death(reason)

    @property
    def interpreters(self) -> frozenset[str]:
        """See ``SessionSandbox.interpreters``."""
        return frozenset(self._alive)

    def begin(self, language: Language) -> None:
        """See ``SessionSandbox.begin``; it is started a moment later."""
        asyncio.get_running_loop().call_soon(self._alive.add, language.name)

    async def prepare(self, language: Language) -> None:
        """Nothing to start."""
        await asyncio.sleep(0)
        self._alive.add(language.name)

    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """Interpret the script as the next cell."""
        if not self.alive:
            raise SandboxFault("the fake session was lost")
        kept = self._interpreters.setdefault(language.name, Kept())
        kept.files, kept.count = self.files, self._count
        kept.interrupted.clear()
        self._executions.append(execution)
        self._running = kept
        try:
            script = Script(execution, output, stdin or StandardInput.of(execution), self._event, kept)
            ending = await script.run()
            if ending.cell and ending.cell.interpreter_restarted:
                self._alive.discard(language.name)
            return ending
        finally:
            self._running = None
            self.files, self._count = kept.files, kept.count

    def interrupt(self) -> bool:
        """See ``SessionSandbox.interrupt``."""
        if self._running:
            self._running.interrupted.set()
        return self._running is not None

    async def operate(
        self, request: Mapping[str, object], content: StandardInput, output: Content
    ) -> Mapping[str, object]:
        """Carry it out on the files in memory, by way of a temporary folder."""
        body = await _read(content)
        reply, found = await asyncio.to_thread(self._operate, request, body)
        if found:
            output(found)
        return reply

    def _operate(self, request: Mapping[str, object], content: bytes) -> tuple[Mapping[str, object], bytes]:
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as source:
            source.write(content)
            source.flush()
            for path, data in self.files.items():
                file = Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            with tempfile.TemporaryFile() as output:
                reply = _perform(folder, request, source.name, output.fileno())
                output.seek(0)
                found = output.read()
            paths = [path for path in Path(folder).rglob("*") if path.is_file()]
            self.files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
        return reply, found

    async def open_shell(self, name: str, size: Terminal, output: Content) -> Shell:
        """A shell that interprets what is typed (``FakeShell``)."""
        await asyncio.sleep(0)
        self.shells[name] = FakeShell(size, output, self._event)
        return self.shells[name]

    async def destroy(self) -> None:
        """Take it off the account."""
        self.destroyed = True
        for shell in self.shells.values():
            await shell.close()
        await asyncio.sleep(0)


def _perform(folder: str, request: Mapping[str, object], source: str, output: int) -> Mapping[str, object]:
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return perform(Workspace(top, kernel), json.dumps(request).encode(), Ends(source, output))
    finally:
        os.close(top)


async def _read(content: StandardInput) -> bytes:
    """All of it."""
    found, more = bytearray(), asyncio.Event()
    content.read_by(more.set)
    while not content.ended:
        if waiting := bytes(content.peek(CHUNK)):
            content.take(len(waiting))
            found += waiting
        else:
            more.clear()
            await more.wait()
    return bytes(found)
