"""A session's Node.js as a plain process: cells go in over a socket pair, replies and output come back."""

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.runners.comparison import ENVIRONMENT, RUNNERS

HANG_SECONDS = 60


@dataclass(frozen=True)
class Reply:
    """What came of a cell. ``code`` is None when the interpreter ended; its own exit code is ``LiveNode.wait``'s."""

    code: int | None
    result: Mapping[str, Any] | None
    stdout: str
    stderr: str

    @property
    def text(self) -> str | None:
        """The plain form of the result."""
        return self.result["text/plain"] if self.result else None


class LiveNode:
    """One interpreter, in ``folder``."""

    def __init__(self, node: Path, folder: Path, *arguments: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(HANG_SECONDS)
        self._outputs, ends = zip(*(os.pipe() for _ in range(2)), strict=True)
        session = RUNNERS / "javascript" / "session.cjs"
        with open(os.devnull) as nothing, theirs:
            sources = (nothing.fileno(), *ends, theirs.fileno())
            self.pid = os.posix_spawn(
                "/bin/sh",
                [
                    "sh",
                    "-c",
                    'cd "$0" && exec "$@"',
                    folder,
                    node,
                    "--no-force-async-hooks-checks",
                    session,
                    *arguments,
                ],
                ENVIRONMENT,
                file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(sources)],
                setsid=True,
            )
        for end in ends:
            os.close(end)
        self._number = 0
        self._code: int | None = None
        assert self._channel.recv(1) == b"R", self._read_outputs()

    def run(
        self,
        code: str,
        stdin: str = "",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        during: Callable[["LiveNode"], None] | None = None,
    ) -> Reply:
        """Run a cell to its end; ``during`` is called once it has begun."""
        self.send(code, stdin, args, env)
        if during:
            during(self)
        return self.reply()

    def send(self, code: str, stdin: str = "", args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self._number += 1
        options = json.dumps({"args": list(args), "env": dict(env or {}), "file": "main.js"})
        fields = (stdin, str(self._number), options, code)
        self._channel.sendall("".join(f"{field}\0" for field in fields).encode())

    def reply(self) -> Reply:
        """The reply to the cell that was sent; what it printed is read meanwhile."""
        received, outputs = b"", [b"", b""]
        while not received.endswith(b"\0"):
            ready, _, _ = select.select([self._channel, *self._outputs], [], [], HANG_SECONDS)
            assert ready, (received, outputs)
            if self._channel in ready:
                part = self._channel.recv(2**16)
                if not part:
                    break
                received += part
            self._drain(outputs)
        self._drain(outputs)
        claim = json.loads(received[:-1]) if received else {"exit_code": None, "result": None}
        return Reply(claim["exit_code"], claim["result"], *(output.decode(errors="replace") for output in outputs))

    def read_stdout(self, text: str) -> None:
        """Wait until the cell has printed exactly ``text``."""
        received = b""
        while len(received) < len(text):
            assert select.select([self._outputs[0]], [], [], HANG_SECONDS)[0], received
            received += os.read(self._outputs[0], len(text) - len(received))
        assert received.decode() == text

    def interrupt(self) -> None:
        os.killpg(self.pid, signal.SIGINT)

    def wait(self) -> int:
        """The exit code of the interpreter, which is to end."""
        if self._code is None:
            _, status = os.waitpid(self.pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def end(self) -> int:
        """Let it end by the end of its channel; its exit code."""
        self._channel.shutdown(socket.SHUT_WR)
        return self.wait()

    def close(self) -> None:
        """Kill it, unless it has ended."""
        if self._code is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()
        for output in self._outputs:
            os.close(output)
        self._channel.close()

    def _drain(self, outputs: list[bytes]) -> None:
        for i, output in enumerate(self._outputs):
            while select.select([output], [], [], 0)[0] and (part := os.read(output, 2**16)):
                outputs[i] += part

    def _read_outputs(self) -> list[bytes]:
        outputs = [b"", b""]
        self._drain(outputs)
        return outputs


def tell(node: Path, expression: str) -> str:
    """What ``expression`` comes to in ``node``."""
    return subprocess.check_output([node, "-p", expression], text=True).strip()
