"""``/files``: a file is uploaded once and given to many executions."""

import asyncio
import errno
import json
import os
import tracemalloc

import pytest

from codex_server.access.tokens import Scope, TokenStore
from tests.api.conftest import BEARER
from tests.waiting import becomes

pytestmark = pytest.mark.anyio
RAW = {"Content-Type": "application/octet-stream"}


async def upload(door, content=b"a,b\n1,2\n", name="data.csv", headers=BEARER):
    return await door.client.post("/files", params={"name": name}, content=content, headers=headers | RAW)


async def test_an_uploaded_file_is_used_in_many_executions(open_door):
    async with open_door() as door:
        response = await upload(door)
        assert response.status_code == 201
        kept = response.json()
        assert set(kept) == {"file_id", "name", "size", "media_type", "expires_at"}
        assert (kept["name"], kept["size"], kept["media_type"]) == ("data.csv", 8, "text/csv")
        assert kept["file_id"].startswith("fil_")
        files = [{"path": "in/x.csv", "file_id": kept["file_id"]}, {"path": "y", "file_id": kept["file_id"]}]
        for _ in range(2):
            assert (await door.execute("cat in/x.csv\ncat y", files=files)).json()["stdout"] == "a,b\n1,2\n" * 2
        background = await door.execute("cat y", files=files, wait_seconds=20)
        assert background.json()["stdout"] == "a,b\n1,2\n"
        item = {"code": "cat y", "files": files}
        batch = await door.client.post("/execute/batch", json={"items": [item]}, headers=BEARER)
        assert batch.json()["items"][0]["stdout"] == "a,b\n1,2\n"
        stream = await door.client.post("/execute/stream", json=item, headers=BEARER)
        assert '"text":"a,b\\n1,2\\n"' in stream.text


async def test_uploads_are_listed_newest_first_and_can_be_removed(open_door):
    async with open_door() as door:
        ids = [(await upload(door, name=f"{n}.txt")).json()["file_id"] for n in range(3)]
        page = (await door.get("/files?limit=2")).json()
        assert [file["name"] for file in page["files"]] == ["2.txt", "1.txt"]
        rest = (await door.get(f"/files?cursor={page['next']}")).json()
        assert ([file["file_id"] for file in rest["files"]], rest["next"]) == (ids[:1], None)
        assert (await door.client.delete(f"/files/{ids[0]}", headers=BEARER)).status_code == 204
        again = await door.client.delete(f"/files/{ids[0]}", headers=BEARER)
        assert (again.status_code, again.json()["code"]) == (404, "unknown-file")
        assert len((await door.get("/files")).json()["files"]) == 2


async def test_a_file_of_another_caller_is_unknown(open_door, tmp_path):
    store = TokenStore(tmp_path / "state")
    ann, bob = (store.create(name, [Scope.EXECUTE])[0] for name in ("ann", "bob"))
    store.close()
    async with open_door(api_token=None) as door:
        ann, bob = ({"Authorization": f"Bearer {token}"} for token in (ann, bob))
        file_id = (await upload(door, headers=ann)).json()["file_id"]
        body = {"code": "cat x", "files": [{"path": "x", "file_id": file_id}]}
        refused = await door.client.post("/execute", json=body, headers=bob)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == "/files/0/file_id"
        assert "no file of yours" in refused.json()["detail"]
        assert (await door.client.get("/files", headers=bob)).json()["files"] == []
        assert (await door.client.delete(f"/files/{file_id}", headers=bob)).status_code == 404
        assert (await door.client.post("/execute", json=body, headers=ann)).json()["status"] == "succeeded"


async def test_an_expired_file_is_said_to_have_expired(open_door, monkeypatch):
    async with open_door(artifact_seconds=10) as door:
        file_id = (await upload(door)).json()["file_id"]
        monkeypatch.setattr("codex_server.service.uploads.since_epoch", lambda: 1e11)
        await door.client.delete(f"/files/{file_id}", headers=BEARER)
        refused = await door.execute("cat x", files=[{"path": "x", "file_id": file_id}])
        assert refused.status_code == 422
        assert "has expired: each is kept for 10 s" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("entry", "pointer", "detail"),
    [
        ({"path": "x"}, "/files/0/content", "a `file_id`"),
        ({"path": "x", "content": "", "file_id": "fil_1"}, "/files/0/content", "send one of them"),
        ({"path": "x", "file_id": "art_1"}, "/files/0/file_id", "no file of yours"),
        ({"path": "x", "file_id": ""}, "/files/0/file_id", "no file of yours"),
        ({"path": "x", "file_id": "../../etc/passwd"}, "/files/0/file_id", "no file of yours"),
        ({"path": "x", "url": "https://example.org/x"}, "/files/0/url", "fetches nothing from elsewhere"),
    ],
)
async def test_a_file_with_no_or_two_contents_is_refused(open_door, entry, pointer, detail):
    async with open_door() as door:
        if "file_id" in entry and "content" in entry:
            entry = entry | {"file_id": (await upload(door)).json()["file_id"]}
        refused = await door.execute(files=[entry])
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == pointer
        assert detail in refused.json()["errors"][0]["detail"]


async def test_an_empty_id_in_an_item_of_a_batch_is_refused_like_an_unknown_one(open_door):
    async with open_door() as door:
        kept = (await upload(door)).json()["file_id"]
        files = [{"path": "x", "file_id": kept}, {"path": "y", "file_id": ""}]
        items = [{"code": "cat x", "files": files}, {"code": "print a"}]
        batch = (await door.client.post("/execute/batch", json={"items": items}, headers=BEARER)).json()["items"]
        assert batch[1]["status"] == "succeeded"
        problem = batch[0]["problem"]
        assert problem["status"] == 422
        assert problem["errors"][0]["pointer"] == "/files/1/file_id"


async def test_a_full_disk_is_said_to_be_one(open_door, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    async with open_door() as door:
        with monkeypatch.context() as broken:
            broken.setattr("codex_server.service.kept_files._write", full)
            refused = await upload(door)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage-full")
        assert "disk is full" in refused.json()["detail"]
        assert (await door.get("/files")).json()["files"] == []


async def test_an_upload_above_the_cap_is_refused_and_nothing_stays(open_door, tmp_path):
    async def unannounced():
        for _ in range(3):
            yield b"x" * 50

    async with open_door(max_upload=100) as door:
        for content in (b"x" * 101, unannounced()):
            refused = await upload(door, content)
            assert (refused.status_code, refused.json()["code"]) == (413, "too-large")
            assert "CODEX_MAX_UPLOAD" in refused.json()["detail"]
        assert (await upload(door, b"x" * 100)).status_code == 201
        assert len(os.listdir(tmp_path / "state/artifacts")) == 1


async def test_an_unannounced_upload_is_kept_with_its_size(open_door):
    async def parts():
        yield b"\xff"
        yield b"x" * 70_000

    async with open_door(max_artifacts_caller=100_000, max_upload=80_000) as door:
        kept = (await upload(door, parts(), "blob")).json()
        assert (kept["size"], kept["media_type"]) == (70_001, "application/octet-stream")
        assert (await upload(door, b"x" * 20_000)).status_code == 201, "it counts as what it is"


async def test_uploads_count_against_the_callers_quota(open_door):
    async with open_door(max_artifacts_caller=8192) as door:
        assert (await upload(door, b"x" * 8192)).status_code == 201
        refused = await upload(door, b"x")
        assert (refused.status_code, refused.json()["code"]) == (507, "storage-full")


@pytest.mark.parametrize("name", ["", "a/", "x" * 256, "a\nb"])
async def test_a_file_without_a_name_is_refused(open_door, name):
    async with open_door() as door:
        assert (await upload(door, name=name)).status_code == 422


async def test_folders_in_its_name_are_left_out(open_door):
    async with open_door() as door:
        assert (await upload(door, name="../../C:\\x\\e.txt")).json()["name"] == "e.txt"


@pytest.mark.parametrize("form", ["application/x-www-form-urlencoded"])
async def test_a_form_without_files_is_refused_with_the_command_that_works(open_door, form):
    async with open_door() as door:
        refused = await door.client.post("/files?name=a", content=b"x", headers=BEARER | {"Content-Type": form})
        assert refused.status_code == 415
        assert "--data-binary" in refused.json()["detail"]


async def test_files_that_are_more_than_the_workspace_are_refused_unread(open_door):
    async with open_door(max_workspace=2**20) as door:
        file_id = (await upload(door, b"x" * 600_000)).json()["file_id"]
        refused = await door.execute(files=[{"path": name, "file_id": file_id} for name in "ab"])
        assert refused.status_code == 422
        assert "the workspace holds" in refused.json()["detail"]


async def test_an_upload_that_is_broken_off_leaves_nothing(serve, dial, tmp_path):
    async with serve() as door:
        wire = await dial(door)
        head = f"POST /files?name=a HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n"
        wire.writer.write(f"{head}Content-Length: 3000000\r\n\r\n".encode() + b"x" * 2_000_000)
        await wire.writer.drain()
        folder = tmp_path / "state/artifacts"

        async def begun():
            return folder.is_dir() and os.listdir(folder)

        async def removed():
            return not os.listdir(folder)

        await becomes(begun)
        wire.leave()
        await becomes(removed)
        assert (await door.get("/files")).json()["files"] == []


async def in_slices(content, count, size=2**16):
    for _ in range(count):
        yield content[:size]


async def test_uploads_at_once_take_the_memory_of_parts_and_not_of_files(serve):
    slice_, count = bytes(2**16), 256
    whole = len(slice_) * count
    async with serve(max_upload=whole, max_artifacts_caller=10 * whole) as door:
        assert (await upload(door, b"x")).status_code == 201  # what is loaded and opened once
        tracemalloc.start()
        try:
            responses = await asyncio.gather(*(upload(door, in_slices(slice_, count)) for _ in range(8)))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert [(each.status_code, each.json()["size"]) for each in responses] == [(201, whole)] * 8
    assert peak < 2 * whole


@pytest.fixture
def one_at_once(monkeypatch):
    monkeypatch.setattr("codex_server.service.uploads.MOST_AT_ONCE", 1)


async def begin_upload(wire, length, kind="application/octet-stream"):
    """Send the header of an upload."""
    head = f"POST /files?name=a HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n"
    await wire.send(f"{head}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode())


async def test_an_upload_that_finds_no_place_is_refused_with_the_time_to_come_back(serve, dial, one_at_once):
    async with serve(receive_seconds=0.3) as door:
        wires = [await dial(door) for _ in range(2)]
        for wire in wires:
            await begin_upload(wire, 10)  # and no more: the first one holds the place, until it is late
        responses = {status: (fields, body) for status, fields, body in [await wire.response() for wire in wires]}
        assert responses.keys() == {408, 503}
        fields, body = responses[503]
        assert (json.loads(body)["code"], fields["retry-after"]) == ("busy", "5")
        assert (await upload(door)).status_code == 201


async def test_an_upload_waits_for_its_place(serve, one_at_once):
    async with serve() as door:
        responses = await asyncio.gather(*(upload(door, in_slices(bytes(10), 3)) for _ in range(4)))
    assert [each.status_code for each in responses] == [201] * 4


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize(("size", "status"), [(2_000_000, 413), (20_000, 507)])
async def test_an_upload_is_refused_by_its_length_before_it_is_read(serve, dial, kind, size, status):
    async with serve(max_upload=1_000_000, max_artifacts_caller=8192) as door:
        wire = await dial(door)
        await begin_upload(wire, size, kind)
        assert (await wire.response())[0] == status


async def test_a_server_that_starts_on_the_same_folder_leaves_an_upload_of_another_alone(serve, dial, tmp_path):
    folder = tmp_path / "state/artifacts"

    async def begun():
        return folder.is_dir() and os.listdir(folder)

    async with serve() as door:
        wire = await dial(door)
        await begin_upload(wire, 10)
        await wire.send(b"12345")
        await becomes(begun)
        async with serve() as other:
            assert (await other.get("/files")).json()["files"] == []
            await wire.send(b"67890")
            status, _, body = await wire.response()
            assert (status, json.loads(body)["size"]) == (201, 10)
            files = [{"path": "x", "file_id": json.loads(body)["file_id"]}]
            assert (await other.execute("cat x", files=files)).json()["stdout"] == "1234567890"


def form_of(*parts, boundary="--x"):
    lines = []
    for name, filename, content in parts:
        named = f'; filename="{filename}"' if filename is not None else ""
        lines += [
            b"--" + boundary.encode(),
            f'Content-Disposition: form-data; name="{name}"{named}'.encode(),
            b"",
            content,
        ]
    return b"\r\n".join([*lines, b"--" + boundary.encode() + b"--", b""])


async def send_form(door, body, content_type="multipart/form-data; boundary=--x", path="/files"):
    async def in_pieces():
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    return await door.client.post(path, content=in_pieces(), headers=BEARER | {"Content-Type": content_type})


async def test_a_form_uploads_its_file_byte_for_byte_and_other_parts_are_passed_over(open_door):
    content = bytes(range(256)) * 40 + b"\r\n---x\r\n--x"
    async with open_door() as door:
        body = form_of(("note", None, b"ignored"), ("file", "grün & co.bin", content), ("file", "second", b"no"))
        uploaded = await send_form(door, body)
        assert (uploaded.status_code, uploaded.json()["name"], uploaded.json()["size"]) == (
            201,
            "grün & co.bin",
            len(content),
        )
        file = {"path": "in.bin", "file_id": uploaded.json()["file_id"]}
        await door.execute("print a", files=[file])
        assert door.backend.executions[-1].files[0].content == content
        assert (await send_form(door, body, path="/files?name=other.csv")).json()["name"] == "other.csv"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form_of(("data", "a.csv", b"x")), "multipart/form-data; boundary=--x"),
        (form_of(("file", None, b"x")), "multipart/form-data; boundary=--x"),
        (form_of(("file", "a.csv", b"x")), "multipart/form-data"),
        (form_of(("file", "a.csv", b"x")), "multipart/form-data; boundary=other"),
        (b"no form at all", "multipart/form-data; boundary=--x"),
        (b"", "multipart/form-data; boundary=--x"),
        (form_of(("file", "a.csv", b"x"))[:-30], "multipart/form-data; boundary=--x"),
        (form_of(("file", "a.csv", b"x"))[:-9], "multipart/form-data; boundary=--x"),
    ],
    ids=[
        "no such part",
        "no file name",
        "no boundary",
        "another boundary",
        "no form",
        "empty",
        "cut",
        "cut at its end",
    ],
)
async def test_what_is_no_form_with_a_file_is_refused_and_keeps_nothing(open_door, body, content_type):
    async with open_door() as door:
        refused = await send_form(door, body, content_type)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
        assert (await door.get("/files")).json()["files"] == []


async def test_a_form_with_a_file_above_the_cap_is_refused(open_door):
    async with open_door(max_upload=2**20) as door:
        refused = await send_form(door, form_of(("file", "a.bin", bytes(2**20 + 1))))
        assert (refused.status_code, "CODEX_MAX_UPLOAD" in refused.json()["detail"]) == (413, True)


async def test_a_form_of_more_parts_than_any_is_refused(open_door):
    async with open_door() as door:
        body = form_of(*(("note", None, b"x") for _ in range(101)), ("file", "a.csv", b"x"))
        assert (await send_form(door, body)).status_code == 422


async def test_what_surrounds_a_file_in_a_form_is_bounded(open_door):
    async with open_door(max_upload=2**20) as door:
        body = form_of(("note", None, bytes(2**20 + 2**17)), ("file", "a.csv", b"x"))
        assert (await send_form(door, body)).status_code == 413


async def test_a_form_takes_no_more_of_the_quotas_than_its_length(open_door):
    async with open_door(max_artifacts_caller=8192) as door:
        headers = BEARER | {"Content-Type": "multipart/form-data; boundary=--x"}
        body = form_of(("file", "a.txt", b"small"))
        assert (await door.client.post("/files", content=body, headers=headers)).status_code == 201


async def test_a_form_may_be_longer_than_the_cap_of_its_file(open_door):
    async with open_door(max_upload=100) as door:
        headers = BEARER | {"Content-Type": "multipart/form-data; boundary=--x"}
        for size, status in ((100, 201), (101, 413)):
            body = form_of(("file", "a.txt", b"x" * size))
            assert (await door.client.post("/files", content=body, headers=headers)).status_code == status
