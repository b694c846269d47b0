"""``POST /execute/batch``: each item's outcome or problem in its place, a few at a time, within one response's size."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.service.batch import shares
from codex_server.service.schemas import ExecuteResponse
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio
LINES = {"Accept": "application/x-ndjson"}


async def send(door, codes, *, headers=None, **fields):
    items = [code if isinstance(code, dict) else {"code": code} for code in codes]
    body = {"items": items, **fields}
    return await door.client.post("/execute/batch", json=body, headers=BEARER | (headers or {}))


def kinds(items):
    return [item["problem"]["code"] if "problem" in item else item["status"] for item in items]


async def test_a_client_that_prefers_json_gets_no_lines(door):
    response = await send(door, ["print a"], headers={"Accept": "application/x-ndjson;q=0.5, application/json"})
    assert response.headers["content-type"] == "application/json"


async def test_each_item_has_its_outcome_or_its_problem_in_its_place(door):
    items = ["print a", "", {"code": "print", "language": "pyton"}, {"cod": 1}, "exit 3", "die", "print b"]
    response = await send(door, items)
    assert response.status_code == 200
    found = response.json()["items"]
    refused = ["invalid-code", "unknown-language", "invalid-request"]
    assert kinds(found) == ["succeeded", *refused, "failed", "sandbox-fault", "succeeded"]
    assert [item.get("stdout") for item in (found[0], found[-1])] == ["a\n", "b\n"]
    assert found[0].keys() == ExecuteResponse.model_fields.keys()
    assert found[3]["problem"]["errors"][0]["pointer"] == "/cod"
    assert len({item["execution_id"] for item in found if "execution_id" in item}) == 3


async def test_an_item_that_is_no_object_is_refused_in_its_place(door):
    response = await door.client.post("/execute/batch", json={"items": ["print", {"code": "print"}]}, headers=BEARER)
    assert kinds(response.json()["items"]) == ["invalid-request", "succeeded"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": []},
        {"items": [{"code": "print"}] * 101},
        {"items": {"code": "print"}},
        {"items": [{"code": "print"}], "max_paralel": 2},
        {"items": [{"code": "print"}], "max_parallel": 0},
        {"items": [{"code": "print"}], "stop_on_failure": 1},
    ],
)
async def test_a_batch_that_is_wrong_itself_runs_nothing(body, door):
    response = await door.client.post("/execute/batch", json=body, headers=BEARER)
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert door.backend.executions == []


async def test_no_more_run_at_once_than_requested(open_door):
    async with open_door(max_concurrency=8) as door:
        sent = asyncio.ensure_future(send(door, ["wait go"] * 5, max_parallel=2))
        executor = door.app.state.executor
        async with asyncio.timeout(10):
            while executor.stats().running < 2:
                await asyncio.sleep(0.01)
        assert len(door.backend.executions) == 2
        door.backend.event("go").set()
        assert kinds((await sent).json()["items"]) == ["succeeded"] * 5


async def test_after_a_failure_no_further_item_begins_where_that_is_requested(door):
    response = await send(door, ["print", "exit 1", "print", ""], max_parallel=1, stop_on_failure=True)
    assert kinds(response.json()["items"]) == ["succeeded", "failed", "not-run", "not-run"]
    assert response.json()["items"][2]["problem"]["status"] == 424
    assert len(door.backend.executions) == 2


async def test_every_item_costs_one_execution_of_the_rate(open_door, limiter_clock):
    async with open_door(rate_limit="5/minute") as door:
        assert ";r=2;" in (await send(door, ["print"] * 3)).headers["ratelimit"]
        refused = await send(door, ["print"] * 3)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
        assert "send fewer items" in refused.json()["detail"]
        assert len(door.backend.executions) == 3


async def test_a_key_gets_the_first_response_again(door):
    responses = [await send(door, ["print a", ""], headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert responses[0].json() == responses[1].json()
    assert responses[1].headers["idempotency-replayed"] == "true"
    assert len(door.backend.executions) == 1
    assert (await send(door, ["print"], headers={"Idempotency-Key": "n"} | LINES)).status_code == 422


async def test_as_lines_each_item_comes_when_it_is_done(serve):
    async with serve() as door:
        body = {"items": [{"code": "wait go"}, {"code": "print b"}, {"code": ""}]}
        sent = door.client.stream("POST", "/execute/batch", json=body, headers=BEARER | LINES)
        async with sent as response:
            lines = response.aiter_lines()
            first = [json.loads(await anext(lines)) for _ in range(2)]
            assert {line["index"]: kinds([line])[0] for line in first} == {1: "succeeded", 2: "invalid-code"}
            door.backend.event("go").set()
            last = json.loads(await anext(lines))
            assert (last["index"], last["status"]) == (0, "succeeded")


async def test_whoever_leaves_cancels_every_item(serve):
    async with serve() as door:
        for headers in (LINES, {}):
            sent = asyncio.ensure_future(send(door, ["print", "wait never", "wait never"], headers=headers))
            executor = door.app.state.executor
            async with asyncio.timeout(10):
                while executor.stats().running < 2:
                    await asyncio.sleep(0.01)
                sent.cancel()
                while executor.stats().running:
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("count", [1, 7, 100])
async def test_the_whole_response_keeps_its_size_and_small_items_are_whole(count, open_door):
    async with open_door(max_response=100_000) as door:
        loud = "flood 200000\nerror é\nwrite a/b.txt " + "x" * 5000 + "\nexit 3"
        response = await send(door, ["print small", *[loud] * (count - 1)] if count > 1 else [loud])
        assert len(response.text) <= 100_000
        items = response.json()["items"]
        assert [item["usage"]["stdout_bytes"] for item in items][-1] == 200_000
        if count > 1:
            assert items[0]["stdout"] == "small\n"
            assert len(response.text) > 90_000


@given(lengths=st.lists(st.integers(0, 1000), max_size=20), total=st.integers(0, 20_000))
async def test_shares_are_within_the_whole_and_nobody_gets_more_than_it_needs(lengths, total):
    given_ = shares(lengths, total)
    assert sum(given_) <= total
    assert all(share <= length for share, length in zip(given_, lengths, strict=True))
    if sum(lengths) <= total:
        assert given_ == lengths
