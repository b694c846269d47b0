"""A shell in memory, which echoes what is typed and interprets each line.

    print TEXT      a line
    bytes HEX       bytes as they are
    cd FOLDER       go to another folder
    fail CODE       end with that exit code
    size            rows and columns of the window
    wait NAME       until the test sets ``backend.event(NAME)``, or Ctrl-C (exit code 130)
    exit            end the shell

Another word is a command that is not found (exit code 127).
"""

import asyncio
from collections.abc import Callable

from codex_server.errors import InputRefused
from codex_server.model import Terminal
from codex_server.sandboxes.session import Content, Prompt, Shell

PROMPT = b"$ "


class FakeShell(Shell):
    """``event`` is the backend's; ``output`` takes what appears."""

    def __init__(self, size: Terminal, output: Content, event: Callable[[str], asyncio.Event]) -> None:
        self.size = size
        self.closed = False
        self.typed = bytearray()
        """All that was typed."""
        self._output, self._event = output, event
        self._line = bytearray()
        self._folder = "/workspace"
        self._interrupt = asyncio.Event()
        self._prompts: asyncio.Queue[Prompt | None] = asyncio.Queue()
        self._waited = False
        self._tasks: set[asyncio.Task[None]] = set()
        output(PROMPT)

    @property
    def running(self) -> bool:
        """See ``Shell.running``."""
        return self._waited

    async def type(self, data: bytes) -> None:
        """See ``Shell.type``."""
        if self.closed:
            raise InputRefused("the fake shell has ended")
        self._waited = True
        self.typed += data
        for key in data:
            self._press(bytes([key]))

    def _press(self, key: bytes) -> None:
        if key == b"\x03":
            self._interrupt.set()
        elif key != b"\r":
            self._line += key
            self._output(key)
        else:
            self._output(b"\r\n")
            line, self._line = self._line.decode(), bytearray()
            self._begin(line)

    def _begin(self, line: str) -> None:
        task = asyncio.ensure_future(self._run(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        code = await self._interpret(word, rest)
        if self.closed:
            self._prompts.put_nowait(None)
        else:
            self._output(PROMPT)
            self._prompts.put_nowait(Prompt(code, self._folder))

    async def _interpret(self, word: str, rest: str) -> int:
        match word:
            case "print":
                self._output(f"{rest}\r\n".encode())
            case "bytes":
                self._output(bytes.fromhex(rest))
            case "cd":
                self._folder = rest
            case "fail":
                return int(rest)
            case "size":
                self._output(f"{self.size.rows} {self.size.columns}\r\n".encode())
            case "wait":
                return await self._wait_for(self._event(rest))
            case "exit":
                self.closed = True
            case _:
                return 127
        return 0

    async def _wait_for(self, event: asyncio.Event) -> int:
        waits = [asyncio.ensure_future(each.wait()) for each in (event, self._interrupt)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if not self._interrupt.is_set():
            return 0
        self._interrupt.clear()
        self._output(b"^C\r\n")
        return 130

    def resize(self, rows: int, columns: int) -> None:
        """See ``Shell.resize``."""
        self.size = Terminal(rows, columns)

    async def wait_for_prompt(self) -> Prompt | None:
        """See ``Shell.wait_for_prompt``."""
        prompt = await self._prompts.get()
        self._waited = False
        return prompt

    async def close(self) -> None:
        """See ``Shell.close``."""
        self.closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._prompts.put_nowait(None)
