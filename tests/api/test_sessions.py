"""``/sessions``: opened, used, interrupted and closed by their owner; they end as they say, never silently."""

import asyncio
import json
import time
from datetime import datetime
from types import SimpleNamespace

import pytest

from codex_server.access.tokens import TokenStore
from codex_server.execution import session as live_session
from codex_server.service.open_session import MOST_WAITING
from codex_server.service.session_records import SessionRecords
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio
OWN_FIELDS = {"execution_count", "result", "interpreter_restarted", "session_expires_at"}


async def open_one(door, *, headers=BEARER, **fields):
    response = await door.client.post("/sessions", json=fields, headers=headers)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/sessions/{response.json()['session_id']}"
    return response.json()


async def run_in(door, opened, code, *, headers=None, **fields):
    path = f"/sessions/{opened['session_id']}/execute"
    return await door.client.post(path, json={"code": code, **fields}, headers=BEARER | (headers or {}))


async def look(door, session, headers=BEARER):
    return await door.client.get(f"/sessions/{session['session_id']}", headers=headers)


async def close(door, session, headers=BEARER):
    return await door.client.delete(f"/sessions/{session['session_id']}", headers=headers)


async def until_runs(door, count=1):
    while len(door.backend.executions) < count:
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch):
    """Moves the time of sessions on, and of nothing else."""
    clock = SimpleNamespace(ahead=0.0)
    clock.monotonic = lambda: time.monotonic() + clock.ahead
    monkeypatch.setattr(live_session, "time", clock)
    return clock


@pytest.fixture
def open_timed_door(open_door, clock):
    """A door whose sessions live by ``clock``."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def open_(**settings):
        async with open_door(**settings) as door:
            door.app.state.services.sessions._clock = clock.monotonic
            yield door

    return open_


async def test_variables_and_files_stay_from_one_execution_to_the_next(door):
    session = await open_one(door)
    first = (await run_in(door, session, "set x 20\nwrite a.txt kept\nprint one")).json()
    second = (await run_in(door, session, "get x\ncat a.txt\nresult 42")).json()
    assert (first["stdout"], second["stdout"]) == ("one\n", "20\nkept")
    assert (first["execution_count"], second["execution_count"]) == (1, 2)
    assert (first["result"], second["result"]) == (None, {"text/plain": "42"})
    assert second["interpreter_restarted"] is False
    assert second["truncated"] == {"stdout": False, "stderr": False, "result": False}


async def test_a_new_session_reports_what_it_is(door):
    session = await open_one(door, ttl_seconds=60, limits={"memory_bytes": 2**26, "cpu_seconds": 2})
    assert session.keys() == {"session_id", "languages", "workspace", "created_at", "expires_at", "limits"}
    assert session["session_id"].startswith("ses_")
    assert session["languages"]["python"] == {"version": "1.2.3", "started": False}
    assert "cobol" not in session["languages"]
    assert (session["workspace"], session["limits"]["memory_bytes"]) == (None, 2**26)
    assert door.backend.sessions[0].plan.limits.memory_bytes == 2**26
    assert (await look(door, session)).json() == session
    await run_in(door, session, "print 1")
    later = (await look(door, session)).json()
    assert {name for name, each in later["languages"].items() if each["started"]} == {"python"}
    assert later["expires_at"] > session["expires_at"]


async def test_the_interpreters_of_the_languages_that_it_names_are_started_at_once(door):
    session = await open_one(door, languages=["js", "python"])
    live = door.app.state.services.sessions._open[session["session_id"]].live
    await asyncio.sleep(0.01)
    assert live.interpreters == {"javascript", "python"}
    shown = (await look(door, session)).json()["languages"]
    assert {name: each["started"] for name, each in shown.items()} == {"javascript": True, "python": True}
    await run_in(door, session, "exit 3")
    assert [each.code for each in door.backend.executions] == ["exit 3"]


async def test_session_in_the_body_of_execute_is_the_same(door):
    session = await open_one(door)
    await run_in(door, session, "set x 1")
    answer = (await door.execute("get x", session=session["session_id"])).json()
    assert (answer["stdout"], answer["execution_count"]) == ("1\n", 2)
    plain = (await door.execute("print 1")).json()
    assert answer.keys() == plain.keys() | OWN_FIELDS
    assert not OWN_FIELDS & plain.keys()
    assert plain["truncated"].keys() == {"stdout", "stderr"}


async def test_a_batch_item_may_be_in_a_session(door):
    session = await open_one(door)
    items = [{"code": "set x 1"}, {"code": "get x"}, {"code": "print plain"}]
    sent = {"items": [item | {"session": session["session_id"]} for item in items[:2]] + items[2:], "max_parallel": 1}
    found = (await door.client.post("/execute/batch", json=sent, headers=BEARER)).json()["items"]
    assert [item["stdout"] for item in found] == ["", "1\n", "plain\n"]
    assert [item.get("execution_count") for item in found] == [1, 2, None]


@pytest.mark.parametrize("path", ["/execute/stream", "/stream"])
async def test_a_stream_in_a_session_ends_with_what_the_session_adds(door, path):
    session = await open_one(door)
    await run_in(door, session, "set x 1")
    response = await door.client.post(
        f"/sessions/{session['session_id']}{path}",
        json={"code": "get x\nresult 7"},
        headers=BEARER | {"Accept": "application/x-ndjson"},
    )
    events = [json.loads(line) for line in response.text.splitlines()]
    assert [event["type"] for event in events] == ["started", "stdout", "finished"]
    assert (events[-1]["execution_count"], events[-1]["result"]) == (2, {"text/plain": "7"})


async def test_in_the_background_a_cell_is_followed_fed_and_kept(open_door):
    async with open_door() as door:
        session = await open_one(door)
        started = await run_in(door, session, "read\nresult 1", wait_seconds=0, keep_stdin_open=True)
        execution = started.json()["execution_id"]
        assert (started.status_code, started.headers["location"]) == (202, f"/executions/{execution}")
        fed = await door.client.post(f"/executions/{execution}/input", json={"text": "hello\n"}, headers=BEARER)
        assert fed.status_code == 204
        while (ended := (await door.get(f"/executions/{execution}?wait_seconds=30")).json())["status"] != "succeeded":
            pass
        assert (ended["stdout"], ended["result"], ended["execution_count"]) == ("hello\n", {"text/plain": "1"}, 1)
        [entry] = (await door.get("/executions")).json()["executions"]
        assert entry["session_id"] == session["session_id"]
    async with open_door() as door:
        kept = (await door.get(f"/executions/{execution}")).json()
        assert {name: kept[name] for name in OWN_FIELDS} == {name: ended[name] for name in OWN_FIELDS}


async def test_a_session_of_another_caller_is_unknown(open_door, tmp_path):
    tokens = TokenStore(tmp_path / "state")
    mine, theirs = ({"Authorization": f"Bearer {tokens.create(name)[0]}"} for name in ("mine", "theirs"))
    async with open_door(api_token=None) as door:
        session = await open_one(door, headers=mine)
        path = f"/sessions/{session['session_id']}"
        calls = [("GET", path), ("DELETE", path), ("POST", f"{path}/interrupt")]
        answers = [await door.client.request(method, each, headers=theirs) for method, each in calls]
        for place in ("/execute", "/stream"):
            sent = {"code": "print 1"}
            answers.append(await door.client.post(f"{path}{place}", json=sent, headers=theirs))
        sent = {"code": "print 1", "session": session["session_id"]}
        answers.append(await door.client.post("/execute", json=sent, headers=theirs))
        assert {(each.status_code, each.json()["code"]) for each in answers} == {(404, "unknown-session")}
        assert (await door.client.get("/sessions", headers=theirs)).json() == {"sessions": [], "next": None}
        assert (await look(door, session, mine)).status_code == 200
        assert (await close(door, session, mine)).status_code == 204
        assert (await look(door, session, theirs)).status_code == 404
        assert door.backend.executions == []


async def test_sessions_are_listed_newest_first_in_pages(door):
    opened = [(await open_one(door))["session_id"] for _ in range(5)]
    page = (await door.get("/sessions?limit=2")).json()
    listed = [each["session_id"] for each in page["sessions"]]
    while page["next"] is not None:
        page = (await door.get(f"/sessions?limit=2&cursor={page['next']}")).json()
        listed += [each["session_id"] for each in page["sessions"]]
    assert listed == opened[::-1]
    refused = await door.get("/sessions?cursor=3")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/query/cursor")


async def test_a_closed_session_is_gone_and_says_so(door):
    session = await open_one(door)
    assert (await close(door, session)).status_code == 204
    assert door.backend.sessions[0].destroyed
    answers = [
        await look(door, session),
        await close(door, session),
        await run_in(door, session, "print 1"),
        await door.client.post(f"/sessions/{session['session_id']}/interrupt", headers=BEARER),
    ]
    assert {(each.status_code, each.json()["code"]) for each in answers} == {(410, "session-ended")}
    assert "closed by its caller" in answers[0].json()["detail"]
    assert (await door.get("/sessions")).json()["sessions"] == []


async def test_closing_cancels_what_runs_and_refuses_what_waits(serve):
    async with serve() as door:
        session = await open_one(door)
        first = asyncio.ensure_future(run_in(door, session, "print a\nwait never"))
        await until_runs(door)
        second = asyncio.ensure_future(run_in(door, session, "print b"))
        while len(door.app.state.services.sessions._open[session["session_id"]]._runs) < 2:
            await asyncio.sleep(0)
        assert (await close(door, session)).status_code == 204
        ended = (await first).json()
        assert (ended["status"], ended["stdout"], ended["execution_count"]) == ("cancelled", "a\n", None)
        assert ended["session_expires_at"] is None
        refused = await second
        assert (refused.status_code, refused.json()["code"]) == (410, "session-ended")
        assert len(door.backend.executions) == 1


async def test_one_runs_at_a_time_and_the_next_waits_or_is_refused_as_it_asks(serve):
    async with serve() as door:
        session = await open_one(door)
        first = asyncio.ensure_future(run_in(door, session, "wait go\nset x 1"))
        await until_runs(door)
        refused = await run_in(door, session, "get x", if_busy="reject")
        assert (refused.status_code, refused.json()["code"]) == (409, "session-busy")
        assert refused.headers["retry-after"] == "1"
        waits = asyncio.ensure_future(run_in(door, session, "get x", if_busy="wait"))
        door.backend.event("go").set()
        assert (await first).json()["status"] == "succeeded"
        assert (await waits).json()["stdout"] == "1\n"


async def test_only_so_many_wait_for_one_session(door):
    session, other = await open_one(door), await open_one(door)
    for _ in range(1 + MOST_WAITING):
        assert (await run_in(door, session, "wait go", wait_seconds=0)).status_code == 202
    refused = await run_in(door, session, "print 1", wait_seconds=0)
    assert (refused.status_code, refused.json()["code"]) == (409, "session-busy")
    assert (await run_in(door, other, "print 1")).status_code == 200
    door.backend.event("go").set()
    while (await run_in(door, session, "print 1")).status_code == 409:
        pass
    assert len(door.backend.executions) == 3 + MOST_WAITING


async def test_a_background_cell_that_found_the_session_busy_was_refused(door):
    session = await open_one(door)
    first = (await run_in(door, session, "wait go", wait_seconds=0)).json()["execution_id"]
    await until_runs(door)
    refused = await run_in(door, session, "print 1", wait_seconds=30, if_busy="reject")
    assert (refused.status_code, refused.json()["code"]) == (409, "session-busy")
    statuses = {each["execution_id"]: each["status"] for each in (await door.get("/executions")).json()["executions"]}
    assert statuses.pop(first) == "running"
    assert list(statuses.values()) == ["refused"]
    door.backend.event("go").set()


async def test_an_interrupt_ends_what_runs_and_keeps_the_variables(serve):
    async with serve() as door:
        session = await open_one(door)
        path = f"/sessions/{session['session_id']}/interrupt"
        assert (await door.client.post(path, headers=BEARER)).json() == {"interrupted": False}
        call = asyncio.ensure_future(run_in(door, session, "set x 1\nwait never"))
        await until_runs(door)
        assert (await door.client.post(path, headers=BEARER)).json() == {"interrupted": True}
        ended = (await call).json()
        assert (ended["status"], ended["exit_code"], ended["interpreter_restarted"]) == ("failed", 130, False)
        assert ended["error"].startswith("Exit code 130; interrupted; the variables stay")
        assert (await run_in(door, session, "get x")).json()["stdout"] == "1\n"


async def test_a_session_that_nobody_uses_ends_and_one_that_is_used_lives_on(open_timed_door, clock):
    async with open_timed_door() as door:
        used, idle = await open_one(door), await open_one(door)
        clock.ahead = 800
        await run_in(door, used, "print 1")
        clock.ahead = 1000
        assert (await look(door, used)).status_code == 200
        gone = await look(door, idle)
        assert (gone.status_code, gone.json()["code"]) == (410, "session-ended")
        assert "it was not used for 900 s" in gone.json()["detail"]
        assert [each.destroyed for each in door.backend.sessions] == [False, True]


async def test_one_that_runs_is_never_ended_whatever_the_time(open_timed_door, clock):
    async with open_timed_door() as door:
        session = await open_one(door, ttl_seconds=60)
        started = await run_in(door, session, "set x 1\nwait go\nget x", wait_seconds=0)
        await until_runs(door)
        clock.ahead = 100_000
        await door.app.state.services.sessions.sweep()
        assert (await look(door, session)).status_code == 200
        door.backend.event("go").set()
        path = f"/executions/{started.json()['execution_id']}?wait_seconds=30"
        while (ended := (await door.get(path)).json())["status"] == "running":
            pass
        assert ended["status"] == "succeeded"
        await door.app.state.services.sessions.sweep()
        gone = await look(door, session)
        assert (gone.status_code, "its lifetime of 28800 s was over" in gone.json()["detail"]) == (410, True)


async def test_a_lifetime_is_not_prolonged_by_use(open_timed_door, clock):
    async with open_timed_door(session_lifetime_seconds=1000) as door:
        session = await open_one(door)
        clock.ahead = 600
        await run_in(door, session, "print 1")
        shown = (await look(door, session)).json()
        at = {name: datetime.fromisoformat(shown[name]) for name in ("created_at", "expires_at")}
        assert (at["expires_at"] - at["created_at"]).total_seconds() == 1000
        clock.ahead = 1001
        assert "its lifetime of 1000 s was over" in (await look(door, session)).json()["detail"]


async def test_a_session_that_was_lost_says_why(door):
    session = await open_one(door)
    door.backend.sessions[0].die("its processes used more memory than it may have")
    gone = await run_in(door, session, "print 1")
    assert (gone.status_code, "used more memory" in gone.json()["detail"]) == (410, True)
    while not door.backend.sessions[0].destroyed:
        await asyncio.sleep(0)


async def test_a_server_that_was_stopped_has_ended_its_sessions(open_door):
    async with open_door() as door:
        session = await open_one(door)
    async with open_door() as door:
        gone = await look(door, session)
        assert (gone.status_code, "the server was stopped" in gone.json()["detail"]) == (410, True)
        assert (await run_in(door, session, "print 1")).status_code == 410
        assert (await door.get("/sessions")).json()["sessions"] == []


async def test_after_a_server_was_killed_an_old_session_says_that_it_was_restarted(open_door, monkeypatch):
    async with open_door() as door:
        session, closed = await open_one(door), await open_one(door)
        await close(door, closed)
        monkeypatch.setattr(SessionRecords, "end", lambda *_: None)  # a server that is killed records nothing more
    monkeypatch.undo()
    details = []
    for _ in range(2):
        async with open_door() as door:
            gone = await look(door, session)
            assert (gone.status_code, gone.json()["code"]) == (410, "session-ended")
            details.append(gone.json()["detail"])
            assert "closed by its caller" in (await look(door, closed)).json()["detail"]
    assert "the server was restarted" in details[0]
    assert details[0] == details[1]  # when it ended does not move on with the next restart


async def test_a_caller_may_have_so_many_and_the_server_so_many(open_door):
    async with open_door(max_sessions_caller=2) as door:
        opened = [await open_one(door) for _ in range(2)]
        full = await door.client.post("/sessions", json={}, headers=BEARER)
        assert (full.status_code, full.json()["code"]) == (503, "sessions-full")
        assert "as many sessions of yours are open as this server allows: 2" in full.json()["detail"]
        assert "the next of yours ends in 900 s" in full.json()["detail"]
        assert full.headers["retry-after"] == "900"
        await close(door, opened[0])
        await open_one(door)
    async with open_door(max_sessions=1) as door:
        await open_one(door)
        full = await door.client.post("/sessions", json={}, headers=BEARER)
        assert (full.status_code, "this server allows: 1" in full.json()["detail"]) == (503, True)


async def test_a_server_may_have_no_sessions(open_door):
    async with open_door(max_sessions=0) as door:
        full = await door.client.post("/sessions", json={}, headers=BEARER)
        assert (full.status_code, full.json()["detail"]) == (503, "as many sessions are open as this server allows: 0")


async def test_a_result_and_files_that_are_too_much_together_leave_links_to_the_files(open_door):
    async with open_door(max_response=10_000) as door:
        session = await open_one(door)
        response = await run_in(door, session, f"write a.txt {'a' * 5000}\nresult {'r' * 6000}")
        assert len(response.text) <= 10_000
        [file] = response.json()["files"]
        assert (file["size"], "url" in file) == (5000, True)
        assert response.json()["result"] == {"text/plain": "r" * 6000}


async def test_memory_limits_together_are_bounded_and_what_is_free_is_said(open_door):
    async with open_door(sessions_memory=2**28) as door:
        first = await open_one(door)  # above the room, but the only one
        full = await door.client.post("/sessions", json={"limits": {"memory_bytes": 2**24}}, headers=BEARER)
        assert (full.status_code, full.json()["code"]) == (503, "sessions-full")
        assert "16 MiB" in full.json()["detail"]
        assert "0 bytes are free" in full.json()["detail"]
        await close(door, first)
        for _ in range(2):
            await open_one(door, limits={"memory_bytes": 2**27})
        assert (await door.client.post("/sessions", json={}, headers=BEARER)).status_code == 503


async def test_a_session_that_could_not_be_opened_takes_no_room(open_door):
    async with open_door(max_sessions=1) as door:
        door.backend.arms_that_fail = 1
        refused = await door.client.post("/sessions", json={}, headers=BEARER)
        assert (refused.status_code, refused.json()["code"]) == (503, "sandbox-unavailable")
        await open_one(door)


async def test_an_expired_session_makes_room_for_another(open_timed_door, clock):
    async with open_timed_door(max_sessions=1) as door:
        await open_one(door)
        clock.ahead = 1000
        await open_one(door)


@pytest.mark.parametrize(
    ("sent", "status", "pointer"),
    [
        ({"languages": ["pyton"]}, 400, "/languages/0"),
        ({"languages": ["python", 1]}, 422, "/languages/1"),
        ({"languages": []}, 422, "/languages"),
        ({"workspace": "notes"}, 422, "/workspace"),
        ({"workspace": None}, 422, "/workspace"),
        ({"ttl_seconds": 0}, 422, "/ttl_seconds"),
        ({"ttl_seconds": 3601}, 422, "/ttl_seconds"),
        ({"limits": {"memory_bytes": 2**40}}, 422, "/limits/memory_bytes"),
        ({"files": [{"path": "../x", "content": ""}]}, 422, "/files/0/path"),
        ({"files": [{"path": "x", "file_id": "fil_none"}]}, 422, "/files/0/file_id"),
        ({"language": "python"}, 422, "/language"),
    ],
    ids=str,
)
async def test_a_session_that_cannot_be_is_refused_with_the_place(door, sent, status, pointer):
    response = await door.client.post("/sessions", json=sent, headers=BEARER)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (status, pointer)
    assert door.backend.sessions == []


async def test_files_of_the_request_are_in_the_workspace(door):
    uploaded = await door.client.post("/files?name=b.txt", content=b"from an upload", headers=BEARER)
    files = [{"path": "a.txt", "content": "sent"}, {"path": "b.txt", "file_id": uploaded.json()["file_id"]}]
    session = await open_one(door, files=files)
    assert (await run_in(door, session, "cat a.txt\ncat b.txt")).json()["stdout"] == "sentfrom an upload"
    of_a_program = [{"path": "main.python", "content": "no cell is written there"}]
    assert "no cell" in (await run_in(door, session, "cat main.python", files=of_a_program)).json()["stdout"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"terminal": {}}, "/terminal"),
        ({"merge_streams": True}, "/merge_streams"),
        ({"language": "bash"}, "/language"),
        ({"session": "ses_other"}, "/session"),
        ({"limits": {"cpu_seconds": 3}}, "/limits/cpu_seconds"),
        ({"limits": {"memory_bytes": 2**25}}, "/limits/memory_bytes"),
        ({"limits": {"processes": 5}}, "/limits/processes"),
        ({"limits": {"file_bytes": 5}}, "/limits/file_bytes"),
    ],
    ids=str,
)
async def test_what_a_session_cannot_do_is_refused_with_the_place(door, fields, pointer):
    session = await open_one(door, languages=["py"], limits={"cpu_seconds": 2, "memory_bytes": 2**26})
    assert list(session["languages"]) == ["python"]
    response = await run_in(door, session, "print 1", **fields)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    assert door.backend.executions == []
    await run_in(door, session, "print 1", limits={"cpu_seconds": 1, "memory_bytes": 2**26})
    limits = door.backend.executions[0].limits
    assert (limits.cpu_seconds, limits.memory_bytes) == (1, 2**26)


async def test_an_id_that_is_none_and_if_busy_without_a_session_are_refused(door):
    for session in ("", "ses_none"):
        response = await door.execute("print 1", session=session)
        assert (response.status_code, response.json()["code"]) == (404, "unknown-session")
    response = await door.execute("print 1", if_busy="wait")
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/if_busy")
    assert door.backend.executions == []


async def test_a_repeated_opening_gets_the_same_session(door):
    key = BEARER | {"Idempotency-Key": "open-1"}
    first = await door.client.post("/sessions", json={"ttl_seconds": 60}, headers=key)
    again = await door.client.post("/sessions", json={"ttl_seconds": 60}, headers=key)
    assert (again.status_code, again.text, again.headers["idempotency-replayed"]) == (201, first.text, "true")
    assert again.headers["location"] == first.headers["location"] == f"/sessions/{first.json()['session_id']}"
    other = await door.client.post("/sessions", json={}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")
    assert len(door.backend.sessions) == 1


async def test_a_refused_opening_uses_no_key(open_door):
    async with open_door(max_sessions=1) as door:
        key = BEARER | {"Idempotency-Key": "open-1"}
        open_already = await open_one(door)
        assert (await door.client.post("/sessions", json={}, headers=key)).status_code == 503
        await close(door, open_already)
        assert (await door.client.post("/sessions", json={}, headers=key)).status_code == 201


async def test_a_key_that_was_used_in_one_session_is_not_for_another(door):
    one, two = await open_one(door), await open_one(door)
    key = {"Idempotency-Key": "order-1"}
    first = await run_in(door, one, "print 1", headers=key)
    again = await run_in(door, one, "print 1", headers=key)
    assert (again.text, again.headers["idempotency-replayed"]) == (first.text, "true")
    other = await run_in(door, two, "print 1", headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")
    assert len(door.backend.executions) == 1


async def test_a_cell_that_took_too_long_says_what_became_of_its_interpreter(door):
    session = await open_one(door)
    ended = (await run_in(door, session, "hang", timeout=2)).json()
    assert (ended["status"], ended["interpreter_restarted"]) == ("timed_out", True)
    assert ended["error"] == (
        "Timed out after 2 s; the interpreter did not stop, so it was replaced: variables are gone, files stay"
    )


async def test_for_a_model_the_result_is_a_text_and_what_is_not_there_is_left_out(door):
    session = await open_one(door)
    sent = {"code": "result 42", "session": session["session_id"]}
    lean = (await door.client.post("/actions/execute", json=sent, headers=BEARER)).json()
    assert lean["result"] == "42"
    assert "result" not in (await door.client.post("/actions/execute", json={"code": "print 1"}, headers=BEARER)).json()
