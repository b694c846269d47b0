"""Named workspaces over HTTP: their names, a session in one, an overview, and their files."""

import pytest

from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio


@pytest.fixture
def folders(tmp_path):
    for name in ("notes", "data"):
        (tmp_path / "folders" / name).mkdir(parents=True)
    return f"notes={tmp_path}/folders/notes,data={tmp_path}/folders/data:ro"


async def test_the_names_are_listed_and_no_path(open_door, folders):
    async with open_door(workspaces=folders) as door:
        listed = await door.get("/workspaces")
        assert listed.json() == {
            "workspaces": [{"name": "data", "mode": "read-only"}, {"name": "notes", "mode": "read-write"}]
        }


async def test_a_session_is_opened_in_a_workspace_by_its_name(open_door, folders):
    async with open_door(workspaces=folders) as door:
        made = await door.client.post("/sessions", json={"workspace": "notes"}, headers=BEARER)
        assert (made.status_code, made.json()["workspace"]) == (201, "notes")


async def test_an_unknown_name_is_refused_with_those_that_there_are(open_door, folders):
    async with open_door(workspaces=folders) as door:
        refused = await door.client.post("/sessions", json={"workspace": "note"}, headers=BEARER)
        assert refused.status_code == 422
        assert "it has data, notes" in refused.text
        assert "folders" not in refused.text
        for path in ("/workspaces/note", "/workspaces/note/files"):
            unknown = await door.get(path)
            assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-workspace")
            assert "data, notes" in unknown.json()["detail"]


async def test_a_server_without_workspaces_says_so(open_door):
    async with open_door() as door:
        refused = await door.client.post("/sessions", json={"workspace": "notes"}, headers=BEARER)
        assert (refused.status_code, "no named workspaces" in refused.text) == (422, True)
        assert (await door.get("/workspaces")).json() == {"workspaces": []}


async def test_files_are_written_read_and_listed(open_door, folders):
    async with open_door(workspaces=folders) as door:
        put = await door.client.put("/workspaces/notes/files/src/a.py", content=b"x = 1\n", headers=BEARER)
        assert put.status_code == 200, put.text
        fetched = await door.get("/workspaces/notes/files/src/a.py")
        assert fetched.content == b"x = 1\n"
        listed = await door.get("/workspaces/notes/files")
        assert [entry["path"] for entry in listed.json()["entries"]] == ["src", "src/a.py"]
        edit = {"path": "src/a.py", "edits": [{"search": "x = 1\n", "replace": "x = 2\n"}]}
        assert (await door.client.post("/workspaces/notes/files/edit", json=edit, headers=BEARER)).status_code == 200


async def test_an_overview_has_languages_guides_and_the_tree(open_door, folders):
    async with open_door(workspaces=folders) as door:
        for path, content in (("src/a.py", b"x = 1\n"), ("README.md", b"# Notes\n"), ("node_modules/b.js", b"1")):
            await door.client.put(f"/workspaces/notes/files/{path}", content=content, headers=BEARER)
        seen = (await door.get("/workspaces/notes")).json()
    assert (seen["name"], seen["mode"], seen["files"], seen["git"]) == ("notes", "read-write", 2, None)
    assert seen["guides"] == [{"path": "README.md", "head": "# Notes\n", "truncated": False}]
    assert [each["name"] for each in seen["languages"]] == ["Markdown", "Python"]
    assert seen["tree"] == ["README.md", "src/", "src/a.py"]


async def test_a_call_without_a_token_learns_nothing(open_door, folders):
    async with open_door(workspaces=folders) as door:
        for path in ("/workspaces", "/workspaces/notes", "/workspaces/notes/files"):
            assert (await door.client.get(path)).status_code == 401
