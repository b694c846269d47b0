"""``GET /artifacts/{id}``: files that do not stand in their response, by signed links."""

import asyncio
import json
import os
from datetime import datetime

import pytest

from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio
LARGE = "x" * 40_000
BIG = f"write data/big.csv {LARGE}"
NDJSON = {"Accept": "application/x-ndjson"}


async def linked(door, code=BIG, **fields):
    response = (await door.execute(code, **fields)).json()
    assert response["status"] == "succeeded"
    [entry] = response["files"]
    return entry


async def fetch(door, url, **headers):
    return await door.client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_a_file_above_the_inline_size_is_a_link_that_needs_no_token(open_door):
    async with open_door() as door:
        entry = await linked(door)
        assert set(entry) == {"path", "size", "media_type", "url", "expires_at"}
        assert (entry["path"], entry["size"], entry["media_type"]) == ("data/big.csv", 40_000, "text/csv")
        assert datetime.fromisoformat(entry["expires_at"]).utcoffset() is not None
        assert entry["url"].startswith("/artifacts/art_")
        response = await fetch(door, entry["url"])
        assert (response.status_code, response.text) == (200, LARGE)
        assert response.headers["content-type"] == "text/csv; charset=utf-8"
        assert response.headers["content-length"] == "40000"
        assert response.headers["content-disposition"] == 'attachment; filename="big.csv"'
        assert response.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cross-origin-resource-policy"] == "cross-origin"
        assert response.headers["cache-control"] == "private"
        assert "last-modified" in response.headers


async def test_a_name_that_is_not_ascii_is_said_as_the_standard_wants(open_door):
    async with open_door() as door:
        response = await fetch(door, (await linked(door, f"write né'\"w.txt {LARGE}"))["url"])
        assert response.headers["content-disposition"] == "attachment; filename*=utf-8''n%C3%A9%27%22w.txt"


async def test_parts_of_it_can_be_fetched(open_door):
    async with open_door() as door:
        url = (await linked(door, f"write a.txt 0123456789{LARGE}"))["url"]
        part = await fetch(door, url, Range="bytes=2-5")
        assert (part.status_code, part.text) == (206, "2345")
        assert part.headers["content-range"] == "bytes 2-5/40010"
        etag = part.headers["etag"]
        assert (await fetch(door, url, Range="bytes=0-0", If_Range=etag)).status_code == 206
        assert (await fetch(door, url, Range="bytes=0-0", If_Range='"other"')).status_code == 200


@pytest.mark.parametrize("field", ["bytes=40000-", "bytes=-0", "bytes=40000-40001, 50000-"])
async def test_a_range_behind_the_end_is_a_problem_with_the_size(open_door, field):
    async with open_door() as door:
        url = (await linked(door))["url"]
        refused = await fetch(door, url, Range=field)
        assert (refused.status_code, refused.headers["content-range"]) == (416, "bytes */40000")
        assert refused.headers["content-type"] == "application/problem+json"
        assert (refused.json()["code"], refused.json()["status"]) == ("range-not-satisfiable", 416)
        assert (await fetch(door, url, Range=field, If_Range='"other"')).status_code == 200


async def test_of_several_ranges_those_that_are_there_are_sent(open_door):
    async with open_door() as door:
        url = (await linked(door, f"write a.txt 0123456789{LARGE}"))["url"]
        part = await fetch(door, url, Range="bytes=50000-, 2-5")
        assert (part.status_code, part.text) == (206, "2345")
        both = await fetch(door, url, Range="bytes=0-1,5-6")
        assert (both.status_code, both.headers["content-type"].partition(";")[0]) == (206, "multipart/byteranges")


async def test_who_has_it_already_gets_no_body(open_door):
    async with open_door() as door:
        url = (await linked(door))["url"]
        etag = (await fetch(door, url)).headers["etag"]
        for known in (etag, f'"x", W/{etag}', "*"):
            again = await fetch(door, url, If_None_Match=known)
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert (await fetch(door, url, If_None_Match='"x"')).status_code == 200


async def test_head_has_the_same_headers_and_no_body(open_door):
    async with open_door() as door:
        url = (await linked(door))["url"]
        head = await door.client.head(url)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "40000", b"")


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url[:-1],
        lambda url: url.replace("expires=", "expires=1"),
        lambda url: url.replace("art_", "art_0"),
        lambda url: url.partition("?")[0],
        lambda url: url.partition("signature=")[0] + "signature=%ff",
        lambda url: "/artifacts/..%2f..%2fetc%2fpasswd?expires=9999999999&signature=x",
    ],
)
async def test_a_link_that_was_changed_leads_nowhere_and_says_nothing(open_door, change):
    async with open_door() as door:
        url = (await linked(door))["url"]
        response = await fetch(door, change(url))
        assert response.status_code == 404
        assert response.json()["code"] in {"unknown-artifact", "not-found"}


async def test_a_file_that_is_swept_is_gone(open_door, tmp_path):
    async with open_door() as door:
        url = (await linked(door))["url"]
        for name in os.listdir(tmp_path / "state/artifacts"):
            (tmp_path / "state/artifacts" / name).unlink()
        response = await fetch(door, url)
        assert (response.status_code, response.json()["code"]) == (410, "artifact-gone")


async def test_an_expired_link_is_gone(open_door, monkeypatch):
    async with open_door(artifact_seconds=10) as door:
        url = (await linked(door))["url"]
        monkeypatch.setattr("codex_server.service.artifacts.since_epoch", lambda: 1e11)
        assert (await fetch(door, url)).status_code == 410


async def test_a_link_outlives_a_restart(open_door):
    async with open_door() as door:
        url = (await linked(door))["url"]
    async with open_door() as door:
        assert (await fetch(door, url)).text == LARGE


async def test_the_link_begins_with_the_public_address(open_door):
    async with open_door(public_url="https://code.example.org/") as door:
        assert (await linked(door))["url"].startswith("https://code.example.org/artifacts/art_")


async def test_a_request_can_ask_for_smaller_files_inline(open_door):
    async with open_door() as door:
        entry = await linked(door, "write a.txt 12345", max_inline_bytes=4)
        assert (await fetch(door, entry["url"])).text == "12345"
        assert (await linked(door, "write a.txt 12345", max_inline_bytes=5))["content"] == "12345"
        refused = await door.execute(max_inline_bytes=32 * 1024 + 1)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == "/max_inline_bytes"


async def test_small_files_that_have_no_room_together_are_links_and_figures_stay(open_door):
    async with open_door() as door:
        code = "\n".join([*(f"write f{n}.txt {n}{'y' * 30_000}" for n in range(6)), f"write z.svg {'z' * 30_000}"])
        response = await door.execute(code)
        assert len(response.text) <= 100_000
        files = response.json()["files"]
        assert [file["path"] for file in files] == [*(f"f{n}.txt" for n in range(6)), "z.svg"]
        assert "content" in files[-1]
        links = [file for file in files if "url" in file]
        assert len(links) >= 4
        assert (await fetch(door, links[-1]["url"])).text == links[-1]["path"][1] + "y" * 30_000
        assert response.json()["skipped_files"] == []


async def test_streams_batches_background_runs_and_actions_have_the_same_entries(open_door):
    async with open_door() as door:
        lines = (await door.execute(BIG)).json()["files"]
        stream = await door.client.post("/execute/stream", json={"code": BIG}, headers=BEARER | NDJSON)
        events = [json.loads(line) for line in stream.text.splitlines()]
        lines += [event for event in events if event["type"] == "file"]
        lines += events[-1]["files"]
        batch = await door.client.post("/execute/batch", json={"items": [{"code": BIG}] * 2}, headers=BEARER)
        for item in batch.json()["items"]:
            lines += item["files"]
        lines += (await door.execute(BIG, wait_seconds=20)).json()["files"]
        lean = await door.client.post("/actions/execute", json={"code": BIG}, headers=BEARER)
        lines += lean.json()["files"]
        assert len(lines) == 7, lines
        for line in lines:
            assert "content" not in line
            assert (await fetch(door, line["url"])).text == LARGE


async def test_an_item_of_a_batch_with_little_room_has_links(open_door):
    async with open_door(max_response=10_000) as door:
        items = [{"code": f"write a.txt {n}{'y' * 5000}"} for n in range(4)]
        batch = await door.client.post("/execute/batch", json={"items": items}, headers=BEARER)
        assert len(batch.text) <= 10_000
        for n, item in enumerate(batch.json()["items"]):
            [file] = item["files"]
            text = file.get("content") or (await fetch(door, file["url"])).text
            assert text == f"{n}{'y' * 5000}"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_artifact": 39_999}, "it is 40000 bytes, above the 39999 bytes that are kept of one file"),
        ({"max_artifacts_execution": 30_000}, "of one execution's files 29.3 KiB are kept"),
        ({"max_artifacts_caller": 30_000}, "do not fit into the 29.3 KiB that are kept of your files"),
        ({"max_artifacts": 30_000}, "do not fit into the 29.3 KiB that are kept of all callers' files"),
    ],
)
async def test_what_does_not_fit_a_quota_is_skipped_with_the_number(open_door, settings, reason):
    async with open_door(**settings) as door:
        response = (await door.execute(BIG)).json()
        assert response["files"] == []
        [skipped] = response["skipped_files"]
        assert (skipped["path"], skipped["size"]) == ("data/big.csv", 40_000)
        assert reason in skipped["reason"]


async def test_a_disk_that_fails_costs_the_file_alone(open_door, tmp_path):
    async with open_door() as door:
        (tmp_path / "state").mkdir()
        (tmp_path / "state/artifacts").write_text("in the way")
        response = (await door.execute(f"print hi\n{BIG}")).json()
        assert (response["stdout"], response["files"]) == ("hi\n", [])
        assert "could not keep it" in response["skipped_files"][0]["reason"]


async def test_cancelling_while_files_are_kept_changes_nothing(open_door, monkeypatch):
    async with open_door() as door:
        begun, go = asyncio.Event(), asyncio.Event()
        artifacts = door.app.state.services.artifacts
        keep = artifacts.keep

        async def slow(*args):
            begun.set()
            await go.wait()
            return await keep(*args)

        monkeypatch.setattr(artifacts, "keep", slow)
        submitted = (await door.execute(BIG, wait_seconds=0)).json()
        await begun.wait()
        cancel = asyncio.ensure_future(door.client.delete(f"/executions/{submitted['execution_id']}", headers=BEARER))
        await asyncio.sleep(0)
        go.set()
        ended = (await cancel).json()
        assert (ended["status"], ended["files"][0]["path"]) == ("succeeded", "data/big.csv")


@pytest.mark.parametrize("field", ["bytes=100-50", "bytes=abc", "bytes=-", "bytes 0-1", "lines=0-1", "bytes=0-1,x"])
async def test_a_range_that_is_none_is_ignored_and_the_whole_file_sent(open_door, field):
    async with open_door() as door:
        response = await fetch(door, (await linked(door))["url"], Range=field)
        assert (response.status_code, len(response.content)) == (200, 40_000)
