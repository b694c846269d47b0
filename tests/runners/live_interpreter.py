"""Drives one interpreter of a session as the sandbox's init does: a channel at descriptor 3, and two pipes."""

import json
import os
import selectors
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.runners.comparison import ENVIRONMENT, HANG_SECONDS, RUNNERS


@dataclass(frozen=True)
class Reply:
    """What became of a cell; ``code`` is None when the interpreter ended instead of replying."""

    code: int | None
    stdout: str
    stderr: str
    result: Mapping[str, Any] | None = None

    @property
    def text(self) -> str | None:
        """The result's plain text."""
        return self.result["text/plain"] if self.result else None


class LiveInterpreter:
    """Starts nothing itself: see ``started`` and ``Forking``. ``wait`` gives the process's exit code, once."""

    def __init__(self, pid: int, channel: socket.socket, outputs: Sequence[int], wait: Callable[[], int]) -> None:
        self.pid = pid
        self.channel = channel
        self._wait = wait
        self._ended: int | None = None
        self._outputs = tuple(outputs)
        self._written = {descriptor: bytearray() for descriptor in outputs}
        self._count = 0
        for descriptor in outputs:
            os.set_blocking(descriptor, False)
        channel.settimeout(HANG_SECONDS)
        assert channel.recv(1) == b"R", self._drain()

    def run(
        self,
        code: str,
        *,
        stdin: str = "",
        interrupt_at: str = "",
        interrupt_when: Callable[[], bool] | None = None,
        **options: Any,
    ) -> Reply:
        """Run a cell. ``stdin`` is a path; SIGINT is sent when ``interrupt_at`` stands on stdout, or that is true."""
        self._count += 1
        fields = (stdin, str(self._count), json.dumps(options), code, "")
        self.channel.sendall("\0".join(fields).encode())
        if interrupt_at:
            interrupt_when = lambda: interrupt_at.encode() in self._written[self._outputs[0]]  # noqa: E731
        reply = self._follow(interrupt_when)
        if reply is None:
            self._ended = self._wait()
        stdout, stderr = self._drain()
        if reply is None:
            return Reply(None, stdout, stderr)
        content = json.loads(reply)
        return Reply(content["exit_code"], stdout, stderr, content["result"])

    def feed(self, code: str, text: str, folder: Path) -> Reply:
        """Run a cell whose standard input is a named pipe with ``text``."""
        pipe = folder / f"stdin-{self._count}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=[text])
        writer.start()
        reply = self.run(code, stdin=str(pipe))
        writer.join()
        return reply

    def interrupt(self) -> None:
        os.killpg(self.pid, signal.SIGINT)

    def close(self) -> int:
        """End of file on the channel; the exit code."""
        self.channel.close()
        code = self._wait() if self._ended is None else self._ended
        for descriptor in self._outputs:
            os.close(descriptor)
        return code

    def _follow(self, interrupt_when: Callable[[], bool] | None) -> bytes | None:
        """The reply, while output is read; None at the end of the channel."""
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            for source in (self.channel, *self._outputs):
                selector.register(source, selectors.EVENT_READ)
            while not received.endswith(b"\0"):
                ready = selector.select(0.01 if interrupt_when else HANG_SECONDS)
                assert ready or interrupt_when, f"no reply: {self._drain()}"
                for key, _ in ready:
                    part = self._read(key.fd, 2**20)
                    if key.fd == self.channel.fileno():
                        received += part
                        if not part:
                            return None
                    elif not part:
                        selector.unregister(key.fd)
                if interrupt_when and interrupt_when():
                    interrupt_when = None
                    self.interrupt()
        return bytes(received[:-1])

    def _read(self, descriptor: int, most: int) -> bytes:
        try:
            part = os.read(descriptor, most)
        except (BlockingIOError, ConnectionResetError):
            return b""
        if descriptor in self._written:
            self._written[descriptor] += part
        return part

    def _drain(self) -> list[str]:
        texts = []
        for descriptor in self._outputs:
            while self._read(descriptor, 2**20):
                continue
            texts.append(self._written[descriptor].decode(errors="replace"))
            self._written[descriptor].clear()
        return texts


def started(argv: Sequence[str | Path], workspace: Path, env: Mapping[str, str] = ENVIRONMENT) -> LiveInterpreter:
    """An interpreter that is a program of its own."""
    ours, theirs = socket.socketpair()
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    ends = (nothing, out_end, err_end, theirs.fileno())
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", 'cd "$0" && exec "$@"', workspace, *argv],
        dict(env),
        file_actions=[(os.POSIX_SPAWN_DUP2, end, target) for target, end in enumerate(ends)]
        + [(os.POSIX_SPAWN_CLOSE, other) for other in _inheritable() if other >= len(ends)],
        setsid=True,
    )
    theirs.close()
    for end in (nothing, out_end, err_end):
        os.close(end)
    return LiveInterpreter(pid, ours, (out, err), lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _inheritable() -> list[int]:
    """What whoever started the tests has left open to every program."""
    own = map(int, os.listdir("/proc/self/fd"))
    return [number for number in own if os.path.exists(f"/proc/self/fd/{number}") and os.get_inheritable(number)]


class Forking:
    """A warm Python that forks one session's interpreter after another."""

    def __init__(self, python: Path, preload: Sequence[str] = ()) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(HANG_SECONDS)
        program = Path(__file__).with_name("warm_python.py")
        with theirs:
            self._process = subprocess.Popen(
                [python, "-I", "-S", program, RUNNERS / "python" / "agent.py", str(theirs.fileno()), *preload],
                pass_fds=[theirs.fileno()],
                env={"LANG": "C.UTF-8"},
                cwd="/",
                stdin=subprocess.DEVNULL,
            )

    def fork(self, workspace: Path, env: Mapping[str, str] = ENVIRONMENT) -> LiveInterpreter:
        ours, theirs = socket.socketpair()
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        request = json.dumps({"env": dict(env), "cwd": str(workspace)}).encode()
        with theirs:
            socket.send_fds(self._control, [request], [nothing, out_end, err_end, theirs.fileno()])
        for descriptor in (nothing, out_end, err_end):
            os.close(descriptor)
        pid = json.loads(self._control.recv(64))
        return LiveInterpreter(pid, ours, (out, err), lambda: int(json.loads(self._control.recv(64))))

    def close(self) -> None:
        self._control.close()
        self._process.wait(HANG_SECONDS)
