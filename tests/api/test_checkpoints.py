"""Checkpoints: files of a session that are kept, and that a new session begins with."""

import asyncio

import pytest

from codex_server.access.tokens import TokenStore
from codex_server.sandboxes.testing.fake_session import FakeSession
from codex_server.service import kept_files
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio


async def open_one(door, *, headers=BEARER, **fields):
    response = await door.client.post("/sessions", json=fields, headers=headers)
    assert response.status_code == 201, response.text
    return f"/sessions/{response.json()['session_id']}"


async def keep(door, session, *, headers=BEARER, **fields):
    return await door.client.post(f"{session}/checkpoints", json=fields, headers=headers)


async def output(door, session, code):
    response = await door.client.post(f"{session}/execute", json={"code": code}, headers=BEARER)
    return response.json()["stdout"]


@pytest.fixture
def reply(monkeypatch):
    """Has the guest of every session reply so to an operation on its files."""

    def set_reply(**replies):
        whole = FakeSession.operate

        async def operate(self, request, content, sink):
            if (made := replies.get(request["operation"])) is None:
                return await whole(self, request, content, sink)
            return made(request, sink) if callable(made) else made

        monkeypatch.setattr(FakeSession, "operate", operate)

    return set_reply


async def test_a_new_session_begins_with_the_files_that_were_kept_also_after_a_restart(open_door):
    async with open_door() as door:
        session = await open_one(door)
        await output(door, session, "write a.csv 1,2\nwrite src/b.py code\nwrite c.txt no\nset x 1")
        made = await keep(door, session, description="two of them", globs=["*.csv", "src/**"])
        assert (made.status_code, made.headers["location"]) == (201, f"/checkpoints/{made.json()['checkpoint_id']}")
        body = made.json()
        assert body.keys() == {"checkpoint_id", "description", "created_at", "files", "expires_at"}
        assert body["description"] == "two of them"
        assert body["files"] == [{"path": "a.csv", "size": 3}, {"path": "src/b.py", "size": 4}]
        await output(door, session, "write a.csv changed")
    async with open_door() as door:
        assert (await door.get(made.headers["location"])).json() == body
        sent = [{"path": "src/b.py", "content": "newer"}, {"path": "d.txt", "content": "sent"}]
        session = await open_one(door, checkpoint=body["checkpoint_id"], files=sent)
        assert await output(door, session, "cat a.csv\ncat src/b.py\ncat d.txt") == "1,2newersent"
        assert await output(door, session, "cat c.txt") == ""
        assert await output(door, session, "get x") == ""


async def test_by_default_every_file_is_kept(door):
    session = await open_one(door, files=[{"path": f"{name}.txt", "content": name} for name in "ba"])
    assert [file["path"] for file in (await keep(door, session)).json()["files"]] == ["a.txt", "b.txt"]


async def test_checkpoints_are_listed_in_pages_and_removed(door):
    session = await open_one(door, files=[{"path": "a", "content": "1"}])
    made = [(await keep(door, session, description=str(number))).json() for number in range(3)]
    first = (await door.get("/checkpoints?limit=2")).json()
    second = (await door.get(f"/checkpoints?limit=2&cursor={first['next']}")).json()
    assert first["checkpoints"] + second["checkpoints"] == made[::-1]
    assert second["next"] is None
    path = f"/checkpoints/{made[0]['checkpoint_id']}"
    assert (await door.client.delete(path, headers=BEARER)).status_code == 204
    answers = [await door.get(path), await door.client.delete(path, headers=BEARER)]
    answers.append(await door.client.post("/sessions", json={"checkpoint": made[0]["checkpoint_id"]}, headers=BEARER))
    assert {(each.status_code, each.json()["code"]) for each in answers} == {(404, "unknown-checkpoint")}
    assert len((await door.get("/checkpoints")).json()["checkpoints"]) == 2


async def test_a_checkpoint_of_another_caller_is_unknown(open_door, tmp_path):
    tokens = TokenStore(tmp_path / "state")
    mine, theirs = ({"Authorization": f"Bearer {tokens.create(name)[0]}"} for name in ("mine", "theirs"))
    async with open_door(api_token=None) as door:
        session = await open_one(door, headers=mine, files=[{"path": "a", "content": "1"}])
        made = (await keep(door, session, headers=mine)).json()["checkpoint_id"]
        answers = [
            await door.client.get(f"/checkpoints/{made}", headers=theirs),
            await door.client.delete(f"/checkpoints/{made}", headers=theirs),
            await door.client.post("/sessions", json={"checkpoint": made}, headers=theirs),
        ]
        assert {(each.status_code, each.json()["code"]) for each in answers} == {(404, "unknown-checkpoint")}
        assert (await keep(door, session, headers=theirs)).status_code == 404
        assert (await door.client.get("/checkpoints", headers=theirs)).json()["checkpoints"] == []
        assert (await door.client.get(f"/checkpoints/{made}", headers=mine)).status_code == 200
        upload = await door.client.post("/files?name=a", content=b"1", headers=mine)
        assert (await door.client.get(f"/checkpoints/{upload.json()['file_id']}", headers=mine)).status_code == 404


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        ({"globs": ["*.none"]}, "/globs"),
        ({"globs": []}, "/globs"),
        ({"globs": [""]}, "/globs/0"),
        ({"description": "x" * 1001}, "/description"),
        ({"glob": "*"}, "/glob"),
    ],
    ids=str,
)
async def test_a_checkpoint_that_cannot_be_is_refused_with_the_place(door, sent, pointer):
    session = await open_one(door, files=[{"path": "a", "content": "1"}])
    response = await keep(door, session, **sent)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await door.get("/checkpoints")).json()["checkpoints"] == []


async def test_a_checkpoint_holds_as_much_as_a_workspace_and_counts_against_what_is_kept(open_door):
    async with open_door(max_workspace=2**20, max_artifacts_caller=2**20) as door:
        session = await open_one(door, files=[{"path": "a", "content": "x" * 700_000}])
        assert (await keep(door, session)).status_code == 201
        full = await keep(door, session)
        assert (full.status_code, full.json()["code"]) == (507, "storage-full")
        door.backend.sessions[0].files["b"] = b"x" * 700_000
        refused = await keep(door, session)
        assert (refused.status_code, "a checkpoint holds 1000 and 1 MiB" in refused.json()["detail"]) == (422, True)


async def test_files_that_clash_with_those_of_the_checkpoint_are_refused(door):
    session = await open_one(door, files=[{"path": "a", "content": "1"}])
    made = (await keep(door, session)).json()["checkpoint_id"]
    sent = {"checkpoint": made, "files": [{"path": "a/b", "content": "1"}]}
    response = await door.client.post("/sessions", json=sent, headers=BEARER)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/checkpoint")


async def test_a_checkpoint_is_kept_for_its_own_time(open_door, monkeypatch):
    async with open_door(artifact_seconds=60, checkpoint_seconds=3600) as door:
        session = await open_one(door, files=[{"path": "a", "content": "1"}])
        made = (await keep(door, session)).json()["checkpoint_id"]
        files = door.app.state.services.checkpoints._files
        now = kept_files.since_epoch()
        for ahead, status in ((600, 200), (3700, 404)):
            monkeypatch.setattr(files, "_clock", lambda ahead=ahead: now + ahead)
            await files.sweep()
            assert (await door.get(f"/checkpoints/{made}")).status_code == status


def entries(*found):
    return {"ok": {"entries": list(found), "next": None}}


FILE = {"path": "a", "type": "file", "size": 1}


@pytest.mark.parametrize(
    ("replies", "status", "code"),
    [
        ({"tree": {}}, 500, "sandbox-fault"),
        ({"tree": {"ok": {"entries": "a"}}}, 500, "sandbox-fault"),
        ({"tree": entries("a")}, 500, "sandbox-fault"),
        ({"tree": entries({"type": "file", "path": 1})}, 500, "sandbox-fault"),
        ({"tree": entries(FILE | {"path": "../../etc/passwd"})}, 422, "invalid-request"),
        ({"tree": entries(FILE | {"path": "/etc/passwd"})}, 422, "invalid-request"),
        ({"tree": {"error": {"code": "odd", "detail": "it went wrong \ud800" + "x" * 1000}}}, 422, "invalid-request"),
        ({"tree": entries(FILE | {"size": 2**60})}, 422, "invalid-request"),
        ({"tree": entries(*[FILE | {"path": f"a{number}"} for number in range(1001)])}, 422, "invalid-request"),
        ({"tree": entries(FILE), "read": {"error": {"code": "denied", "detail": "no"}}}, 422, "invalid-request"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_whatever_the_guest_replies_nothing_of_it_is_believed(door, reply, replies, status, code):
    session = await open_one(door, files=[{"path": "a", "content": "1"}])
    reply(**replies)
    response = await keep(door, session)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert len(response.json()["detail"]) < 1000


async def test_a_file_that_grows_while_it_is_read_is_not_kept(open_door, reply):
    async with open_door(max_workspace=2**20) as door:
        session = await open_one(door, files=[{"path": "a", "content": "1"}])
        taken = []

        def read(request, sink):
            while sink(b"x" * 2**16):
                taken.append(1)
            return {"ok": {}}

        reply(read=read)
        response = await keep(door, session)
        assert (response.status_code, len(taken)) == (422, 16)


async def test_a_file_that_is_gone_when_it_is_read_is_left_out(door, reply):
    session = await open_one(door, files=[{"path": name, "content": "1"} for name in "ab"])

    def read(request, sink):
        if request["path"] == "a":
            return {"error": {"code": "not-found", "detail": "gone"}}
        sink(b"1")
        return {"ok": {"size": 1}}

    reply(read=read)
    assert (await keep(door, session)).json()["files"] == [{"path": "b", "size": 1}]


async def test_a_file_of_which_a_part_came_is_not_kept_as_the_whole(door, reply):
    session = await open_one(door, files=[{"path": "a", "content": "12"}])

    def read(request, sink):
        sink(b"1")
        return {"ok": {"size": 2}}

    reply(read=read)
    assert (await keep(door, session)).json()["code"] == "sandbox-fault"


async def test_a_tree_is_read_to_its_last_page(door, reply):
    session = await open_one(door, files=[{"path": name, "content": "1"} for name in "ab"])
    pages = {None: ("a", "a"), "a": ("b", None)}

    def tree(request, sink):
        name, following = pages[request.get("after")]
        return {"ok": {"entries": [FILE | {"path": name}, {"path": "d", "type": "folder"}], "next": following}}

    reply(tree=tree)
    assert [file["path"] for file in (await keep(door, session)).json()["files"]] == ["a", "b"]


async def test_a_tree_without_an_end_is_read_no_further_than_it_may_be(door, reply):
    session = await open_one(door)
    asked = []

    def tree(request, sink):
        asked.append(request)
        return {"ok": {"entries": [], "next": "always"}}

    reply(tree=tree)
    assert (await keep(door, session)).status_code == 422
    assert len(asked) == 100


async def test_one_checkpoint_of_a_caller_is_made_at_a_time(door, monkeypatch):
    session = await open_one(door, files=[{"path": "a", "content": "1"}])
    whole, go = FakeSession.operate, asyncio.Event()

    async def operate(self, request, content, sink):
        await go.wait()
        return await whole(self, request, content, sink)

    monkeypatch.setattr(FakeSession, "operate", operate)
    first = asyncio.ensure_future(keep(door, session))
    while not door.app.state.services.checkpoints._making:
        await asyncio.sleep(0)
    refused = await keep(door, session)
    assert (refused.status_code, refused.json()["code"]) == (409, "session-busy")
    go.set()
    assert (await first).status_code == 201
    assert (await keep(door, session)).status_code == 201
