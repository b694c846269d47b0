"""``/sessions/{session_id}/files`` over HTTP: every route, its conditions, and what it refuses."""

import asyncio
import io
import os
import zipfile

import pytest

from codex_server.access.tokens import TokenStore
from codex_server.sandboxes.files import workspace
from codex_server.sandboxes.testing.fake_session import FakeSession
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio


class Desk:
    """Calls about the files of one session."""

    def __init__(self, door, identifier, headers=BEARER):
        self.client, self.headers = door.client, headers
        self.root = f"/sessions/{identifier}"

    async def call(self, method, path="", *, headers=None, **given):
        return await self.client.request(
            method, f"{self.root}/files{path}", headers=self.headers | (headers or {}), **given
        )

    async def get(self, path="", **given):
        return await self.call("GET", path, **given)

    async def put(self, path, content=b"content", **given):
        return await self.call("PUT", f"/{path}", content=content, **given)

    async def post(self, operation, **body):
        return await self.call("POST", f"/{operation}", json=body)

    async def made(self, path, content=b"content"):
        response = await self.put(path, content, params={"overwrite": "true"})
        assert response.status_code == 200, response.text
        return response.headers["etag"]


async def open_one(door, headers=BEARER, **fields):
    response = await door.client.post("/sessions", json=fields, headers=headers)
    assert response.status_code == 201, response.text
    return response.json()["session_id"]


@pytest.fixture
async def desk(door):
    return Desk(door, await open_one(door))


def problem(response, status, slug):
    assert (response.status_code, response.json()["code"]) == (status, slug), response.text
    return response.json()


async def test_a_file_is_written_read_listed_and_removed(desk):
    written = await desk.put("data/in.csv", b"1,2\n")
    assert (written.status_code, written.json().keys()) == (200, {"path", "type", "size", "modified", "etag"})
    assert written.headers["etag"] == f'"{written.json()["etag"]}"'
    got = await desk.get("/data/in.csv")
    assert (got.status_code, got.content) == (200, b"1,2\n")
    assert got.headers["etag"] == written.headers["etag"]
    assert got.headers["content-type"].startswith("text/csv")
    assert got.headers["content-security-policy"] == "sandbox; default-src 'none'"
    listed = (await desk.get()).json()
    assert [(entry["path"], entry["type"]) for entry in listed["entries"]] == [
        ("data", "folder"),
        ("data/in.csv", "file"),
    ]
    assert listed["next"] is None
    assert (await desk.call("DELETE", "/data/in.csv")).status_code == 204
    problem(await desk.get("/data/in.csv"), 404, "unknown-path")


@pytest.mark.parametrize("name", ["/./data//in.csv", "//mnt/data/data/in.csv", "/sandbox:/mnt/data/data/in.csv"])
async def test_a_file_has_the_names_that_it_has_for_a_program(desk, name):
    await desk.made("data/in.csv", b"1,2\n")
    assert (await desk.get(name)).content == b"1,2\n"
    written = name.removeprefix("/")
    (read,) = (await desk.post("read", paths=[f"{written}:1-1"])).json()["files"]
    assert (read["path"], read["content"]) == ("data/in.csv", "1,2\n")
    folder = written.removesuffix("in.csv")
    listed = (await desk.get(params={"path": folder})).json()["entries"]
    assert [entry["path"] for entry in listed] == ["data/in.csv"]
    copied = await desk.post("copy", path=written, to="/workspace/copy.csv")
    assert (copied.status_code, copied.json()["path"]) == (200, "copy.csv")
    assert (await desk.call("DELETE", name)).status_code == 204
    problem(await desk.get("/data/in.csv"), 404, "unknown-path")


async def test_a_listing_comes_page_by_page(desk):
    for name in ("a", "b", "c d/e%f", "ü"):
        await desk.made(name.replace("%", "%25"))
    found, cursor = [], ""
    while cursor is not None:
        page = (await desk.get(params={"limit": 1, "cursor": cursor})).json()
        found += [entry["path"] for entry in page["entries"]]
        cursor = page["next"]
    assert found == ["a", "b", "c d", "c d/e%f", "ü"]
    assert [entry["path"] for entry in (await desk.get(params={"glob": "[ab]"})).json()["entries"]] == ["a", "b"]
    assert (await desk.get(params={"limit": 0})).status_code == 422


async def test_conditions_decide_what_is_written(desk):
    tag = await desk.made("a", b"old")
    problem(await desk.put("a", b"new", headers={"If-None-Match": "*"}), 412, "file-changed")
    changed = problem(await desk.put("a", b"new", headers={"If-Match": '"0"'}), 412, "file-changed")
    assert changed["etag"] == tag.strip('"')
    problem(await desk.put("no", b"new", headers={"If-Match": "*"}), 404, "unknown-path")
    assert (await desk.get("/a")).content == b"old"
    assert (await desk.put("a", b"new", headers={"If-Match": tag})).status_code == 200
    assert (await desk.put("b", b"new", headers={"If-None-Match": "*"})).status_code == 200
    problem(await desk.call("DELETE", "/a", headers={"If-Match": tag}), 412, "file-changed")
    assert (await desk.call("DELETE", "/a", headers={"If-Match": "*"})).status_code == 204


async def test_a_file_that_was_not_read_is_not_overwritten(door, desk):
    await door.client.post(f"{desk.root}/execute", json={"code": "write a.txt the program's"}, headers=BEARER)
    conflict = problem(await desk.put("a.txt", b"mine"), 409, "file-conflict")
    assert (conflict["unread"], len(conflict["etag"])) == ("the program's", 32)
    assert (await desk.get("/a.txt")).status_code == 200
    assert (await desk.put("a.txt", b"mine")).status_code == 200


@pytest.mark.parametrize(
    ("asked", "status", "content", "described"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-999", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-", 200, b"0123456789", None),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=4-2", 200, b"0123456789", None),
    ],
)
async def test_a_range_of_a_file_is_fetched(desk, asked, status, content, described):
    await desk.made("a", b"0123456789")
    got = await desk.get("/a", headers={"Range": asked})
    assert (got.status_code, got.content, got.headers.get("content-range")) == (status, content, described)
    assert got.headers["content-length"] == str(len(content))


async def test_a_range_that_is_not_there_and_one_of_another_file_are_not_sent(desk):
    tag = await desk.made("a", b"0123456789")
    for asked in ("bytes=10-", "bytes=-0"):
        beyond = await desk.get("/a", headers={"Range": asked})
        problem(beyond, 416, "range-not-satisfiable")
        assert beyond.headers["content-range"] == "bytes */10"
    other = await desk.get("/a", headers={"Range": "bytes=1-2", "If-Range": '"0"'})
    assert (other.status_code, other.content) == (200, b"0123456789")
    same = await desk.get("/a", headers={"Range": "bytes=1-2", "If-Range": tag})
    assert (same.status_code, same.content) == (206, b"12")


async def test_a_file_that_the_client_has_is_not_sent_again(desk):
    tag = await desk.made("a")
    for known in (tag, f'"x", W/{tag}', "*"):
        got = await desk.get("/a", headers={"If-None-Match": known})
        assert (got.status_code, got.content, got.headers["etag"]) == (304, b"", tag)
    assert (await desk.get("/a", headers={"If-None-Match": '"x"'})).status_code == 200


@pytest.mark.parametrize("path", ["%2e%2e/x", "a/%2e%2e/%2e%2e/x", "/etc/passwd", "a%00b", "a/"])
async def test_a_path_that_leads_elsewhere_is_refused(desk, path):
    for method in ("GET", "PUT", "DELETE"):
        refused = await desk.call(method, f"/{path}", content=b"x" if method == "PUT" else None)
        assert refused.status_code in (404, 422), refused.text
    assert (await desk.get()).json()["entries"] == []


async def test_a_path_may_have_any_characters(desk):
    for name in ("a", "a%20b", "%C3%BC", "a%0Ab", "a%0A", "a%3Fb%23c", "read", "a:1-2"):
        written = await desk.put(name, name.encode())
        assert written.status_code == 200, written.text
        assert (await desk.get(f"/{name}")).content == name.encode()


async def test_files_are_uploaded_raw_and_as_a_form(desk):
    raw = await desk.call("POST", params={"path": "raw/a.bin"}, content=b"\0raw")
    assert (raw.status_code, raw.json()["path"]) == (201, "raw/a.bin")
    form = await desk.call("POST", files={"file": ("b.csv", b"1,2")})
    assert (form.status_code, form.json()["path"]) == (201, "b.csv")
    named = await desk.call("POST", params={"path": "c/d.csv"}, files={"file": ("b.csv", b"3,4")})
    assert named.json()["path"] == "c/d.csv"
    assert (await desk.get("/raw/a.bin")).content == b"\0raw"
    assert (await desk.get("/c/d.csv")).content == b"3,4"


async def test_the_files_of_a_form_are_written_by_their_names(desk):
    form = [("file", ("b.csv", b"1,2")), ("image", ("c.png", b"\0png")), ("file", ("empty", b"")), ("none", ("", b""))]
    sent = await desk.call("POST", params={"path": "in/"}, files=form, data={"note": "no file"})
    assert sent.status_code == 201, sent.text
    assert [(file["path"], file["size"], len(file["etag"])) for file in sent.json()["files"]] == [
        ("in/b.csv", 3, 32),
        ("in/c.png", 4, 32),
        ("in/empty", 0, 32),
    ]
    assert (await desk.get("/in/c.png")).content == b"\0png"
    top = await desk.call("POST", files=form[:2])
    assert [file["path"] for file in top.json()["files"]] == ["b.csv", "c.png"]
    one = await desk.call("POST", params={"path": "other/"}, files=form[:1])
    assert (one.status_code, one.json()["path"]) == (201, "other/b.csv")


async def test_a_form_reports_what_it_wrote_before_a_file_was_refused(door, desk):
    await door.client.post(f"{desk.root}/execute", json={"code": "write b the program's"}, headers=BEARER)
    form = [("file", (name, b"mine")) for name in "abc"]
    conflict = problem(await desk.call("POST", files=form), 409, "file-conflict")
    assert (conflict["written"], conflict["unread"]) == (["a"], "the program's")
    twice = problem(await desk.call("POST", params={"path": "d/"}, files=[*form, form[0]]), 409, "file-conflict")
    assert twice["written"] == ["d/a", "d/b", "d/c"]
    assert "written" not in problem(await desk.call("POST", files=form[1:]), 409, "file-conflict")
    assert [entry["path"] for entry in (await desk.get()).json()["entries"]] == ["a", "b", "d", "d/a", "d/b", "d/c"]


async def test_a_form_that_breaks_off_reports_the_files_that_came_whole(desk):
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\nmine\r\n' % name
        for name in (b"a", b"b")
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    broken = problem(await desk.call("POST", content=body[:-3], headers=headers), 422, "invalid-request")
    assert broken["written"] == ["a"]
    assert [entry["path"] for entry in (await desk.get()).json()["entries"]] == ["a"]


async def test_several_files_do_not_go_where_one_is_named_and_none_is_written(desk):
    form = [("file", (name, b"mine")) for name in "ab"]
    refused = problem(await desk.call("POST", params={"path": "in"}, files=form), 422, "invalid-request")
    assert "?path=data/" in refused["detail"]
    assert (await desk.get()).json()["entries"] == []


async def test_no_body_is_no_file_and_an_empty_one_is_an_empty_file(desk):
    for method, path, given in (("POST", "", {"params": {"path": "a"}}), ("PUT", "/b", {})):
        request = desk.client.build_request(
            method, f"{desk.root}/files{path}", headers=BEARER | {"Content-Length": "0"}, **given
        )
        assert (await desk.client.send(request)).status_code in (200, 201)
        del request.headers["Content-Length"]
        nothing = problem(await desk.client.send(request), 422, "invalid-request")
        assert "Content-Length: 0" in nothing["detail"]
    assert [(entry["path"], entry["size"]) for entry in (await desk.get()).json()["entries"]] == [("a", 0), ("b", 0)]


async def test_an_upload_with_no_name_or_a_hostile_one_or_no_file_is_refused(desk):
    assert (await desk.call("POST", content=b"x")).status_code == 422
    assert (await desk.call("POST", params={"path": "../x"}, content=b"x")).status_code == 422
    hostile = await desk.call("POST", files={"file": ("../../etc/passwd", b"x")})
    assert hostile.status_code == 422 or hostile.json()["path"] == "passwd"
    assert (await desk.call("POST", files={"other": ("", b"x")})).status_code in (400, 422)
    wrong = await desk.call("POST", params={"path": "a"}, data={"a": "b"})
    problem(wrong, 415, "unsupported-media-type")
    packed = await desk.put("a", b"x", headers={"Content-Encoding": "gzip"})
    problem(packed, 415, "unsupported-media-type")


async def test_what_is_put_is_the_body_whatever_its_type_is_called(desk):
    for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/json"):
        await desk.put("a", b"--x as it is", headers={"Content-Type": kind}, params={"overwrite": "true"})
        assert (await desk.get("/a")).content == b"--x as it is"


async def test_a_file_that_is_too_large_is_refused_and_the_old_one_stays(open_door):
    async with open_door(max_upload=1000) as door:
        desk = Desk(door, await open_one(door))
        await desk.made("a", b"old")
        for attempt in (
            desk.put("a", b"x" * 1001, params={"overwrite": "true"}),
            desk.call("POST", params={"path": "a", "overwrite": "true"}, content=b"x" * 1001),
            desk.call("POST", params={"path": "a", "overwrite": "true"}, files={"file": ("a", b"x" * 200_000)}),
        ):
            problem(await attempt, 413, "too-large")
        await desk.made("b", b"x" * 600)
        problem(await desk.post("combine", paths=["b", "b"], to="c"), 413, "too-large")
        assert (await desk.get("/a")).content == b"old"
        assert [entry["path"] for entry in (await desk.get()).json()["entries"]] == ["a", "b"]


async def test_texts_are_read_edited_and_searched(desk):
    await desk.made("a.py", b"import os\nx = 1\n")
    read = (await desk.post("read", paths=["a.py:2-2", "no"], line_numbers=True)).json()["files"]
    assert (read[0]["content"], read[0]["lines"], read[0]["total_lines"]) == ("2  x = 1\n", [2, 2], 2)
    assert (read[1]["content"], read[1]["error"]["code"]) == (None, "not-found")
    edited = (await desk.post("edit", path="a.py", edits=[{"search": "x = 1", "replace": "x = ("}])).json()
    assert edited.keys() == {"path", "etag", "applied", "warnings"}
    assert (edited["applied"], len(edited["warnings"])) == ([{"line": 2, "match": "exact"}], 1)
    found = (await desk.post("search", pattern="x =")).json()
    assert (found["matches"], found["truncated"]) == ([{"path": "a.py", "line": 2, "text": "x = ("}], False)


async def test_an_edit_that_does_not_fit_changes_nothing(desk):
    await desk.made("a", b"one\none\ntwo\n")
    good = {"search": "two", "replace": "2"}
    twice = await desk.post("edit", path="a", edits=[good, {"search": "one", "replace": "1"}])
    assert problem(twice, 422, "edit-refused")["lines"] == [1, 2]
    missing = await desk.post("edit", path="a", edits=[good, {"search": "twos", "replace": "1"}])
    assert problem(missing, 422, "edit-refused")["edit"] == 1
    changed = await desk.post("edit", path="a", edits=[good], if_match="0")
    problem(changed, 412, "file-changed")
    assert (await desk.get("/a")).content == b"one\none\ntwo\n"


async def test_files_are_copied_moved_combined_and_removed(desk):
    await desk.made("a", b"1")
    assert (await desk.post("copy", path="a", to="d/b")).json()["path"] == "d/b"
    problem(await desk.post("move", path="a", to="d/b"), 409, "file-conflict")
    assert (await desk.post("move", path="a", to="d/c")).status_code == 200
    assert (await desk.post("combine", paths=["d/b", "d/c"], to="all")).json()["size"] == 2
    problem(await desk.post("delete", path="d"), 409, "file-conflict")
    assert (await desk.post("delete", path="d", recursive=True)).json()["type"] == "folder"
    assert (await desk.call("DELETE", "/all")).status_code == 204
    problem(await desk.post("copy", path="no", to="x"), 404, "unknown-path")


async def test_an_archive_is_packed_fetched_and_taken_apart(desk):
    await desk.made("d/a", b"1")
    packed = await desk.post("archive", paths=["d"], to="out.zip")
    assert packed.json()["etag"]
    whole = zipfile.ZipFile(io.BytesIO((await desk.get("/out.zip")).content))
    assert whole.namelist() == ["d/a"]
    taken = (await desk.post("extract", path="out.zip", to="x")).json()
    assert taken == {"files": ["x/d/a"], "left_out": []}
    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w") as made:
        made.writestr("../../evil", "x")
    await desk.made("evil.zip", evil.getvalue())
    problem(await desk.post("extract", path="evil.zip"), 422, "file-refused")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("read", {"paths": []}),
        ("read", {"paths": ["a"] * 101}),
        ("edit", {"path": "a", "edits": []}),
        ("edit", {"path": "a", "edits": [{"search": "", "replace": "x"}]}),
        ("search", {"pattern": ""}),
        ("search", {"pattern": "("}),
        ("search", {"pattern": "x", "max_results": 0}),
        ("copy", {"path": "a"}),
        ("move", {"path": "../a", "to": "b"}),
        ("delete", {"path": ""}),
        ("combine", {"paths": [], "to": "a"}),
        ("archive", {"to": "a.rar", "format": "rar"}),
        ("extract", {"path": "a", "more": 1}),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(desk, operation, body):
    assert (await desk.post(operation, **body)).status_code == 422


async def test_a_path_that_is_no_text_is_refused(door, desk):
    refused = await door.post(b'{"path": "\\ud800", "to": "b"}', path=f"{desk.root}/files/copy")
    assert refused.status_code in (400, 422), refused.text


async def test_a_folder_is_not_fetched_nor_overwritten(desk):
    await desk.made("d/a")
    problem(await desk.get("/d"), 409, "file-conflict")
    problem(await desk.put("d"), 409, "file-conflict")
    problem(await desk.put("d/a/b"), 409, "file-conflict")
    problem(await desk.call("DELETE", "/d"), 409, "file-conflict")
    assert (await desk.call("DELETE", "/d", params={"recursive": "true"})).status_code == 204


async def test_files_of_another_callers_session_of_none_and_of_an_ended_one(open_door, tmp_path):
    tokens = TokenStore(tmp_path / "state")
    one, two = ({"Authorization": f"Bearer {tokens.create(name)[0]}"} for name in ("one", "two"))
    async with open_door(api_token=None) as door:
        session = await open_one(door, one)
        await Desk(door, session, one).made("a")
        for stranger in (Desk(door, session, two), Desk(door, "ses_00000000000000000000000000", one)):
            for attempt in (stranger.get("/a"), stranger.put("a"), stranger.get(), stranger.post("delete", path="a")):
                problem(await attempt, 404, "unknown-session")
        assert (await Desk(door, session, {}).get("/a")).status_code == 401
        await door.client.delete(f"/sessions/{session}", headers=one)
        problem(await Desk(door, session, one).get("/a"), 410, "session-ended")
        problem(await Desk(door, session, one).put("a"), 410, "session-ended")


async def test_a_file_from_any_time_can_be_fetched(desk, monkeypatch):
    await desk.made("a")
    whole = FakeSession.operate
    for time in (-5e9, 1e18):

        async def operate(self, request, content, output, time=time):
            reply = await whole(self, request, content, output)
            return {"ok": reply["ok"] | {"modified": time}}

        monkeypatch.setattr(FakeSession, "operate", operate)
        got = await desk.get("/a")
        assert (got.status_code, got.content) == (200, b"content")


async def test_30_megabytes_go_in_and_out_piece_by_piece(door, desk, monkeypatch):
    monkeypatch.setattr(workspace, "MOST_HASHED", 2**30)  # the fake makes its files anew each time
    data, pieces = os.urandom(30 * 2**20), []
    feed = FakeSession.operate

    async def operate(self, request, content, output):
        def take(chunk):
            pieces.append((request["operation"], request.get("length")))
            return output(chunk)

        return await feed(self, request, content, take)

    monkeypatch.setattr(FakeSession, "operate", operate)

    async def body():
        for start in range(0, len(data), 2**18):
            yield data[start : start + 2**18]

    assert (await desk.put("large.bin", body())).json()["size"] == len(data)
    assert (await desk.get("/large.bin")).content == data
    assert {name for name, _ in pieces} == {"read"}
    assert len(pieces) == 8
    assert all(length <= 4 * 2**20 for _, length in pieces)


async def test_an_upload_that_breaks_off_leaves_the_old_file(serve, dial):
    async with serve() as door:
        desk = Desk(door, await open_one(door))
        await desk.made("a", b"old")
        began, ended = asyncio.Event(), asyncio.Event()
        whole = FakeSession.operate

        async def operate(self, request, content, output):
            if request["operation"] == "write":
                began.set()
            try:
                return await whole(self, request, content, output)
            finally:
                if request["operation"] == "write":
                    ended.set()

        FakeSession.operate = operate
        try:
            wire = await dial(door)
            head = f"PUT {desk.root}/files/a?overwrite=true HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
            wire.writer.write(f"{head}Authorization: {BEARER['Authorization']}\r\n\r\n".encode() + b"half" * 100_000)
            await began.wait()
            wire.leave()
            await ended.wait()
        finally:
            FakeSession.operate = whole
        assert (await desk.get("/a")).content == b"old"
