"""Programs that outlive their call: started with ``wait_seconds``, then followed, listed and cancelled by their ids."""

import asyncio
import json

import pytest

from codex_server.errors import StoreUnusable
from codex_server.service import pending_outcomes
from codex_server.service.executions import Executions
from codex_server.service.outcomes import Outcomes
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio
BIG = "print " + "x" * 900


async def start(door, code, *, wait=0, **fields):
    response = await door.execute(code, wait_seconds=wait, **fields)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/executions/{response.json()['execution_id']}"
    return response.json()


async def poll(door, execution_id, *, since=0, wait=0.0):
    response = await door.get(f"/executions/{execution_id}?since={since}&wait_seconds={wait}")
    assert response.status_code == 200, response.text
    return response.json()


async def end_of(door, execution_id, since=0):
    """The state once it has ended, and the output that was new on the way."""
    output = ""
    while True:
        state = await poll(door, execution_id, since=since, wait=30)
        output += state["stdout"]
        since = state["next"]
        if state["status"] not in ("queued", "running"):
            return state, output


async def test_a_response_comes_at_once_and_the_program_goes_on(door):
    started = await start(door, "print a\nwait go\nprint b\nexit 3")
    assert started.keys() == {"execution_id", "status", "stdout", "stderr", "next"}
    seen = await poll(door, started["execution_id"], wait=30)
    if not seen["stdout"]:
        seen = await poll(door, started["execution_id"], since=seen["next"], wait=30)
    assert (seen["status"], seen["stdout"]) == ("running", "a\n")
    door.backend.event("go").set()
    ended, output = await end_of(door, started["execution_id"], seen["next"])
    assert (ended["status"], ended["exit_code"], output) == ("failed", 3, "b\n")
    plain = (await door.execute("print a\nprint b\nexit 3")).json()
    assert ended.keys() == plain.keys() | {"next"}


async def test_each_piece_of_output_comes_once_for_each_cursor(door):
    started = await start(door, "print a\nerror b\nwait go\nprint c")
    first = await poll(door, started["execution_id"], since=0, wait=30)
    while not first["stderr"]:
        first = await poll(door, started["execution_id"], since=0)
    assert (first["stdout"], first["stderr"]) == ("a\n", "b\n")
    assert await poll(door, started["execution_id"], since=0) == first
    nothing = await poll(door, started["execution_id"], since=first["next"])
    assert (nothing["stdout"], nothing["stderr"], nothing["next"]) == ("", "", first["next"])
    door.backend.event("go").set()
    ended, output = await end_of(door, started["execution_id"], first["next"])
    assert output == "c\n"
    assert (await poll(door, started["execution_id"], since=ended["next"]))["stdout"] == ""
    assert (await poll(door, started["execution_id"]))["stdout"] == "a\nc\n"


async def test_one_that_ends_within_the_wait_is_a_plain_response_and_is_kept(door):
    response = await door.execute("print a", wait_seconds=30)
    plain = (await door.execute("print a")).json()
    assert (response.status_code, response.json().keys()) == (200, plain.keys())
    kept = await poll(door, response.json()["execution_id"])
    assert {key: value for key, value in kept.items() if key != "next"} == response.json()


async def test_leaving_does_not_cancel(serve):
    async with serve() as door:
        call = asyncio.ensure_future(door.execute("wait go\nprint done", wait_seconds=60))
        while not door.backend.executions:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        door.backend.event("go").set()
        ended, output = await end_of(door, door.backend.executions[0].id)
    assert (ended["status"], output) == ("succeeded", "done\n")


async def test_what_is_refused_at_once_is_a_plain_problem(open_door):
    async with open_door(max_concurrency=1, queue_length=0) as door:
        await start(door, "wait go")
        refused = await door.execute("print a", wait_seconds=0)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        for fields, pointer in (({"wait_seconds": -1}, "/wait_seconds"), ({"wait_seconds": 601}, "/wait_seconds")):
            response = await door.execute("print a", **fields)
            assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
        door.backend.event("go").set()


async def test_one_whose_patience_in_the_queue_ended_was_refused(open_door):
    async with open_door(max_concurrency=1, queue_seconds=0.05) as door:
        first = await start(door, "wait go")
        second = await start(door, "print a")
        ended, _ = await end_of(door, second["execution_id"])
        assert (ended["status"], ended["problem"]["code"]) == ("refused", "busy")
        assert ended["problem"]["type"].endswith("#busy")
        door.backend.event("go").set()
        await end_of(door, first["execution_id"])


async def test_one_waits_in_the_queue_until_it_has_a_place(open_door):
    async with open_door(max_concurrency=1) as door:
        first = await start(door, "wait go")
        second = await start(door, "print a")
        assert (await poll(door, second["execution_id"]))["status"] == "queued"
        door.backend.event("go").set()
        ended, output = await end_of(door, second["execution_id"])
        assert (ended["status"], output) == ("succeeded", "a\n")
        await end_of(door, first["execution_id"])


async def test_delete_kills_the_program_and_reports_what_became_of_it(door):
    started = await start(door, "print a\nwait never")
    while not (await poll(door, started["execution_id"]))["stdout"]:
        await asyncio.sleep(0)
    response = await door.client.delete(f"/executions/{started['execution_id']}", headers=BEARER)
    ended = response.json()
    assert (response.status_code, ended["status"], ended["stdout"]) == (200, "cancelled", "a\n")
    again = await door.client.delete(f"/executions/{started['execution_id']}", headers=BEARER)
    assert again.json() == ended


async def test_delete_takes_one_out_of_the_queue(open_door):
    async with open_door(max_concurrency=1) as door:
        first = await start(door, "wait go")
        second = await start(door, "print a")
        response = await door.client.delete(f"/executions/{second['execution_id']}", headers=BEARER)
        assert response.json()["status"] == "cancelled"
        door.backend.event("go").set()
        await end_of(door, first["execution_id"])
        assert len(door.backend.executions) == 1


async def test_another_callers_execution_is_unknown(open_door, tmp_path):
    from codex_server.access.tokens import TokenStore

    tokens = TokenStore(tmp_path / "state")
    mine, theirs = (tokens.create(name)[0] for name in ("mine", "theirs"))
    async with open_door(api_token=None) as door:
        mine, theirs = ({"Authorization": f"Bearer {token}"} for token in (mine, theirs))
        sent = {"code": "wait go", "wait_seconds": 0}
        started = (await door.client.post("/execute", json=sent, headers=mine)).json()
        path = f"/executions/{started['execution_id']}"
        for method in ("GET", "DELETE"):
            response = await door.client.request(method, path, headers=theirs)
            assert (response.status_code, response.json()["code"]) == (404, "unknown-execution")
        assert (await door.client.get("/executions", headers=theirs)).json()["executions"] == []
        assert (await door.client.get(path, headers=mine)).json()["status"] in ("queued", "running")
        door.backend.event("go").set()


async def test_an_unknown_id_is_a_problem(door):
    response = await door.get("/executions/exe_none")
    assert (response.status_code, response.json()["code"]) == (404, "unknown-execution")
    assert (await door.get("/executions/exe_none?since=-1")).status_code == 422
    assert (await door.get("/executions/exe_none?wait_seconds=61")).status_code == 422


async def test_the_outcome_of_a_call_that_waited_is_not_kept(door):
    answer = (await door.execute("print a")).json()
    response = await door.get(f"/executions/{answer['execution_id']}")
    assert (response.status_code, response.json()["code"]) == (410, "outcome-gone")


async def test_executions_are_listed_newest_first_in_pages(door):
    ids = [(await door.execute(f"print {number}")).json()["execution_id"] for number in range(5)]
    running = await start(door, "wait go")
    page = (await door.get("/executions?limit=3")).json()
    listed = [entry["execution_id"] for entry in page["executions"]]
    assert listed[0] == running["execution_id"]
    assert not page["next"].isdecimal(), "it would count what others run"
    for wrong in ("3", "x", "%00", "é"):
        refused = await door.get(f"/executions?cursor={wrong}")
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/query/cursor")
    while page["next"] is not None:
        page = (await door.get(f"/executions?limit=3&cursor={page['next']}")).json()
        listed += [entry["execution_id"] for entry in page["executions"]]
    assert listed == [running["execution_id"], *reversed(ids)]
    door.backend.event("go").set()


async def test_an_entry_says_who_ran_what_and_how_it_went(door):
    agent = {"User-Agent": "tester/1", "X-Request-ID": "asked-1"}
    answer = (await door.execute("print a\nexit 4", headers=agent)).json()
    [entry] = (await door.get("/executions")).json()["executions"]
    assert (entry["execution_id"], entry["status"], entry["exit_code"]) == (answer["execution_id"], "failed", 4)
    assert (entry["user_agent"], entry["request_id"], entry["language"]) == ("tester/1", "asked-1", "python")
    assert (entry["stdout_bytes"], entry["stderr_bytes"], entry["code_bytes"]) == (2, 0, 14)
    assert (entry["code"], entry["stdout"], entry["background"]) == (None, None, False)


async def test_code_and_output_are_in_the_history_only_where_the_operator_wants_it(open_door):
    async with open_door(history_code=True) as door:
        await door.execute("print a")
        [entry] = (await door.get("/executions")).json()["executions"]
    assert (entry["code"], entry["stdout"], entry["stderr"]) == ("print a", "a\n", "")


async def test_an_outcome_survives_a_restart(open_door):
    async with open_door() as door:
        started = await start(door, "print a\nwait go\nprint b")
        seen = await poll(door, started["execution_id"], wait=30)
        door.backend.event("go").set()
        before, _ = await end_of(door, started["execution_id"])
    async with open_door() as door:
        after = await poll(door, started["execution_id"])
        assert after == await poll(door, started["execution_id"])
        assert (after["status"], after["stdout"]) == ("succeeded", "a\nb\n")
        assert after["usage"] == before["usage"]
        newer = await poll(door, started["execution_id"], since=seen["next"])
        assert seen["stdout"] + newer["stdout"] == "a\nb\n"


async def test_what_a_stopping_server_had_to_kill_is_kept_as_cancelled(open_door):
    async with open_door(drain_seconds=0) as door:
        started = await start(door, "print a\nwait never")
        while not (await poll(door, started["execution_id"]))["stdout"]:
            await asyncio.sleep(0)
    async with open_door() as door:
        after = await poll(door, started["execution_id"])
    assert (after["status"], after["stdout"]) == ("cancelled", "a\n")


async def test_an_execution_that_was_killed_with_its_server_is_lost_and_not_run_again(open_door, tmp_path, monkeypatch):
    async def no_close(self):
        """A server that is killed stores nothing more."""

    async with open_door(drain_seconds=0) as door:
        monkeypatch.setattr(Executions, "close", no_close)
        monkeypatch.setattr(Executions, "_end", lambda self, run: None)
        started = await start(door, "wait never")
    monkeypatch.undo()
    async with open_door() as door:
        after = await poll(door, started["execution_id"])
        assert (after["status"], after["problem"]["code"]) == ("lost", "execution-lost")
        [entry] = (await door.get("/executions")).json()["executions"]
        assert (entry["execution_id"], entry["status"]) == (started["execution_id"], "lost")
        assert door.backend.executions == []


async def test_a_sandbox_that_is_lost_is_a_lost_execution(door):
    started = await start(door, "print a\nwait go\ndie")
    door.backend.event("go").set()
    ended, output = await end_of(door, started["execution_id"])
    assert (ended["status"], ended["problem"]["code"], output) == ("lost", "sandbox-fault", "a\n")


async def test_in_the_background_a_program_may_have_more_time(open_door):
    async with open_door(max_background_timeout=900) as door:
        refused = (await door.execute("print a", timeout=800)).json()
        assert "`wait_seconds`" in refused["errors"][0]["detail"]
        assert (await door.execute("print a", timeout=800, wait_seconds=30)).json()["stdout"] == "a\n"
        assert (await door.execute("print a", timeout=901, wait_seconds=30)).status_code == 422
        assert door.backend.executions[-1].limits.cpu_seconds == 900


async def test_a_repeated_request_gets_the_same_execution(door):
    key = {"Idempotency-Key": "one"}
    first = await door.execute("wait go", wait_seconds=0, headers=key)
    again = await door.execute("wait go", wait_seconds=0, headers=key)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.headers["location"] == first.headers["location"]
    assert len(door.backend.executions) == 1
    door.backend.event("go").set()


@pytest.mark.parametrize("path", ["/execute/stream", "/actions/execute"])
async def test_a_call_that_waits_for_the_end_runs_nothing_in_the_background(door, path):
    response = await door.client.post(path, json={"code": "print a", "wait_seconds": 0}, headers=BEARER)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/wait_seconds")
    assert door.backend.executions == []


async def test_a_batch_item_runs_nothing_in_the_background(door):
    sent = {"items": [{"code": "print a", "wait_seconds": 0}]}
    [item] = (await door.client.post("/execute/batch", json=sent, headers=BEARER)).json()["items"]
    assert item["problem"]["code"] == "invalid-request"


async def test_a_long_output_comes_in_pieces_of_bounded_size(open_door):
    async with open_door(max_response=10_000) as door:
        started = await start(door, "\n".join([BIG] * 30 + ["wait go"]))
        total, since = "", 0
        while total.count("\n") < 30:
            response = await door.get(f"/executions/{started['execution_id']}?since={since}&wait_seconds=30")
            assert len(response.text) <= 10_000
            total, since = total + response.json()["stdout"], response.json()["next"]
        door.backend.event("go").set()
        await end_of(door, started["execution_id"], since)
        whole = await door.get(f"/executions/{started['execution_id']}")
        assert len(whole.text) <= 10_020
        assert json.loads(whole.text)["truncated"]["stdout"]


async def test_the_last_poll_of_one_that_was_followed_is_not_truncated_though_the_whole_would_be(open_door):
    async with open_door(max_output=12_000) as door:
        started = await start(door, "\n".join(["print " + "x" * 900] * 20 + ["wait go", "print end"]))
        seen, since = 0, 0
        while seen < 20:
            state = await poll(door, started["execution_id"], since=since, wait=30)
            seen, since = seen + state["stdout"].count("\n"), state["next"]
        door.backend.event("go").set()
        ended, output = await end_of(door, started["execution_id"], since)
        assert (output, ended["truncated"]) == ("end\n", {"stdout": False, "stderr": False})
        assert (await poll(door, started["execution_id"]))["truncated"] == {"stdout": True, "stderr": False}


async def feed(door, execution_id, **fields):
    return await door.client.post(f"/executions/{execution_id}/input", json=fields, headers=BEARER)


async def test_three_questions_are_answered_one_by_one_by_polling(door):
    started = await start(door, "read\nread\nread\nstdin\nprint end", keep_stdin_open=True, stdin="known\n")
    seen, since = "", 0
    for number, sent in enumerate(({"text": "ä\n"}, {"base64": "dGhyZWUK"}, {"text": "rest"})):
        while seen.count("\n") <= number:
            state = await poll(door, started["execution_id"], since=since, wait=30)
            seen, since = seen + state["stdout"], state["next"]
        assert (await feed(door, started["execution_id"], **sent)).status_code == 204
    assert seen == "known\nä\nthree\n"
    assert (await feed(door, started["execution_id"], eof=True)).status_code == 204
    ended, output = await end_of(door, started["execution_id"], since)
    assert (ended["status"], output) == ("succeeded", "restend\n")


async def test_a_stream_can_be_fed_too(serve):
    async with serve() as door:
        sent = {"code": "read\nprint end", "keep_stdin_open": True}
        stream = door.client.stream(
            "POST", "/execute/stream", json=sent, headers=BEARER | {"Accept": "application/x-ndjson"}
        )
        async with stream as response:
            events = response.aiter_lines()
            started = json.loads(await anext(events))
            assert (await feed(door, started["execution_id"], text="hello\n")).status_code == 204
            texts = [json.loads(line).get("text") async for line in events]
    assert texts[:2] == ["hello\n", "end\n"]


@pytest.mark.parametrize(
    "sent",
    [{}, {"text": "a", "eof": True}, {"eof": False}, {"text": 1}, {"base64": "?"}, {"txt": "a"}, {"text": None}],
    ids=str,
)
async def test_input_that_is_none_is_refused_with_what_to_send(door, sent):
    started = await start(door, "stdin", keep_stdin_open=True)
    response = await feed(door, started["execution_id"], **sent)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert (await feed(door, started["execution_id"], eof=True)).status_code == 204
    await end_of(door, started["execution_id"])


async def test_input_to_one_that_takes_none_is_a_conflict(door):
    started = await start(door, "wait go")
    refused = await feed(door, started["execution_id"], text="a")
    assert (refused.status_code, refused.json()["code"]) == (409, "input-refused")
    assert "keep_stdin_open" in refused.json()["detail"]
    door.backend.event("go").set()
    await end_of(door, started["execution_id"])
    ended = await feed(door, started["execution_id"], text="a")
    assert (ended.status_code, ended.json()["code"]) == (409, "input-refused")
    assert (await feed(door, "exe_none", text="a")).status_code == 404
    closed = await start(door, "read\nwait go", keep_stdin_open=True)
    await feed(door, closed["execution_id"], eof=True)
    assert (await feed(door, closed["execution_id"], text="a")).status_code == 409


async def test_a_poll_that_comes_late_loses_nothing_of_many_small_lines(door):
    lines = [f"print {number}" for number in range(1500)]
    started = await start(door, "\n".join([*lines, "wait go"]))
    seen, since = "", 0
    while seen.count("\n") < 1500:
        state = await poll(door, started["execution_id"], since=since, wait=30)
        seen, since = seen + state["stdout"], state["next"]
    assert seen == "".join(f"{number}\n" for number in range(1500))
    door.backend.event("go").set()


async def test_delete_of_a_call_that_waits_reports_what_became_of_it(serve):
    async with serve() as door:
        call = asyncio.ensure_future(door.execute("print a\nwait never"))
        while not door.backend.executions:
            await asyncio.sleep(0)
        deleted = await door.client.delete(f"/executions/{door.backend.executions[0].id}", headers=BEARER)
        answer = await call
    assert (deleted.status_code, deleted.json()["status"], deleted.json()["exit_code"]) == (200, "cancelled", 137)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


async def test_a_program_whose_history_cannot_be_written_is_not_run_on(door, monkeypatch):
    async def refuse(self, run):
        raise StoreUnusable("the disk is full")

    monkeypatch.setattr(Executions, "keep", refuse)
    response = await door.execute("wait never", wait_seconds=0)
    assert response.status_code == 500
    assert (await door.get("/readyz")).json()["running"] == 0


async def test_a_poll_says_that_its_outcome_cannot_be_stored_and_later_that_it_could_not(open_door, monkeypatch):
    async def refuse(self, execution_id, owner, outcome):
        raise StoreUnusable("database or disk is full")

    monkeypatch.setattr(Outcomes, "put", refuse)
    async with open_door() as door:
        ended = (await door.execute("print a", wait_seconds=20)).json()
        while not ended["error"]:
            ended = await poll(door, ended["execution_id"])
        assert (ended["status"], ended["stdout"]) == ("succeeded", "a\n")
        assert "cannot be stored at the moment" in ended["error"]
        monkeypatch.setattr(pending_outcomes, "_TRY_AGAIN_SECONDS", 0.0)
        started = await start(door, "wait go")
        door.backend.event("go").set()
        address = f"/executions/{started['execution_id']}"
        while (gone := await door.get(address)).status_code == 200:
            await asyncio.sleep(0)
        assert (gone.status_code, gone.json()["code"]) == (410, "outcome-gone")
        assert "its outcome could not be stored" in gone.json()["detail"]


async def test_a_program_whose_outcome_would_have_no_room_is_not_run(door, monkeypatch):
    monkeypatch.setattr(pending_outcomes, "MOST", 0)
    refused = await door.execute("print a", wait_seconds=0)
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "busy", "10")
    assert door.backend.executions == []
    assert (await door.execute("print a")).status_code == 200


async def test_an_address_that_several_routes_share_names_all_its_methods(door):
    allowed = [(await door.client.options(path)).headers["allow"] for path in ("/executions/exe_1", "/files")]
    assert allowed == ["DELETE, GET, HEAD, OPTIONS", "GET, HEAD, OPTIONS, POST"]


async def test_input_that_can_never_fit_says_so(door):
    started = await start(door, "wait go", keep_stdin_open=True)
    refused = await feed(door, started["execution_id"], text="x" * (2**20 + 1))
    assert (refused.status_code, "at most 1048576 at once" in refused.json()["detail"]) == (409, True)
    door.backend.event("go").set()


async def test_a_call_that_waited_when_its_server_was_killed_is_lost_too(serve, monkeypatch):
    async with serve(drain_seconds=0) as door:
        monkeypatch.setattr(Executions, "_end", lambda self, run: None)
        call = asyncio.ensure_future(door.execute("wait never"))
        while not (await door.get("/executions")).json()["executions"]:
            await asyncio.sleep(0)  # a listing writes what waits
    await asyncio.gather(call, return_exceptions=True)
    monkeypatch.undo()
    async with serve() as door:
        [entry] = (await door.get("/executions")).json()["executions"]
        found = (await door.get(f"/executions/{entry['execution_id']}")).json()
    assert (entry["status"], found["status"], found["problem"]["code"]) == ("lost", "lost", "execution-lost")
