"""Streams through a reverse proxy: nginx, with its buffering as it comes."""

import asyncio
import json
import os
import pwd
import re
import shutil
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import BEARER
from tests.api.test_stream import LINES, lines
from tests.levels import needs
from tests.waiting import becomes

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
pytestmark = [pytest.mark.anyio, needs("nginx", NGINX is not None, "it is not installed here")]
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
DOCUMENTED_UPSTREAM = "http://127.0.0.1:8000"
DOCUMENTED = re.compile(r"^- nginx in front: (.*)$", re.MULTILINE)
CONFIGURATION = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  {temporary}
  server {{
    listen 127.0.0.1:{port};
    location / {{ {directives} }}
  }}
}}
"""


@asynccontextmanager
async def nginx_before(door, folder, directives=f"proxy_pass {DOCUMENTED_UPSTREAM};"):
    """A client of an nginx that has the server behind it, and everything else as nginx has it by default."""
    directives = directives.replace(DOCUMENTED_UPSTREAM, f"http://127.0.0.1:{door.port}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in KINDS)
        file = folder / "nginx.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name  # the folder is this user's alone
        facts = {"folder": folder, "port": port, "directives": directives, "temporary": temporary, "user": user}
        file.write_text(CONFIGURATION.format(**facts))
        command = [NGINX, "-p", str(folder), "-c", str(file), "-e", f"{folder}/error.log"]
        # It takes over a socket that listens already, as from an nginx before it: no other process can have the port.
        env = {"NGINX": f"{listener.fileno()};"}
        nginx = await asyncio.create_subprocess_exec(*command, pass_fds=[listener.fileno()], env=env)
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        with suppress(ProcessLookupError):
            nginx.terminate()
        await nginx.wait()


def following(client, code, headers):
    return client.stream("POST", "/execute/stream", json={"code": code}, headers=BEARER | headers)


async def test_a_line_of_json_passes_nginx_while_the_program_runs(serve, tmp_path):
    async with (
        serve() as door,
        nginx_before(door, tmp_path) as client,
        following(client, "print a\nwait go\nprint b", LINES) as response,
    ):
        assert response.headers["server"].startswith("nginx")
        events = lines(response)
        async with asyncio.timeout(20):
            assert [(await anext(events))["type"], (await anext(events))["text"]] == ["started", "a\n"]
        door.backend.event("go").set()
        assert [event["type"] async for event in events] == ["stdout", "finished"]


async def test_a_server_sent_event_passes_nginx_while_the_program_runs(serve, tmp_path):
    async with (
        serve() as door,
        nginx_before(door, tmp_path) as client,
        following(client, "print a\nwait go\nprint b", {}) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        read = response.aiter_lines()
        async with asyncio.timeout(20):
            while await anext(read) != 'data: {"text":"a\\n"}':
                pass
        door.backend.event("go").set()
        rest = [line async for line in read]
        assert 'data: {"text":"b\\n"}' in rest
        assert "event: finished" in rest


async def test_items_of_a_batch_pass_nginx_one_by_one(serve, tmp_path):
    items = [{"code": "print a"}, {"code": "wait go"}, {"code": "wait end"}]
    async with (
        serve(max_concurrency=3) as door,
        nginx_before(door, tmp_path) as client,
        client.stream("POST", "/execute/batch", json={"items": items}, headers=BEARER | LINES) as response,
    ):
        read = response.aiter_lines()
        async with asyncio.timeout(20):
            found = [json.loads(await anext(read))]
            door.backend.event("go").set()
            found.append(json.loads(await anext(read)))
        door.backend.event("end").set()
        found += [json.loads(line) async for line in read]
        # A wait that nobody ends in time is "timed_out".
        assert [(each["index"], each["status"]) for each in found] == [(n, "succeeded") for n in range(3)]


async def test_whoever_leaves_nginx_cancels_the_program(serve, tmp_path):
    async with serve() as door, nginx_before(door, tmp_path) as client:
        async with following(client, "print a\nwait never", LINES) as response:
            assert (await anext(lines(response)))["type"] == "started"

        async def cancelled():
            return not door.app.state.executor.stats().running

        await becomes(cancelled)


@pytest.mark.parametrize(("is_set_up", "status"), [(False, 413), (True, 201)], ids=["by default", "as documented"])
async def test_nginx_as_documented_lets_uploads_through(serve, tmp_path, is_set_up, status):
    page = Path(__file__).parents[2].joinpath("docs/api.md").read_text(encoding="utf-8")
    given = re.findall(r"`([a-z_]+ [^`]+;)`", DOCUMENTED.search(page)[1])
    assert {line.split()[0] for line in given} >= {"proxy_pass", "client_max_body_size", "proxy_read_timeout"}
    async with (
        serve() as door,
        nginx_before(door, tmp_path, "\n".join(given if is_set_up else given[:1])) as client,
    ):
        response = await client.post("/files?name=a.bin", content=bytes(2 * 2**20), headers=BEARER)
        assert response.status_code == status
