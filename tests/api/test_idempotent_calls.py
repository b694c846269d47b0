"""``Idempotency-Key`` on ``POST /execute``."""

import asyncio

import pytest

from codex_server.access.tokens import TokenStore
from codex_server.service.schemas import ExecuteRequest, RequestFile, RequestLimits

pytestmark = pytest.mark.anyio
KEY = {"Idempotency-Key": "order-1"}
WHOLE = {
    "code": "print 1",
    "language": "python",
    "timeout": 5,
    "stdin": "in",
    "args": ["a"],
    "env": {"A": "a"},
    "files": [{"path": "a", "content": "AAAA", "encoding": "utf-8"}],
    "limits": {
        "memory_bytes": 2**26,
        "cpu_seconds": 2,
        "processes": 4,
        "output_bytes": 1000,
        "file_bytes": 1000,
    },
    "keep_stdin_open": False,
    "wait_seconds": 30,
    "merge_streams": False,
    "terminal": {"rows": 24, "columns": 80},
}
"""A request with every field that there is."""
ANOTHER = {
    "code": "print 2",
    "language": "bash",
    "timeout": 6,
    "stdin": "other",
    "args": ["b"],
    "env": {"A": "b"},
    "files": [],
    "limits": {},
    "keep_stdin_open": True,
    "wait_seconds": 31,
    "max_inline_bytes": 5,
    "merge_streams": True,
    "terminal": {"rows": 25, "columns": 80},
    "session": "ses_other",
    "if_busy": "reject",
    "files/path": "b",
    "files/content": "BBBB",
    "files/encoding": "base64",
    "files/file_id": "fil_other",
    "limits/memory_bytes": 2**25,
    "limits/cpu_seconds": 3,
    "limits/processes": 5,
    "limits/output_bytes": 1001,
    "limits/file_bytes": 1001,
}
"""For each field, and each one below, another value than ``WHOLE``'s."""
FIELDS = [
    *ExecuteRequest.model_fields,
    *(f"files/{name}" for name in RequestFile.model_fields),
    *(f"limits/{name}" for name in RequestLimits.__annotations__),
]


async def test_the_same_request_again_gets_the_same_response_and_runs_nothing(door):
    first = await door.execute("print 1", headers=KEY)
    second = await door.execute("print 1", headers=KEY)
    assert second.text == first.text
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["cache-control"] == "no-store"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(door.backend.executions) == 1


async def test_without_a_key_each_request_runs(door):
    await door.execute("print 1")
    await door.execute("print 1")
    assert len(door.backend.executions) == 2


async def test_a_failed_program_is_replayed_too(door):
    first = await door.execute("exit 1", headers=KEY)
    assert (await door.execute("exit 1", headers=KEY)).text == first.text


async def test_the_key_with_another_body_is_refused(door):
    await door.execute("print 1", headers=KEY)
    response = await door.execute("print 2", headers=KEY)
    assert response.status_code == 422
    assert response.json()["code"] == "idempotency-mismatch"
    assert len(door.backend.executions) == 1


@pytest.mark.parametrize("field", FIELDS)
async def test_the_key_with_another_value_of_any_field_is_refused(door, field):
    assert (await door.execute(**WHOLE, headers=KEY)).status_code == 200
    response = await door.execute(**changed(field), headers=KEY)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency-mismatch")
    assert len(door.backend.executions) == 1


def changed(field):
    """``WHOLE`` with the other value of one field, or of one field below ``files`` or ``limits``."""
    top, _, below = field.partition("/")
    value = ANOTHER[field]
    if top == "files" and below:
        value = [WHOLE["files"][0] | {below: value}]
    elif below:
        value = WHOLE[top] | {below: value}
    return WHOLE | {top: value}


async def test_of_many_at_once_one_runs_and_the_others_have_to_wait(door):
    calls = [asyncio.ensure_future(door.execute("wait go\nprint 1", headers=KEY)) for _ in range(20)]
    done, running = await asyncio.wait(calls, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    while len(running) > 1:
        more, running = await asyncio.wait(running, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert more
        done |= more
    assert {call.result().status_code for call in done} == {409}
    assert {call.result().json()["code"] for call in done} == {"idempotency-in-flight"}
    assert {call.result().headers["retry-after"] for call in done} == {"1"}
    door.backend.event("go").set()
    (first,) = [await call for call in running]
    assert first.status_code == 200
    assert (await door.execute("wait go\nprint 1", headers=KEY)).text == first.text
    assert len(door.backend.executions) == 1


async def test_a_response_of_500_frees_the_key(door):
    assert (await door.execute("die", headers=KEY)).status_code == 500
    assert (await door.execute("print 1", headers=KEY)).status_code == 200


async def test_a_refused_request_uses_no_key(door):
    assert (await door.execute("print 1", timeout=99, headers=KEY)).status_code == 422
    assert (await door.execute("print 1", headers=KEY)).status_code == 200


async def test_a_cancelled_first_request_frees_the_key(door):
    call = asyncio.ensure_future(door.execute("wait never", headers=KEY))
    while not door.backend.executions:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await door.execute("print 1", headers=KEY)).status_code == 200


async def test_a_key_belongs_to_its_token(open_door, tmp_path):
    store = TokenStore(tmp_path / "state")
    tokens = [store.create(name)[0] for name in ("one", "two")]
    async with open_door(api_token=None) as door:
        for number, token in enumerate(tokens):
            headers = KEY | {"Authorization": f"Bearer {token}"}
            response = await door.client.post("/execute", json={"code": f"print {number}"}, headers=headers)
            assert response.json()["stdout"] == f"{number}\n"


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "caf\u00e9"])
async def test_a_key_that_is_none_is_refused(door, key):
    response = await door.execute("print 1", headers={"Idempotency-Key": key.encode("latin-1")})
    assert response.status_code == 422
    assert response.json()["code"] == "invalid-request"
    assert response.json()["errors"][0]["pointer"] == "/header/Idempotency-Key"
    assert response.json()["detail"] == (
        "/header/Idempotency-Key: must be 1 to 255 printable ASCII characters without spaces"
    )


async def test_a_restarted_server_sends_the_first_answer_again(open_door):
    async with open_door() as door:
        first = await door.execute("print 1", headers=KEY)
    async with open_door() as door:
        again = await door.execute("print 1", headers=KEY)
        assert (again.text, again.headers["idempotency-replayed"]) == (first.text, "true")
        assert door.backend.executions == []


async def test_a_request_that_was_lost_with_its_server_is_refused_and_says_what_to_do(open_door, tmp_path):
    async with open_door() as door:
        call = asyncio.ensure_future(door.execute("wait go\nprint 1", headers=KEY))
        while not door.backend.executions:
            await asyncio.sleep(0)
        async with open_door() as restarted:
            answer = await restarted.execute("wait go\nprint 1", headers=KEY)
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-lost")
            assert "with a new key" in answer.json()["detail"]
            assert "retry-after" not in answer.headers
            assert restarted.backend.executions == []
        door.backend.event("go").set()
        assert (await call).status_code == 200


async def test_a_store_that_cannot_be_used_fails_requests_with_a_key_alone_and_runs_nothing(open_door, tmp_path):
    (tmp_path / "state").write_text("a file, not a folder")
    async with open_door() as door:
        assert (await door.execute("print 1", headers=KEY)).status_code == 500
        assert door.backend.executions == []
        assert (await door.execute("print 1")).status_code == 200
