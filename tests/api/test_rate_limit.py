"""How often a token may execute: 429, and the fields that report it before it comes to that."""

import inspect

import pytest
from fastapi.routing import iter_route_contexts

from codex_server.access.tokens import TokenStore
from codex_server.api.callers import within_rate

pytestmark = pytest.mark.anyio
LIMITED = {"/execute", "/execute/batch", "/execute/stream", "/actions/execute", "/files"} | {
    "/sessions",
    "/sessions/{session_id}/execute",
    "/sessions/{session_id}/execute/stream",
    "/sessions/{session_id}/stream",
    "/sessions/{session_id}/checkpoints",
    "/workspaces/{name}",
}
LIMITED |= {
    f"{owner}/files{operation}"
    for owner in ("/sessions/{session_id}", "/workspaces/{name}")
    for operation in [""]
    + [f"/{each}" for each in ("read", "edit", "search", "copy", "move", "delete", "combine", "archive", "extract")]
    + ["/{path:any_text}"]
}
"""Every route that runs code, opens a session, or works on a file in a sandbox; without those that only look."""


async def test_above_the_policy_the_response_is_429_and_says_when_to_come_back(open_door, limiter_clock):
    async with open_door(rate_limit="2/minute") as door:
        responses = [await door.execute("print 1") for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert [response.headers["ratelimit"] for response in responses] == [
            '"minute";r=1;t=60',
            '"minute";r=0;t=60',
            '"minute";r=0;t=60',
        ]
        assert {response.headers["ratelimit-policy"] for response in responses} == {'"minute";q=2;w=60'}
        assert responses[2].headers["retry-after"] == "60"
        assert responses[2].json()["code"] == "rate-limited"
        assert responses[2].json()["detail"] == (
            "the limit of requests is used up (2 in 60 s); wait 60 s before the next"
        )
        assert len(door.backend.executions) == 2
        limiter_clock.shift(60)
        assert (await door.execute("print 1")).status_code == 200


async def test_several_policies_are_all_reported(open_door):
    async with open_door(rate_limit="5/second;1000/day") as door:
        response = await door.execute("print 1")
    assert response.headers["ratelimit-policy"] == '"second";q=5;w=1, "day";q=1000;w=86400'
    assert response.headers["ratelimit"] == '"second";r=4;t=1, "day";r=999;t=86400'


async def test_a_refusal_names_every_policy_that_is_used_up_and_no_other(open_door, limiter_clock):
    async with open_door(rate_limit="1/second;9/minute;1/day") as door:
        await door.execute("print 1")
        refused = await door.execute("print 1")
    assert "(1 in 1 s and 1 in 86400 s); wait 86400 s" in refused.json()["detail"]


async def test_refusals_carry_the_count_too(open_door):
    async with open_door(rate_limit="9/hour") as door:
        response = await door.execute("print 1", timeout=99)
    assert response.status_code == 422
    assert response.headers["ratelimit"].startswith('"hour";r=8;')


async def test_a_replayed_response_counts_too(open_door):
    async with open_door(rate_limit="9/hour") as door:
        responses = [await door.execute("print 1", headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert responses[1].headers["idempotency-replayed"] == "true"
    assert responses[1].headers["ratelimit"].startswith('"hour";r=7;')
    assert len(door.backend.executions) == 1


async def test_each_token_has_its_own_count(open_door, tmp_path):
    store = TokenStore(tmp_path / "state")
    one, two = store.create("one")[0], store.create("two")[0]
    async with open_door(api_token=None, rate_limit="1/hour") as door:

        async def call(token):
            headers = {"Authorization": f"Bearer {token}"}
            return (await door.client.post("/execute", json={"code": "print 1"}, headers=headers)).status_code

        assert [await call(one), await call(one), await call(two), await call(two)] == [200, 429, 200, 429]


async def test_a_call_without_a_token_counts_for_nobody(open_door):
    async with open_door(rate_limit="1/hour") as door:
        for _ in range(3):
            assert (await door.client.post("/execute", json={"code": "p"})).status_code == 401
        assert (await door.execute("print 1")).status_code == 200


async def test_without_tokens_each_address_has_its_own_count(open_door):
    async with open_door(allow_no_auth=True, rate_limit="1/hour") as door:
        assert (await door.client.post("/execute", json={"code": "print 1"})).status_code == 200
        refused = await door.client.post("/execute", json={"code": "print 1"})
    assert refused.status_code == 429
    assert "token" not in refused.json()["detail"]


async def test_without_a_policy_there_are_no_fields(door):
    response = await door.execute("print 1")
    assert not [name for name in response.headers if name.startswith("ratelimit")]


async def test_every_route_that_runs_code_opens_a_session_or_takes_a_file_is_limited_and_no_other(make_app):
    app, _ = make_app()
    limited = set()
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None) or getattr(context.route, "dependant", None)
        calls = [each.call for each in dependant.dependencies] if dependant else []
        if within_rate in calls:
            limited.add(context.path)
    assert limited == LIMITED


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/languages"])
async def test_looking_is_not_limited(open_door, path):
    async with open_door(rate_limit="1/hour") as door:
        assert 429 not in [(await door.client.get(path)).status_code for _ in range(3)]


async def test_no_dependency_of_a_route_is_handed_to_a_thread(make_app):
    app, _ = make_app()

    def calls(dependant):
        yield from ([dependant.call] if dependant.call else [])
        for each in dependant.dependencies:
            yield from calls(each)

    for context in iter_route_contexts(app.routes):
        if dependant := getattr(context.route, "dependant", None):
            assert all(inspect.iscoroutinefunction(call) for call in calls(dependant)), context.path
