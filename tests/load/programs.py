"""Programs of every kind, each with what must become of it: what a soak is mixed of.

Each prints or leaves a number that is its own, so that a mixed-up answer is noticed.
"""

import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

MIB = 2**20


@dataclass(frozen=True)
class Kind:
    """``code`` has ``NUMBER`` where its own number goes; ``share``: so many of every hundred or so are of this kind."""

    name: str
    language: str
    code: str
    status: tuple[str, ...] = ("succeeded",)
    exit_code: int | None = 0
    output: str | None = "NUMBER\n"
    share: int = 1
    fields: dict[str, Any] = field(default_factory=dict)
    check: Callable[[dict[str, Any], int], object] = lambda answer, number: True

    def request(self, number: int) -> dict[str, Any]:
        """The fields of a request."""
        code = textwrap.dedent(self.code).replace("NUMBER", str(number))
        return {"language": self.language, "code": code, **self.fields}

    def judge(self, answer: dict[str, Any], number: int) -> None:
        """Compare; the whole answer is shown when it differs."""
        shown = f"{self.name}: {answer}"
        assert answer["status"] in self.status, shown
        assert self.exit_code in (None, answer["exit_code"]), shown
        if self.output is not None:
            assert answer["stdout"] == self.output.replace("NUMBER", str(number)), shown
        assert self.check(answer, number), shown


def _left(answer: dict[str, Any]) -> dict[str, str]:
    return {file["path"]: file["content"] for file in answer["files"] if "content" in file}


KINDS = (
    Kind("good", "python", "print(NUMBER)", share=30),
    Kind("good in javascript", "javascript", "console.log(NUMBER)", share=6),
    Kind("good in typescript", "typescript", "const n: number = NUMBER; console.log(n)", share=1),
    Kind("good in bash", "bash", "echo NUMBER", share=8),
    Kind(
        "echo of stdin",
        "python",
        "import sys; text = sys.stdin.read(); print(NUMBER); assert len(text) == 200_000",
        fields={"stdin": "x" * 200_000},
        share=3,
    ),
    Kind("stdin that nobody reads", "bash", "echo NUMBER", fields={"stdin": "y" * 500_000}, share=2),
    Kind("failing", "python", "print(NUMBER); raise ValueError(NUMBER)", ("failed",), 1, share=6),
    Kind("failing in javascript", "javascript", "console.log(NUMBER); throw new Error('x')", ("failed",), 1, share=2),
    Kind("failing in bash", "bash", "echo NUMBER; exit 7", ("failed",), 7, share=4),
    Kind("broken", "python", "print(NUMBER", ("failed",), 1, output="", share=2),
    Kind("signalled", "bash", "echo NUMBER; kill -SEGV $$", ("signalled",), 139, share=2),
    Kind(
        "late",
        "python",
        "import time; print(NUMBER, flush=True); time.sleep(60)",
        ("timed_out",),
        137,
        fields={"timeout": 1},
    ),
    Kind(
        "late in javascript",
        "javascript",
        "console.log(NUMBER); setInterval(() => 0, 1000)",
        ("timed_out",),
        137,
        fields={"timeout": 1},
    ),
    Kind(
        "spinning",
        "python",
        "print(NUMBER, flush=True)\nwhile True: pass",
        ("timed_out",),
        None,
        fields={"limits": {"cpu_seconds": 0.2}},
    ),
    Kind(
        "long-winded",
        "python",
        "print(NUMBER); print('x' * 300_000)",
        output=None,
        check=lambda answer, number: (
            answer["stdout"].startswith(f"{number}\n") and answer["usage"]["stdout_bytes"] == 300_002 + len(str(number))
        ),
        share=2,
    ),
    Kind(
        "flooding",
        "bash",
        "echo NUMBER; yes",
        ("output_exceeded",),
        None,
        output=None,
        check=lambda answer, number: answer["stdout"].startswith(f"{number}\ny\ny\n"),
        share=2,
    ),
    Kind(
        "forking",
        "python",
        """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(60)
                os._exit(0)
        print(NUMBER)
        """,
        share=3,
    ),
    Kind(
        "forking without end",
        "python",
        """
        import os, time
        children = 0
        try:
            while True:
                if os.fork() == 0:
                    time.sleep(60)
                children += 1
        except BlockingIOError:
            print(NUMBER)
        """,
        fields={"limits": {"processes": 8}},
        share=2,
    ),
    Kind("with daemons", "bash", "(setsid sleep 60 &) ; sleep 60 & echo NUMBER", share=2),
    Kind(
        "memory-hungry",
        "python",
        """
        import mmap, os, time
        print(NUMBER, flush=True)
        for _ in range(2):
            if os.fork() == 0:
                kept = mmap.mmap(-1, 48 << 20)
                kept.write(b"x" * len(kept))
                time.sleep(60)
        time.sleep(60)
        """,
        # Where the kernel bounds memory it kills one process; the watchdog of the lower levels stops the whole program.
        ("memory_exceeded", "timed_out"),
        137,
        fields={"limits": {"memory_bytes": 64 * MIB}, "timeout": 2},
        check=lambda answer, number: "Out of memory" in answer["error"],
    ),
    Kind(
        "memory-hungry in javascript",
        "javascript",
        "console.log(NUMBER); const kept = []; for (;;) kept.push(Buffer.alloc(2 ** 20, 1))",
        ("memory_exceeded",),
        137,
        output=None,
        fields={"limits": {"memory_bytes": 128 * MIB}},
    ),
    Kind(
        "file-leaving",
        "python",
        """
        import os
        print(NUMBER)
        os.makedirs("deep/er")
        for name in range(20):
            open(f"deep/er/{name}", "w").write("NUMBER")
        os.mkfifo("pipe"); os.symlink("/etc/passwd", "link"); open("large", "wb").write(bytes(100_000))
        """,
        check=lambda answer, number: (
            _left(answer) == {f"deep/er/{name}": str(number) for name in range(20)}
            and {"pipe", "link"} <= {file["path"] for file in answer["skipped_files"]}
            and [file["path"] for file in answer["files"] if "url" in file] == ["large"]
        ),
        share=4,
    ),
    Kind(
        "file-leaving in javascript",
        "javascript",
        "console.log(NUMBER); require('fs').writeFileSync('left', 'NUMBER')",
        check=lambda answer, number: _left(answer) == {"left": str(number)},
    ),
    Kind(
        "given files",
        "bash",
        "cat a/b.txt; echo NUMBER; rm a/b.txt; echo NUMBER > a/c.txt",
        output="givenNUMBER\n",
        fields={"files": [{"path": "a/b.txt", "content": "given"}]},
        check=lambda answer, number: _left(answer) == {"a/c.txt": f"{number}\n"},
        share=3,
    ),
)


def mix() -> Iterator[tuple[int, Kind]]:
    """Kinds without end, each by its share and spread evenly; with a number for each."""
    turns = [(place / kind.share, kind) for kind in KINDS for place in range(1, kind.share + 1)]
    spread = [kind for _, kind in sorted(turns, key=lambda turn: turn[0])]
    return zip(itertools.count(1_000_000), itertools.cycle(spread), strict=False)
