"""A server in a process of its own, as ``codex-server serve`` runs it, with clients that know what is right."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest

from benchmarks.processes import Family, family_of
from tests.host_snapshot import alive, cgroups_of, descendants, next_guest_ids
from tests.levels import out_of_reach
from tests.waiting import becomes, until

TOKEN = "codex_" + "f" * 43
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SECONDS = 60.0
"""Guards against a hang; nothing is judged by it."""
POOLS = {"python": 2, "javascript": 1}
ROOT = Path(__file__).parent.parent.parent
_URL = re.compile(r"http://127\.0\.0\.1:\d+")
_TOO_WEAK = re.compile(r"this host does not allow isolation level .*", re.DOTALL)
_SERVE = """
import sys
from codex_server.cli.main import main
from codex_server.sandboxes import factory
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.embedded.backend import EmbeddedBackend

most = IsolationLevel[sys.argv.pop(1).upper()]
factory._KINDS["embedded"] = lambda settings, languages: EmbeddedBackend(settings, languages, most=most)
main()
"""
ECHOES = {
    "python": "import sys, time; time.sleep({pause}); print('{word}', sys.stdin.read())",
    "javascript": "setTimeout(() => console.log('{word}', require('fs').readFileSync(0, 'utf8')), {pause} * 1000)",
    "bash": "sleep {pause}; echo {word} $(cat)",
}
_numbers = itertools.count(1)


@dataclass
class RunningServer:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    client: httpx2.AsyncClient
    errors: Path

    def family(self) -> Family:
        """Its processes now."""
        return family_of(self.process.pid)

    def defects(self) -> list[str]:
        """What it has logged as errors so far: faults of its own, as a part that was killed is not."""
        lines = self.errors.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if not line.startswith("{") or json.loads(line)["level"] == "error"]

    async def execute(self, **fields: Any) -> httpx2.Response:
        """One execution."""
        return await self.client.post("/execute", json=fields, headers=BEARER)

    async def echo(self, language: str, pause: float = 0.0) -> "Heard":
        """Run a program that prints a word of its code and a word of its stdin, both its own."""
        number = next(_numbers)
        code = ECHOES[language].format(word=f"code-{number}", pause=pause)
        answer = await self.execute(language=language, code=code, stdin=f"stdin-{number}")
        return Heard(answer, f"code-{number} stdin-{number}\n")

    async def ready(self) -> dict[str, Any]:
        """What ``/readyz`` says once the server is ready and every pool is full."""
        told: dict[str, Any] = {}

        async def full() -> bool:
            nonlocal told
            answer = await self.client.get("/readyz")
            told = answer.json()
            armed = told["armed"]
            return answer.status_code == 200 and all(armed.get(pool, 0) >= size for pool, size in POOLS.items())

        await becomes(full, SECONDS)
        return told

    async def busy(self, what: str, count: int) -> None:
        """Return when so many executions are ``running`` or ``queued``."""

        async def reached() -> bool:
            return bool((await self.client.get("/readyz")).json()[what] >= count)

        await becomes(reached, SECONDS)

    async def assert_well(self) -> None:
        """It is ready, and right in every language."""
        await self.ready()
        for language in ECHOES:
            heard = await self.echo(language)
            assert heard.right, heard.answer.text

    async def stop(self, number: int) -> int:
        """Send it a signal; its exit code, when nothing of it is left."""
        below = descendants(self.process.pid)
        self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, SECONDS)
        assert until(lambda: not any(map(alive, below))), [pid for pid in below if alive(pid)]
        assert until(lambda: cgroups_of(self.process.pid) == [])
        return code


@dataclass(frozen=True)
class Heard:
    """An answer, and what the program must have printed."""

    answer: httpx2.Response
    wanted: str

    @property
    def right(self) -> bool:
        """Whether the program ended well and printed its own words."""
        if self.answer.status_code != 200:
            return False
        told = self.answer.json()
        return (told["status"], told["stdout"], told["exit_code"]) == ("succeeded", self.wanted, 0)

    @property
    def problem(self) -> str | None:
        """The word of the problem; None for an outcome. Anything that is no whole problem is a failure."""
        if self.answer.status_code == 200:
            return None
        told = self.answer.json()
        assert self.answer.headers["content-type"] == "application/problem+json"
        assert told["status"] == self.answer.status_code
        assert len(told["detail"]) > 20
        if self.answer.status_code == 503:
            assert int(self.answer.headers["retry-after"]) >= 1
        return str(told["code"])


@dataclass
class LoadClients:
    """Clients that ask again and again, and judge what they hear."""

    running_server: RunningServer
    judge: Callable[[Heard], str]
    """A word for an answer that is not ``right``; raises for one that must not be."""
    heard: Counter[str] = field(default_factory=Counter)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _over: bool = False

    @contextlib.asynccontextmanager
    async def asking(self, clients: int) -> AsyncIterator[None]:
        """They ask while the block lasts; the last answers are judged too."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(number))
            try:
                yield
            finally:
                self._over = True

    async def _client(self, number: int) -> None:
        languages = itertools.cycle(sorted(ECHOES))
        for turn, language in enumerate(itertools.islice(languages, number, None)):
            if self._over:
                return
            heard = await self.running_server.echo(language, pause=0.05 * (turn % 2))
            self.heard["right" if heard.right else self.judge(heard)] += 1
            self._more.set()

    async def answers(self, count: int) -> None:
        """Return when ``count`` more have been judged."""
        goal = self.heard.total() + count
        async with asyncio.timeout(SECONDS):
            while self.heard.total() < goal:
                self._more.clear()
                await self._more.wait()


@contextlib.asynccontextmanager
async def running_server(level: str, *prefix: str, **settings: str) -> AsyncIterator[RunningServer]:
    """A server at ``level``, started through the command ``prefix``; afterwards nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="codex-faults-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        errors, temporary = folder / "errors", folder / "tmp"
        temporary.mkdir(0o711)
        with errors.open("w") as said:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-c", _SERVE, level, "serve", "--port", "0", "--min-isolation", level],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=folder,
                env=_environment(folder, temporary) | settings,
            )
        with process:
            try:
                url = await asyncio.to_thread(_hear_url, process)
                if url is None:
                    _not_started(level, errors.read_text(encoding="utf-8"))
                limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
                async with httpx2.AsyncClient(base_url=url, timeout=SECONDS, limits=limits, trust_env=False) as client:
                    here = RunningServer(process, url, client, errors)
                    assert (await here.ready())["isolation"] == level
                    yield here
                    below = descendants(process.pid)
            finally:
                process.kill()
        assert until(lambda: not any(map(alive, below)))
        assert until(lambda: os.listdir(temporary) == []), os.listdir(temporary)


def _environment(folder: Path, temporary: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CODEX_")}
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "TMPDIR": str(temporary),
        "CODEX_BACKEND": "embedded",
        "CODEX_STATE_DIR": str(folder / "state"),
        "CODEX_API_TOKEN": TOKEN,
        "CODEX_RATE_LIMIT": "",
        "CODEX_DATA_PACKAGES": "false",
        "CODEX_LOG_LEVEL": "warning",
        "CODEX_LOG_FORMAT": "json",
        "CODEX_GUEST_IDS": next_guest_ids(),
        "CODEX_MAX_CONCURRENCY": "4",
        "CODEX_POOL_SIZES": ",".join(f"{pool}={size}" for pool, size in POOLS.items()),
    }


def _hear_url(process: subprocess.Popen[str]) -> str | None:
    assert process.stdout is not None
    for line in process.stdout:
        if found := _URL.search(line):
            return found[0]
    return None


def _not_started(level: str, said: str) -> NoReturn:
    if refused := _TOO_WEAK.search(said):
        out_of_reach(level, refused[0])
    pytest.fail(f"the server did not start at level {level}: {said}")


def victims(family: Family, role: str) -> list[int]:
    """The processes of ``role``: ``launcher``, ``zygote``, ``init`` (PID 1 of a sandbox) or ``worker``."""
    return [process.pid for process in getattr(family, f"{role}s")]
