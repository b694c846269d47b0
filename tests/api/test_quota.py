"""How much a token may use in a day: 429, and the fields that report it before it comes to that."""

import asyncio
import re

import pytest

from tests.api.conftest import BEARER
from tests.waiting import becomes

pytestmark = pytest.mark.anyio


def left(response):
    """What is left of each quota, by its name."""
    return {name: int(count) for name, count in re.findall(r'"([a-z-]+)";r=(\d+);t=\d+', response.headers["quota"])}


async def batch(door, *codes, **headers):
    body = {"items": [{"code": code} for code in codes]}
    return await door.client.post("/execute/batch", json=body, headers=BEARER | headers)


async def test_the_fields_count_down_and_the_refusal_says_when_to_come_back(open_door):
    async with open_door(quota_executions=2) as door:
        responses = [await door.execute("print 1") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert [left(response)["executions"] for response in responses] == [1, 0, 0]
    assert {response.headers["quota-policy"] for response in responses} == {'"executions";q=2;w=86400'}
    refusal = responses[2]
    assert refusal.json()["code"] == "quota-exceeded"
    assert refusal.headers["retry-after"] == re.findall(r"t=(\d+)", refusal.headers["quota"])[0]
    assert len(door.backend.executions) == 2


async def test_without_a_quota_there_are_no_fields_and_no_request_waits_for_the_store(open_door, monkeypatch):
    async with open_door() as door:
        usage = door.app.state.services.executions._usage
        monkeypatch.setattr(usage, "add", None)
        response = await door.execute("print 1")
    assert response.status_code == 200
    assert not {"quota", "quota-policy"} & set(response.headers)


async def test_cpu_seconds_count_when_a_program_has_ended(open_door):
    async with open_door(quota_cpu_seconds=5) as door:
        responses = [await door.execute("cpu 3") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert [left(response)["cpu-seconds"] for response in responses] == [5, 2, 0]
    assert responses[0].headers["quota-policy"] == '"cpu-seconds";q=5;w=86400'


async def test_both_quotas_are_reported(open_door):
    async with open_door(quota_cpu_seconds=5, quota_executions=7) as door:
        assert left(await door.execute("print")) == {"executions": 6, "cpu-seconds": 5}


async def test_every_door_that_runs_code_counts(open_door):
    async with open_door(quota_executions=5) as door:
        code = {"code": "print 1"}
        await door.execute("print 1")
        assert left(await door.client.post("/execute/stream", json=code, headers=BEARER)) == {"executions": 3}
        assert left(await door.client.post("/actions/execute", json=code, headers=BEARER)) == {"executions": 2}
        assert left(await door.execute("print 1", wait_seconds=0)) == {"executions": 1}
        await batch(door, "print 1")
        assert (await door.client.post("/execute/stream", json=code, headers=BEARER)).status_code == 429
        assert (await door.execute("print 1", wait_seconds=0)).status_code == 429


async def test_each_item_of_a_batch_counts_that_runs(open_door):
    async with open_door(quota_executions=9) as door:
        assert (await batch(door, "print 1", "", "print 2")).status_code == 200
        assert left(await door.execute("print 1")) == {"executions": 6}


@pytest.mark.parametrize("headers", [{}, {"Accept": "application/x-ndjson"}])
async def test_a_batch_that_does_not_fit_is_refused_as_a_whole(open_door, headers):
    async with open_door(quota_executions=2) as door:
        refused = await batch(door, "print 1", "print 2", "print 3", **headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota-exceeded")
        assert left(refused) == {"executions": 2}
        assert door.backend.executions == []


async def test_a_replayed_response_is_not_counted(open_door):
    async with open_door(quota_executions=1) as door:
        responses = [await door.execute("print 1", headers={"Idempotency-Key": "one"}) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 200]
    assert "quota" not in responses[1].headers


async def test_what_never_began_is_given_back(open_door):
    async with open_door(quota_executions=1, pool_sizes={"python": 0}) as door:
        door.backend.arms_that_fail = 99
        assert (await door.execute("print 1")).status_code == 503
        door.backend.arms_that_fail = 0
        assert (await door.execute("print 1")).status_code == 200


async def test_what_a_stopping_server_refuses_is_given_back(open_door, monkeypatch):
    async with open_door(quota_executions=1) as door:
        monkeypatch.setattr(door.app.state.executor, "_draining", True)
        assert (await door.execute("print 1")).json()["code"] == "draining"
        monkeypatch.undo()
        assert (await door.execute("print 1")).status_code == 200


async def test_an_invalid_request_is_not_counted(open_door):
    async with open_door(quota_executions=1) as door:
        assert (await door.execute("")).status_code == 400
        assert (await door.execute("print 1")).status_code == 200


async def test_whoever_leaves_before_the_end_pays_the_time_until_then(open_door):
    async with open_door(quota_cpu_seconds=1e-9) as door:
        call = asyncio.ensure_future(door.execute("wait never"))
        await becomes(lambda: _began(door))
        call.cancel()
        await asyncio.wait([call])
        await becomes(lambda: _refused(door))


async def test_a_restart_forgets_nothing(open_door):
    async with open_door(quota_executions=1) as door:
        assert (await door.execute("print 1")).status_code == 200
    async with open_door(quota_executions=1) as door:
        assert (await door.execute("print 1")).status_code == 429


async def _began(door):
    return len(door.backend.executions) == 1


async def _refused(door):
    return (await door.execute("print 1")).status_code == 429
