"""A Docker engine of the tests' own, which they stop, kill and freeze; nobody else's notices.

It needs root and ``dockerd``; the image that its sandboxes are made of comes from the engine that other tests use.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from codex_server.languages import Languages
from codex_server.sandboxes.docker.container import OWNER_LABEL
from codex_server.sandboxes.docker.images import image_name
from tests.engine import HOST, built_images
from tests.host_snapshot import alive
from tests.levels import out_of_reach
from tests.waiting import until

_SECONDS = 60.0
_SILENT = (docker.errors.DockerException, requests.RequestException, OSError)
_OPTIONS = ("--iptables=false", "--bridge=none", "--log-level=warn")


class Dockerd:
    """The engine: a process that can be stopped and started again, on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/s"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers; nothing when it runs. A skip when it does not start at all here."""
        if self._process and self._process.poll() is None:
            return
        # In a network of its own: an engine without a bridge removes docker0, which is another engine's.
        # With mounts of its own: other tests count those of the host.
        command = [
            "unshare",
            "--net",
            "--mount",
            "dockerd",
            "--data-root",
            self._at("data"),
            "--exec-root",
            self._at("exec"),
        ]
        command += ["--pidfile", self._at("pid"), "--host", self.host, *_OPTIONS]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if not until(lambda: self._answers() or self._process.poll() is not None, _SECONDS) or not self._answers():
            last = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
            out_of_reach("private-engine", f"an engine of one's own does not start: {''.join(last)}")

    def _at(self, name: str) -> str:
        return str(self.folder / name)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except _SILENT:
            return False

    @contextlib.contextmanager
    def client(self) -> Iterator[docker.APIClient]:
        """The engine, asked directly."""
        with socket.socket(socket.AF_UNIX) as visitor:  # the SDK leaves its own open when nobody is there
            visitor.connect(self._at("s"))
        client = docker.APIClient(base_url=self.host, timeout=_SECONDS)
        try:
            yield client
        finally:
            client.close()

    def stop(self) -> None:
        """As an administrator stops it: its containers end with it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As the kernel does when memory is short. Its containerd dies with it, its containers are nobody's."""
        self._end(signal.SIGKILL)
        number = Path(self._at("exec/containerd/containerd.pid"))
        pid = int(number.read_text(encoding="ascii"))
        assert until(lambda: not alive(pid))
        if Path(f"/proc/{pid}").exists():  # nobody has buried it yet, and a new engine would wait for it
            number.unlink()

    def _end(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)
        self._process.wait(_SECONDS)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It neither answers nor hangs up."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def containers(self, **wanted: Any) -> list[dict[str, Any]]:
        """Every sandbox that is there, ended ones too; ``wanted`` are the engine's own filters."""
        with self.client() as client:
            found: list[dict[str, Any]] = client.containers(all=True, filters={"label": [OWNER_LABEL], **wanted})
            return found

    def ids(self, **wanted: Any) -> set[str]:
        """The same, only their ids."""
        return {row["Id"] for row in self.containers(**wanted)}

    def programs(self) -> list[int]:
        """The first process of every container that runs."""
        shims = {pid for pid in self._left() if b"containerd-shim" in _command(pid)}
        return [pid for pid in self._pids() if _parent(pid) in shims and pid not in shims and alive(pid)]

    def _pids(self) -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def remove_all(self) -> None:
        """Remove every container, whoever made it."""
        with self.client() as client:
            for row in client.containers(all=True):
                with contextlib.suppress(docker.errors.NotFound):
                    client.remove_container(row["Id"], force=True)

    def close(self) -> None:
        """End it, and all that it has started; nothing of it is left on the host."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            with contextlib.suppress(*_SILENT):  # one that does not answer is ended with all that it has
                self.remove_all()
            self._process.terminate()
            until(lambda: self._process is None or self._process.poll() is not None, _SECONDS)
        for _ in range(3):  # a shim that loses its own may start another
            for pid in self._left():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            until(lambda: not self._left())
        shutil.rmtree(self.folder)

    def _left(self) -> list[int]:
        """What was started with this folder's name: the engine, its containerd, their shims."""
        return [pid for pid in self._pids() if os.fsencode(f"{self.folder}/") in _command(pid) and alive(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()[1])
    except OSError:
        return 0


@contextlib.contextmanager
def private_engine(languages: Languages) -> Iterator[tuple[Dockerd, str]]:
    """A running engine and a template of its images' names; a skip that says why there is none."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        out_of_reach("private-engine", "it needs root and dockerd")
    template = built_images(languages, "faults")
    engine = Dockerd(Path(tempfile.mkdtemp(prefix="codex-engine-")))  # short: a socket's path has 107 bytes
    try:
        engine.start()
        _bring(engine, {image_name(template, language.image) for language in languages})
        yield engine, template
    finally:
        engine.close()


def _bring(engine: Dockerd, names: set[str]) -> None:
    """Images from the engine that has them."""
    source = docker.APIClient(base_url=HOST, timeout=300)
    try:
        with engine.client() as client:
            for name in names:
                for _ in client.load_image(source.get_image(name)):
                    pass
    finally:
        source.close()
