"""A session in a slot of the embedded backend: frames and descriptors over the channel to its init."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from codex_server.errors import ProtocolViolation, SandboxFault
from codex_server.model import Ending, Stream
from codex_server.sandboxes.embedded.channel import close_all
from codex_server.sandboxes.embedded.pipes import InputPipe, OutputPipe
from codex_server.sandboxes.embedded.sandbox import content_behind, in_memory
from codex_server.sandboxes.embedded.slot import PATIENCE_SECONDS, Slot
from codex_server.sandboxes.embedded.terminal import SlotTerminal
from codex_server.sandboxes.live_cell import Cell
from codex_server.sandboxes.live_session import InterpreterOrders, LiveSession
from codex_server.sandboxes.live_shell import TerminalLine
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.protocol.session import (
    FILES,
    MOST_IN_REPLY,
    CellInput,
    CellReport,
)
from codex_server.sandboxes.session import Content, SessionPlan


class EmbeddedSession(LiveSession):
    """Serves cells in ``slot``, which is its own until it ends."""

    def __init__(
        self,
        slot: Slot,
        plan: SessionPlan,
        defaults: BackendDefaults,
        orders: InterpreterOrders,
    ) -> None:
        super().__init__(plan, defaults, orders, patience=PATIENCE_SECONDS)
        self._slot = slot
        self._outputs: dict[str, list[int]] = {}
        self._inputs: dict[int, InputPipe] = {}
        self._reader = asyncio.get_running_loop().create_task(self._read())

    def _send(self, kind: frames.Kind, body: frames.Body, content: Sequence[bytes] = ()) -> None:
        if not content:
            self._slot.channel.send(kind, body)
            return
        memory = in_memory(list(content))
        try:
            self._slot.channel.send(kind, body, (memory,))
        finally:
            os.close(memory)

    @contextlib.contextmanager
    def _listen(self, cell: Cell) -> Iterator[Callable[[], None]]:
        """What any interpreter's processes print is printed while this cell runs; operations on files apart."""
        pipes = [
            OutputPipe(os.dup(descriptor), partial(self.take_output, cell, stream))
            for name, descriptors in self._outputs.items()
            if (name == FILES) is (cell.interpreter == FILES) and len(descriptors) == len(Stream)
            for stream, descriptor in zip((Stream.STDOUT, Stream.STDERR), descriptors, strict=True)
        ]

        def finish() -> None:
            for pipe in pipes:
                pipe.finish()

        try:
            yield finish
        finally:
            for pipe in pipes:
                pipe.close()

    def _close_input(self, cell: Cell) -> None:
        if pipe := self._inputs.pop(cell.id, None):
            pipe.close()

    def _line(self, name: str, output: Content) -> TerminalLine:
        return SlotTerminal(self._outputs[name][0], output)

    def _kill(self) -> None:
        self._slot.kill()

    def _begin_count(self) -> None:
        if self._slot.cgroup:
            self._slot.cgroup.begin_cell()

    def _counted(self, ending: Ending) -> Ending:
        if self._slot.cgroup is None:
            return ending
        try:
            usage = self._slot.cgroup.usage()
        except OSError as error:
            raise SandboxFault(f"the session's cgroup cannot be read: {error}") from error
        return replace(
            ending,
            cpu_seconds=usage.cpu_seconds,
            peak_memory_bytes=usage.peak_memory_bytes,
            oom_kills=usage.oom_kills,
        )

    async def _read(self) -> None:
        """Take what init sends, until it is gone."""
        try:
            while True:
                await self._take(*await self._slot.channel.receive())
        except frames.Closed:
            self.lost("its sandbox was lost")
        except (frames.BadFrame, ProtocolViolation, OSError) as error:
            self._kill()
            self.lost(f"its sandbox broke the protocol ({error})")

    async def _take(self, kind: frames.Kind, body: frames.Body, descriptors: list[int]) -> None:
        if kind is frames.Kind.READY and len(descriptors) in (1, len(Stream)):  # a terminal's end is one
            self._keep_outputs(body, descriptors)
        elif kind is frames.Kind.CELL_INPUT and (cell := self._cells.get(decode(CellInput, body).id)):
            cell.begun.set()
            for descriptor in descriptors:
                self._inputs[cell.id] = InputPipe(descriptor, cell.stdin)
        elif kind is frames.Kind.CELL_END:
            report, content = decode(CellReport, body), await self._content(descriptors)
            for name in report.ended:
                close_all(self._outputs.pop(name, []))
            self.ended(report, content)
        else:
            close_all(descriptors)
            if kind is not frames.Kind.CELL_INPUT:  # of a cell that has ended meanwhile
                self.failed(kind, body)

    def _keep_outputs(self, body: frames.Body, descriptors: list[int]) -> None:
        try:
            self._outputs[self.started(body)] = descriptors
        except frames.BadFrame:
            close_all(descriptors)
            raise

    async def _content(self, descriptors: list[int]) -> memoryview:
        """The reply and the kept files."""
        try:
            return await content_behind(descriptors, self._defaults.inline_total_bytes + MOST_IN_REPLY)
        finally:
            close_all(descriptors)

    async def destroy(self) -> None:
        """See ``SessionSandbox.destroy``."""
        if not self.closing():
            return
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self.lost("it was closed")
        for descriptors in self._outputs.values():
            close_all(descriptors)
        self._outputs.clear()
        await self._slot.end()
