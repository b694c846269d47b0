"""The container engine, by its own command line, and the server in a container of it.

``DOCKER_HOST`` names the engine, ``CODEX_TEST_BASE`` the image to build from, as for ``tests/engine.py``.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.container.compose import ROOT, load_service, run_options
from tests.waiting import until

BASE = os.environ.get("CODEX_TEST_BASE")
SECONDS = 300
"""Guards against a hang; nothing is judged by it."""


class Engine:
    """`docker`, at ``DOCKER_HOST``; ``base`` is the image that others are built from."""

    def __init__(self, base: str) -> None:
        self.base = base

    def call(self, *words: str, check: bool = True, **given: Any) -> subprocess.CompletedProcess[str]:
        """Run `docker` with ``words`` in the project's folder; fails with what it said."""
        # compose.yaml hands variables of its caller through; what other tests of this process have set is none of them.
        bare = {name: value for name, value in os.environ.items() if not name.startswith("CODEX_")}
        usual: dict[str, Any] = {"cwd": ROOT, "env": bare, "capture_output": True, "text": True, "timeout": SECONDS}
        done: subprocess.CompletedProcess[str] = subprocess.run(["docker", *words], check=False, **usual | given)
        assert not check or done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def tell(self, *words: str) -> str:
        """What `docker` with ``words`` prints."""
        return self.call(*words).stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """All that is known of a container or an image."""
        found: dict[str, Any] = json.loads(self.tell("inspect", name))[0]
        return found

    def build(self, tag: str) -> str:
        """The server's image, from the checkout, without the data packages; its name."""
        offline = (ROOT / "build" / "wheels").is_dir()
        arguments = {"BASE": self.base, "PACKAGES": "no", "PIP_NO_INDEX": "1" if offline else ""}
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        self.call("build", *options, f"--tag={tag}", ".", timeout=3 * SECONDS)
        return tag


def find_engine() -> Engine:
    """The engine of this machine. Raises ``LookupError`` that says what is missing."""
    if not shutil.which("docker"):
        raise LookupError("there is no `docker` here")
    answer = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode:
        raise LookupError(f"the container engine does not answer: {answer.stderr.strip().splitlines()[-1]}")
    if not BASE:
        raise LookupError('CODEX_TEST_BASE names no image to build from; as root: eval "$(bash .ci/engine start)"')
    return Engine(BASE)


@dataclass(frozen=True)
class Answer:
    """What `POST /execute` said."""

    status: int
    body: dict[str, Any]


class RunningServer:
    """The server in a container, run as compose.yaml says."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    @property
    def url(self) -> str:
        """The published port's address; a restart may change it."""
        return "http://" + self.engine.tell("port", self.name, "8000/tcp").splitlines()[0]

    @property
    def log(self) -> str:
        """All that the server printed so far."""
        done = self.engine.call("logs", self.name)
        return done.stdout + done.stderr

    @property
    def token(self) -> str:
        """The token that the first start printed."""
        (token,) = set(re.findall(r"^ *token +(codex_\S{43})$", self.log, re.MULTILINE))
        return str(token)

    def await_health(self, wanted: str = "healthy") -> None:
        """Return when the engine calls the container ``wanted``; fails when it calls it anything else first.

        Asked again and again, for an engine keeps no more than its last 256 events, and other tests make many.
        """
        assert until(lambda: self._health() != "starting", SECONDS), self.log
        assert self._health() == wanted, self.log

    def _health(self) -> str:
        state = self.engine.inspect(self.name)["State"]
        return str(state["Health"]["Status"] if state["Running"] else state["Status"])

    def await_greeting(self, starts: int = 1) -> None:
        """Return once the server has said so many times that it answers."""
        with subprocess.Popen(
            ["docker", "logs", "--follow", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as following:
            guard = threading.Timer(SECONDS, following.kill)
            guard.start()
            try:
                assert following.stdout
                said = []
                for line in following.stdout:
                    said.append(line)
                    starts -= "Ctrl-C stops it" in line
                    if not starts:
                        return
                raise AssertionError("".join(said))
            finally:
                guard.cancel()
                following.kill()

    def get(self, path: str) -> dict[str, Any]:
        """An open page, as JSON."""
        found: dict[str, Any] = httpx2.get(self.url + path, timeout=SECONDS, trust_env=False).json()
        return found

    def ask(self, code: str, token: str, language: str = "python") -> Answer:
        """One execution through the published port."""
        answer = httpx2.post(
            self.url + "/execute",
            json={"code": code, "language": language},
            headers={"Authorization": f"Bearer {token}"},
            timeout=SECONDS,
            trust_env=False,
        )
        return Answer(answer.status_code, answer.json())

    def output(self, code: str, language: str = "python") -> str:
        """What a program printed; it must have succeeded."""
        answer = self.ask(code, self.token, language)
        assert (answer.status, answer.body.get("status")) == (200, "succeeded"), answer.body
        return str(answer.body["stdout"])

    def inside(self, *command: str, **given: Any) -> subprocess.CompletedProcess[str]:
        """Run ``command`` in the container, beside the server and with its rights."""
        return self.engine.call("exec", "--interactive", self.name, *command, check=False, **given)


@contextlib.contextmanager
def running_server(engine: Engine, image: str, name: str, more: Sequence[str] = ()) -> Iterator[RunningServer]:
    """The server of ``image`` in a new container with a new volume; both are gone afterwards."""
    options = [*run_options(load_service(), f"{name}-state"), *more]
    try:
        engine.call("run", "--detach", f"--name={name}", *options, image)
        here = RunningServer(engine, name)
        here.await_greeting()
        yield here
    finally:
        engine.call("rm", "--force", name, check=False)
        engine.call("volume", "rm", "--force", f"{name}-state", check=False)
