"""Every refusal of every route has one shape."""

import pytest
from starlette.exceptions import HTTPException

from codex_server import errors
from codex_server.api.problems import kinds
from codex_server.api.schemas import Problem

pytestmark = pytest.mark.anyio


def whole(response):
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    Problem.model_validate(body)
    assert body["status"] == response.status_code
    assert body["instance"] == response.headers["x-request-id"]
    assert body["type"] == f"/problems#{body['code']}"
    known = {kind.slug: kind for kind in kinds()}[body["code"]]
    assert (body["title"], body["status"]) == (known.title, known.status)
    return body


async def test_every_path_refuses_wrong_methods_with_the_right_ones(door):
    documented = door.app.openapi()["paths"]
    for path in [*documented, "/docs", "/problems", "/openapi.json"]:
        allowed = {method.upper() for method in documented.get(path, {"get": {}})}
        if "}/files/" in path:  # A file may have the name of an operation.
            allowed |= {"GET", "PUT", "DELETE"}
        for method in {"PUT", "PATCH", "DELETE", "TRACE", "BREW", "GET", "POST"} - allowed:
            answer = await door.client.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert whole(answer)["code"] == "method-not-allowed"
            assert "OPTIONS" in answer.headers["allow"]
            assert method not in answer.headers["allow"].split(", ")


async def test_options_lists_the_methods(door):
    response = await door.client.options("/execute")
    assert (response.status_code, response.headers["allow"], response.text) == (204, "OPTIONS, POST", "")
    assert (await door.client.options("/health")).headers["allow"] == "GET, HEAD, OPTIONS"


async def test_head_responds_as_get_without_the_body(door):
    for path in ("/", "/health", "/livez", "/readyz", "/languages", "/docs", "/openapi.json"):
        response = await door.client.head(path)
        assert response.status_code == 200, path
        assert response.text == ""
        assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "path", ["/nope", "/execute/", "/execute/x", "/.env", "/docs/../x", "/%2e%2e/etc/passwd", "/" + "x" * 5000]
)
async def test_an_unknown_path_is_a_problem(door, path):
    response = await door.client.get(path)
    assert response.status_code == 404
    assert whole(response)["code"] == "not-found"
    assert len(response.text) < 1000


async def test_a_fault_of_ours_reports_its_id_and_nothing_else(door, caplog, monkeypatch):
    def broken(*_args):
        raise RuntimeError("secret /root/path")

    monkeypatch.setattr("codex_server.operations.execute_code.to_execution", broken)
    response = await door.execute("print 1")
    assert response.status_code == 500
    assert whole(response)["code"] == "internal"
    assert "secret" not in response.text
    assert "RuntimeError: secret /root/path" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [(errors.SandboxFault("at /sys/fs/cgroup"), 500), (errors.ProtocolViolation("frame 7 of /x"), 500)],
)
async def test_a_lost_sandbox_shows_nothing_of_the_inside(door, monkeypatch, caplog, error, status):
    async def lost(*_args):
        raise error

    monkeypatch.setattr("codex_server.execution.run.Run.attended_outcome", lost)
    response = await door.execute("print 1")
    assert response.status_code == status
    body = whole(response)
    assert body["code"] == error.slug
    assert str(error) not in response.text
    assert str(error) in "".join(str(getattr(record, "cause", "")) for record in caplog.records)


async def test_a_sandbox_that_cannot_be_made_is_503_with_retry_after(door):
    door.backend.runs_that_find_death = 100
    response = await door.execute("print 1")
    assert response.status_code == 503
    assert whole(response)["code"] == "sandbox-unavailable"
    assert int(response.headers["retry-after"]) >= 1
    assert "fake" not in response.text


async def test_an_error_of_the_framework_is_a_problem_too(door, monkeypatch):
    def broken(*_args):
        raise HTTPException(418, "teapot")

    monkeypatch.setattr("codex_server.api.running.check_is_json", broken)
    response = await door.execute("print 1")
    assert response.status_code == 418
    assert response.json()["code"] == "malformed-request"


@pytest.mark.parametrize("sent", ["abc", "A.b_c-9", "x" * 64])
async def test_a_well_formed_request_id_is_kept(door, sent):
    response = await door.client.get("/nope", headers={"X-Request-ID": sent})
    assert response.headers["x-request-id"] == sent
    assert response.json()["instance"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", 'a"b', "<script>", "a/b", "é".encode()])
async def test_another_request_id_is_replaced(door, sent):
    response = await door.client.get("/health", headers={"X-Request-ID": sent})
    assert len(response.headers["x-request-id"]) == 32


async def test_each_request_has_an_id_of_its_own(door):
    responses = [await door.client.get("/livez") for _ in range(3)]
    assert len({response.headers["x-request-id"] for response in responses}) == 3


async def test_with_a_public_address_the_type_is_a_whole_url(open_door):
    async with open_door(public_url="https://box.example/") as door:
        response = await door.client.get("/nope")
    assert response.json()["type"] == "https://box.example/problems#not-found"


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/execute", "/nope"])
async def test_a_browser_is_kept_from_guessing_types_and_from_naming_pages_elsewhere(door, path):
    headers = (await door.client.get(path)).headers
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
