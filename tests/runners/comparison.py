"""Running one program bare and by its agent, for comparison."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

RUNNERS = Path(__file__).parents[2] / "runners"
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"}
HANG_SECONDS = 60


@dataclass(frozen=True)
class Program:
    """What to run: the text of the main file, and what stands around it."""

    code: str
    args: Sequence[str] = ()
    stdin: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, **self.env}


@dataclass(frozen=True)
class Result:
    """What came of it; ``code`` is negative when a signal ended the program."""

    code: int
    stdout: str
    stderr: str

    def without_addresses(self) -> "Result":
        """The same, comparable with another run: no memory addresses, thread numbers or process ids."""
        pattern = r"0x[0-9a-f]{6,}|\b\d{15}\b|(?<=\(node:)\d+(?=\))"
        return Result(self.code, re.sub(pattern, "0x", self.stdout), re.sub(pattern, "0x", self.stderr))


def lay_out(program: Program, workspace: Path, file: str) -> Path:
    """A fresh workspace with the program's files; the path of the main one."""
    shutil.rmtree(workspace, ignore_errors=True)
    for name, text in {**program.files, file: program.code}.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return workspace / file


def run_bare(argv: Sequence[str], program: Program, workspace: Path) -> Result:
    done = subprocess.run(
        [*argv, *program.args],
        input=program.stdin.encode(),
        capture_output=True,
        cwd=workspace,
        env=program.environment,
        timeout=HANG_SECONDS,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class Streams:
    """The three standard streams of one run: stdin from a file, and two pipes that threads read to their end."""

    def __init__(self, stack: ExitStack, stdin: str) -> None:
        given = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        given.write(stdin.encode())
        given.seek(0)
        self._stack = stack
        self._pool = stack.enter_context(ThreadPoolExecutor(2))
        self._ends = [given.fileno()]
        self._reading = [self._read_a_pipe(), self._read_a_pipe()]
        stack.callback(self.close)

    def _read_a_pipe(self) -> Future[bytes]:
        read, write = os.pipe()
        self._ends.append(write)
        return self._pool.submit(lambda: self._stack.enter_context(open(read, "rb")).read())

    def descriptors(self) -> list[int]:
        return self._ends

    def close(self) -> None:
        """Let go of our copies of the pipes' writing ends; the readers then end with the program."""
        while len(self._ends) > 1:
            os.close(self._ends.pop())

    def collect(self) -> list[str]:
        self.close()
        return [reading.result(HANG_SECONDS).decode(errors="replace") for reading in self._reading]


class WarmPython:
    """A warm interpreter that runs programs by ``runners/python/agent.py``."""

    def __init__(self, python: Path, preload: Sequence[str] = ()) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(HANG_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [
                    python, "-I", "-S", Path(__file__).with_name("warm_python.py"),
                    RUNNERS / "python" / "agent.py", str(theirs.fileno()), *preload,
                ],
                pass_fds=[theirs.fileno()],
                env={"LANG": "C.UTF-8"},
                cwd="/",
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def run(self, file: Path, program: Program) -> Result:
        request = {
            "file": str(file),
            "args": list(program.args),
            "env": program.environment,
            "cwd": str(file.parent),
        }
        with ExitStack() as stack:
            streams = Streams(stack, program.stdin)
            socket.send_fds(self._channel, [json.dumps(request).encode()], streams.descriptors())
            code = json.loads(self._channel.recv(64))
            return Result(code, *streams.collect())

    def close(self) -> None:
        self._channel.close()
        self._process.wait(HANG_SECONDS)


def run_armed_node(
    node: Path,
    file: Path,
    program: Program,
    placeholder: str = "armed",
    flags: Sequence[str] = (),
    request: bytes | None = None,
) -> Result:
    """Arm Node.js with the agent, wait until it is ready, then hand it the program."""
    if request is None:
        described = {"file": str(file), "args": list(program.args), "env": program.environment}
        request = json.dumps(described).encode()
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        stack.enter_context(ours)
        stack.enter_context(theirs)
        streams = Streams(stack, program.stdin)
        agent = RUNNERS / "javascript" / "agent.cjs"
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, target) for target, descriptor in enumerate(streams.descriptors())]
        worker = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'cd "$0" && exec "$@"', file.parent, node, *flags, "--require", agent, placeholder],
            {"LANG": "C.UTF-8", "ARMED": "1"},
            file_actions=[*actions, (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
        )
        theirs.close()
        ours.settimeout(HANG_SECONDS)
        assert ours.recv(1) == b"R", streams.collect()
        ours.sendall(request)
        ours.shutdown(socket.SHUT_WR)
        _, status = os.waitpid(worker, 0)
        return Result(os.waitstatus_to_exitcode(status), *streams.collect())
