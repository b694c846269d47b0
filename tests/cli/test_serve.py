"""``codex-server serve`` as a process of its own: what it prints, how it stops, what it leaves behind."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from codex_server.cli.serve import _runs_on_this_machine
from codex_server.errors import IsolationTooWeak
from codex_server.languages import load_languages
from codex_server.settings import load_settings
from tests.engine import built_images
from tests.levels import needs, out_of_reach
from tests.tiers import Tier, in_tier
from tests.waiting import until

pytestmark = pytest.mark.unprivileged

TOKEN = "a-token-for-these-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
SECONDS = 60
"""Guards against a hang; nothing is judged by it."""


@dataclass
class Served:
    process: subprocess.Popen[str]
    greeting: str
    url: str

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=SECONDS)

    def execute(self, code: str) -> httpx2.Response:
        return httpx2.post(self.url + "/execute", json={"code": code}, headers=HEADERS, timeout=SECONDS)

    def wait_until(self, path: str, seen) -> httpx2.Response:
        responses: list[httpx2.Response] = []

        def received() -> bool:
            assert self.process.poll() is None
            responses.append(self.get(path))
            return bool(seen(responses[-1]))

        assert until(received, SECONDS)
        return responses[-1]

    def end(self, *signals: signal.Signals) -> int:
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "codex_server", "serve", "--port", "0", "--min-isolation", "confined", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )


@contextlib.contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[Served]:
    process = start(*arguments, **environment)
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()))
    reader.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        greeting = "".join(lines)
        url = re.search(r"http://[\d.]+:\d+", greeting)
        assert url, (greeting, process.wait(SECONDS), errors)
        yield Served(process, greeting, url[0])
    finally:
        process.kill()
        process.wait(SECONDS)
        reader.join()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(CODEX_API_TOKEN=TOKEN) as server:
        yield server


def descendants(pid: int) -> set[int]:
    """Those of now: the sandbox of an execution that was just answered may go while its tree is walked."""
    try:
        children = set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return children.union(*map(descendants, children))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def in_background(call) -> tuple[threading.Thread, list[httpx2.Response]]:
    answers: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


@needs("curl", shutil.which("curl") is not None, "it is not installed here")
def test_the_first_start_prints_a_token_and_a_curl_line_that_works():
    with serving() as server:
        line = next(line.strip() for line in server.greeting.splitlines() if line.startswith("  curl "))
        token = re.search(r"codex_[\w-]{43}", server.greeting)
        assert token
        answer = json.loads(subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout)
        assert (answer["status"], answer["stdout"]) == ("succeeded", "42\n")
        assert server.end(signal.SIGTERM) == 0


@pytest.mark.tier("change")
def test_a_later_start_keeps_the_token_and_does_not_show_it():
    with serving() as server:
        token = re.search(r"codex_[\w-]{43}", server.greeting)
        assert token
        server.end(signal.SIGTERM)
    with serving() as server:
        assert "codex_" not in server.greeting.replace("codex_server", "")
        assert "token create NAME" in server.greeting
        headers = {"Authorization": f"Bearer {token[0]}"}
        answer = httpx2.post(server.url + "/execute", json={"code": "1"}, headers=headers, timeout=SECONDS)
        assert answer.status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, in_tier(Tier.CHANGE, signal.SIGINT)])
def test_a_signal_ends_it_with_exit_code_0_and_leaves_no_process(served: Served, number: signal.Signals):
    assert served.execute("print(1)").json()["stdout"] == "1\n"
    family = descendants(served.process.pid)
    assert family
    assert served.end(number) == 0
    assert until(lambda: not any(map(is_alive, family)), SECONDS)


@pytest.mark.tier("change")
def test_while_it_drains_a_running_execution_finishes_and_new_ones_are_refused(served: Served):
    thread, answers = in_background(lambda: served.execute("import time; time.sleep(3); print('finished')"))
    served.wait_until("/readyz", lambda response: response.json()["running"] == 1)
    served.process.send_signal(signal.SIGTERM)
    served.wait_until("/readyz", lambda response: response.status_code == 503)
    refused = served.execute("print(1)")
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    thread.join(SECONDS)
    assert answers[0].json()["stdout"] == "finished\n"
    assert served.process.wait(SECONDS) == 0
    assert served.process.stdout is not None
    said = served.process.stdout.read()
    assert "Stopping: 1 execution may take up to 30 s more; Ctrl-C again stops at once.\n" in said
    assert said.endswith("Stopped.\n")


@pytest.mark.tier("change")
def test_whoever_connected_before_it_stopped_listening_is_refused_with_a_problem(served: Served):
    place = urlsplit(served.url)
    body = json.dumps({"code": "print(1)"})
    request = (
        f"POST /execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection((place.hostname, place.port), SECONDS) as connection:
        served.process.send_signal(signal.SIGTERM)
        assert until(lambda: not listens(place.hostname, place.port), SECONDS)
        connection.sendall(request.encode())
        received = b"".join(iter(lambda: connection.recv(2**16), b"")).decode()
    assert received.startswith("HTTP/1.1 503 ")
    assert "\r\nconnection: close\r\n" in received.lower()
    assert '"code":"draining"' in received
    assert served.process.wait(SECONDS) == 0


def listens(host: str | None, port: int | None) -> bool:
    try:
        socket.create_connection((host, port), SECONDS).close()
    except ConnectionError:
        return False
    return True


def test_a_second_signal_stops_at_once_whatever_still_runs(served: Served):
    thread, _ = in_background(lambda: _try(served))
    served.wait_until("/readyz", lambda response: response.json()["running"] == 1)
    family = descendants(served.process.pid)
    served.process.send_signal(signal.SIGTERM)
    served.wait_until("/readyz", lambda response: response.status_code == 503)
    assert served.end(signal.SIGTERM) == 0
    thread.join(SECONDS)
    assert until(lambda: not any(map(is_alive, family)), SECONDS)


@pytest.mark.tier("change")
def test_the_end_of_the_drain_cuts_off_what_still_runs():
    with serving("--set", "drain_seconds=0.2", CODEX_API_TOKEN=TOKEN) as server:
        thread, _ = in_background(lambda: _try(server))
        server.wait_until("/readyz", lambda response: response.json()["running"] == 1)
        assert server.end(signal.SIGTERM) == 0
        thread.join(SECONDS)


def test_nothing_survives_a_killed_server(served: Served):
    thread, _ = in_background(lambda: _try(served))
    served.wait_until("/readyz", lambda response: response.json()["running"] == 1)
    family = descendants(served.process.pid)
    served.process.kill()
    thread.join(SECONDS)
    assert until(lambda: not any(map(is_alive, family)), SECONDS)


@pytest.mark.tier("change")
def test_a_second_server_on_the_port_says_so_in_one_line(served: Served):
    port = served.url.rpartition(":")[2]
    second = start("--port", port)
    output, errors = second.communicate(timeout=SECONDS)
    assert (second.returncode, output) == (1, "")
    assert errors.count("\n") == 1
    assert f"port {port} on 127.0.0.1 is in use" in errors
    assert served.get("/livez").status_code == 200


@pytest.mark.tier("change")
def test_the_umask_of_the_shell_does_not_reach_the_sandboxes():
    before = os.umask(0o077)
    try:
        with serving(CODEX_API_TOKEN=TOKEN) as server:
            server.wait_until("/readyz", lambda response: response.json()["armed"].get("javascript"))
            body = {"code": "console.log(1)", "language": "javascript"}
            answer = httpx2.post(server.url + "/execute", json=body, headers=HEADERS, timeout=SECONDS)
            assert answer.json()["stdout"] == "1\n"
    finally:
        os.umask(before)


def test_wrong_settings_are_one_message_and_exit_code_2():
    process = start("--set", "max_memory=lots", CODEX_RATE_LIMIT="often")
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (2, "")
    assert "--set max_memory: " in errors
    assert "CODEX_RATE_LIMIT" in errors
    assert "Traceback" not in errors


def test_a_start_that_fails_says_cause_and_remedy_and_does_not_swallow_the_first_token():
    program = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
import codex_server.app
from codex_server.cli.main import main
from codex_server.errors import IsolationTooWeak

@asynccontextmanager
async def lifespan(app):
    raise IsolationTooWeak("no user namespaces here; do this")
    yield

codex_server.app.create_app = lambda settings, languages: FastAPI(lifespan=lifespan)
main()
"""
    command = [sys.executable, "-c", program, "serve", "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 1
    assert result.stderr == "codex-server: no user namespaces here; do this\n"
    assert re.search(r"shown only once: codex_[\w-]{43}\n", result.stdout)


@pytest.mark.tier("change")
def test_packages_that_cannot_be_installed_are_told_loudly_and_the_server_does_without(tmp_path: Path):
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    nowhere |= {"npm_config_registry": "http://127.0.0.1:9", "npm_config_fetch_retries": "0"}
    process = start(CODEX_DATA_PACKAGES="true", CODEX_API_TOKEN=TOKEN, **nowhere)
    assert process.stdout is not None
    try:
        greeting = list(itertools.takewhile(lambda line: "Ctrl-C" not in line, process.stdout))
        assert greeting[0].startswith("Installing the packages of ")
        (packages,) = [line for line in greeting if line.startswith("  packages ")]
        assert re.search(r"not installed: `\S*codex-server runners install python`", packages)
        url = re.search(r"http://[\d.]+:\d+", "".join(greeting))
        assert url
        answer = httpx2.post(url[0] + "/execute", json={"code": "print(6 * 7)"}, headers=HEADERS, timeout=SECONDS)
        assert answer.json()["stdout"] == "42\n"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=SECONDS)
    assert "codex-server: the packages of Python are not installed: pip could not install them: " in errors
    assert "the server starts without them" in errors


@pytest.mark.tier("change")
def test_no_data_installs_nothing_and_says_so(tmp_path: Path):
    with serving(
        "--no-data", CODEX_DATA_PACKAGES="true", CODEX_API_TOKEN=TOKEN, CODEX_STATE_DIR=str(tmp_path)
    ) as server:
        assert "  packages   standard libraries only: switched off (data_packages)\n" in server.greeting
        assert server.get("/languages").json()["languages"][0]["packages"] == []
        assert not (tmp_path / "packages").exists()


def test_a_misspelt_variable_is_pointed_out():
    process = start("--host", "192.0.2.1", CODEX_MIN_ISOLATOIN="full")
    assert "did you mean CODEX_MIN_ISOLATION?" in process.communicate(timeout=SECONDS)[1]


@pytest.mark.tier("change")
def test_an_ipv6_address_is_served_and_printed_as_a_url():
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            out_of_reach("ipv6", error)
    process = start("--host", "::1", CODEX_API_TOKEN=TOKEN)
    assert process.stdout is not None
    first = process.stdout.readline()
    try:
        url = re.search(r"http://\[::1\]:\d+", first)
        assert url, first
        assert httpx2.get(url[0] + "/livez", timeout=SECONDS).status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


def _try(server: Served) -> httpx2.Response | None:
    """An execution that outlasts the server: its connection ends in an error."""
    try:
        return server.execute("import time; time.sleep(20)")
    except httpx2.HTTPError:
        return None


def test_docker_serves_with_its_images_and_installs_nothing_here(tmp_path: Path):
    images = built_images(load_languages(), "cli")
    nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "npm_config_registry": "http://127.0.0.1:9"}
    settings = {"CODEX_DOCKER_IMAGE": images, "CODEX_API_TOKEN": TOKEN, "CODEX_STATE_DIR": str(tmp_path)}
    pools = {"CODEX_POOL_SIZES": "python=1,javascript=0,bash=0"}
    with serving("--backend", "docker", CODEX_DATA_PACKAGES="true", **nowhere, **settings, **pools) as server:
        assert "Installing" not in server.greeting
        assert "\n  backend    docker\n" in server.greeting
        assert "\n  isolation  full: a container of its own for each sandbox" in server.greeting
        answer = server.execute("import os; print(6 * 7, os.uname().nodename)")
        assert answer.json()["stdout"] == "42 sandbox\n"
        assert not (tmp_path / "packages").exists()
        assert server.end(signal.SIGTERM) == 0


@pytest.mark.tier("change")
def test_docker_without_an_engine_is_one_line_with_the_remedy(tmp_path: Path):
    host = f"unix://{tmp_path}/none.sock"
    process = start("--backend", "docker", CODEX_DOCKER_HOST=host, CODEX_API_TOKEN=TOKEN)
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (1, "")
    assert errors == (
        f"codex-server: the docker backend cannot start: the Docker engine at {host} cannot be reached: start it, or "
        "name another one with DOCKER_HOST\n"
    )


@pytest.mark.parametrize(("backend", "here"), [("docker", False), ("embedded", True)])
def test_data_packages_are_this_machines_only_for_a_back_end_that_runs_programs_on_it(backend: str, here: bool):
    assert _runs_on_this_machine(load_settings({"backend": backend}), load_languages()) is here


def test_auto_installs_packages_only_where_embedded_will_be_taken(monkeypatch: pytest.MonkeyPatch):
    async def refuse(_: object) -> None:
        raise IsolationTooWeak("not here")

    monkeypatch.setattr("codex_server.sandboxes.embedded.backend.EmbeddedBackend.start", refuse)
    assert _runs_on_this_machine(load_settings({"backend": "auto"}), load_languages()) is False
