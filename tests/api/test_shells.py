"""``/sessions/{session_id}/shells``: called, listed and closed by their session's owner."""

import asyncio

import pytest

from codex_server.access.tokens import TokenStore
from codex_server.api.disconnect import while_connected
from codex_server.api.routes import shells
from codex_server.app import begin_drain
from codex_server.errors import InvalidRequest
from codex_server.sandboxes.testing.fake_session import FakeSession
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio


async def open_one(door, *, headers=BEARER):
    response = await door.client.post("/sessions", json={}, headers=headers)
    return f"/sessions/{response.json()['session_id']}"


async def call(door, session, name="main", *, headers=BEARER, **fields):
    return await door.client.post(f"{session}/shells/{name}", json=fields, headers=headers)


async def test_a_shell_is_called_listed_and_closed(door):
    session = await open_one(door)
    assert (await door.get(f"{session}/shells")).json() == {"shells": []}
    called = await call(door, session, command="cd /usr")
    assert called.status_code == 200
    assert called.json() == {
        "output": "$ cd /usr\n$",
        "missed_bytes": 0,
        "running": False,
        "running_for_seconds": None,
        "exit_code": 0,
        "cwd": "/usr",
        "full_screen": False,
        "ended": False,
        "next": 13,
    }
    listed = {"shells": [{"name": "main", "running": False, "cwd": "/usr"}]}
    assert (await door.get(f"{session}/shells")).json() == listed
    closed = await door.client.delete(f"{session}/shells/main", headers=BEARER)
    assert (closed.status_code, closed.content) == (204, b"")
    assert (await door.get(f"{session}/shells")).json() == {"shells": []}
    again = await door.client.delete(f"{session}/shells/main", headers=BEARER)
    assert (again.status_code, again.json()["code"]) == (404, "unknown-shell")


async def test_colours_are_kept_or_gone_as_asked(door):
    session = await open_one(door)
    line = "bytes 1b5b33316d7265641b5b306d"
    assert (await call(door, session, command=line)).json()["output"].endswith("\nred$")
    assert (await call(door, session, command=line, form="ansi")).json()["output"].endswith("\n\x1b[0;31mred\x1b[0m$")
    assert (await call(door, session, command=line, form="raw")).json()["output"].endswith("\r\n\x1b[31mred\x1b[0m$ ")


async def test_a_command_that_waits_is_interrupted_by_a_key_while_somebody_reads(door):
    session = await open_one(door)
    begun = (await call(door, session, command="wait ever", wait_seconds=0)).json()
    assert (begun["running"], begun["exit_code"]) == (True, None)
    reader = asyncio.ensure_future(call(door, session, wait_seconds=60))
    ended = (await call(door, session, keys=["Ctrl-C"], wait_seconds=60)).json()
    assert (ended["running"], ended["exit_code"]) == (False, 130)
    assert (await reader).json()["running"] is False


async def test_a_call_that_waits_does_not_hold_up_a_server_that_stops(door):
    session = await open_one(door)
    waiting = asyncio.ensure_future(call(door, session, command="wait ever", wait_seconds=60))
    while "main" not in door.backend.sessions[0].shells:
        await asyncio.sleep(0)
    await begin_drain(door.app)
    ended = await waiting
    assert (ended.status_code, ended.json()["running"]) == (200, True)


async def test_what_appears_after_a_caller_has_left_is_new_for_the_next(serve, monkeypatch):
    left = asyncio.Event()

    async def watched(request, work):
        try:
            await while_connected(request, work)
        finally:
            left.set()

    monkeypatch.setattr(shells, "while_connected", watched)
    async with serve() as door:
        session = await open_one(door)
        assert (await call(door, session)).json()["output"] == "$"
        left.clear()
        leaving = asyncio.ensure_future(call(door, session, command="wait go", wait_seconds=60))
        while not door.backend.sessions[0].shells["main"].typed:
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        await left.wait()
        door.backend.event("go").set()
        ended = (await call(door, session, wait_seconds=60)).json()
        assert (ended["output"], ended["running"]) == ("wait go\n$", False)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": "ls", "text": "x"}, "send one of"),
        ({"keys": ["Nope"]}, "there is no key 'Nope'"),
        ({"wait_seconds": 61}, "wait_seconds"),
        ({"since": 0}, "goes with `form: raw`"),
        ({"resize": {"rows": 0}}, "rows"),
        ({"form": "html"}, "form"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=str,
)
async def test_what_cannot_be_typed_is_refused_and_no_shell_is_started(door, fields, said):
    session = await open_one(door)
    refused = await call(door, session, **fields)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert said in refused.text
    assert door.backend.sessions[0].shells == {}


@pytest.mark.parametrize("name", ["a%20b", "x" * 41, "caf%C3%A9"])
async def test_a_name_is_plain(door, name):
    assert (await call(door, await open_one(door), name)).status_code == 422


async def test_shells_are_their_owners_alone(open_door, tmp_path):
    tokens = TokenStore(tmp_path / "state")
    own, other = ({"Authorization": f"Bearer {tokens.create(name)[0]}"} for name in ("own", "other"))
    async with open_door(api_token=None) as door:
        session = await open_one(door, headers=own)
        assert (await call(door, session, headers=own)).status_code == 200
        assert (await call(door, session, headers=other)).json()["code"] == "unknown-session"
        assert (await door.client.get(f"{session}/shells", headers=other)).status_code == 404
        assert (await door.client.delete(f"{session}/shells/main", headers=other)).status_code == 404
        assert (await call(door, session, headers={})).status_code == 401


async def test_where_programs_have_no_terminal_the_refusal_says_why(door, monkeypatch):
    async def refuse(self, name, size, output):
        raise InvalidRequest("at isolation level `confined` a session has no shells")

    monkeypatch.setattr(FakeSession, "open_shell", refuse)
    refused = await call(door, await open_one(door), command="ls")
    assert (refused.status_code, "`confined`" in refused.json()["detail"]) == (422, True)


async def test_a_session_that_is_closed_ends_who_waits_for_its_shell(door):
    session = await open_one(door)
    await call(door, session, command="wait ever", wait_seconds=0)
    waiting = asyncio.ensure_future(call(door, session, wait_seconds=60))
    await call(door, session, "other")
    closed = await door.client.delete(session, headers=BEARER)
    assert closed.status_code == 204
    assert ((await waiting).status_code, (await waiting).json()["code"]) == (410, "session-ended")
    assert (await call(door, session)).status_code == 410


async def test_what_may_start_a_program_counts_against_the_rate_and_other_input_does_not(open_door):
    async with open_door(rate_limit="5/minute") as door:
        session = await open_one(door)
        assert (await call(door, session)).status_code == 200
        assert (await call(door, session, command="print 1")).status_code == 200
        assert (await call(door, session, text="print 2\r", wait_seconds=5)).status_code == 200
        assert (await call(door, session, command="wait ever", wait_seconds=0)).json()["running"]
        for fields in ({}, {"text": "print 3\r"}):  # a program runs: it is its input
            assert (await call(door, session, wait_seconds=0, **fields)).status_code == 200


async def test_no_way_to_type_a_line_at_a_prompt_is_beyond_the_rate(open_door):
    async with open_door(rate_limit="2/minute") as door:
        session = await open_one(door)
        assert (await call(door, session)).status_code == 200
        typed = [{"text": "print 4\r"}, {"text": "print 5\n"}, {"keys": ["Enter"]}, {"keys": ["Ctrl-J"]}]
        for fields in (*typed, {"keys": ["Ctrl-O"]}, {"command": "print 6"}, {"command": ""}):
            assert (await call(door, session, **fields)).json()["code"] == "rate-limited"
        assert (await call(door, session, "other")).json()["code"] == "rate-limited"
        for fields in ({}, {"text": "print"}, {"keys": ["Backspace"]}):
            assert (await call(door, session, wait_seconds=0, **fields)).status_code == 200
