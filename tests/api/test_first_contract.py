"""The first contract's own calls and schema: every documented call gets its documented response."""

import jsonschema
import pytest

pytestmark = pytest.mark.anyio

ANSWER = {
    "type": "object",
    "required": ["output", "error", "exit_code", "execution_time", "timestamp"],
    "properties": {
        "output": {"type": "string"},
        "error": {"type": ["string", "null"]},
        "exit_code": {"type": "integer"},
        "execution_time": {"type": "number"},
        "timestamp": {"type": "string"},
    },
}
LANGUAGES = {
    "type": "object",
    "required": ["languages"],
    "properties": {
        "languages": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "version", "available"],
                "properties": {
                    "name": {"type": "string"},
                    "version": {"type": ["string", "null"]},
                    "available": {"type": "boolean"},
                },
            },
        }
    },
}


@pytest.fixture
async def first(open_door):
    """The first contract knew no token; that is for a server that listens on loopback alone."""
    async with open_door(allow_no_auth=True) as door:
        yield door.client


async def test_curl_of_health_gets_a_response(first):
    assert (await first.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"code": "print 2+2", "language": "python"},
        {"code": "print Hello from ChatGPT!", "language": "python"},
        {"code": "print 2 + 2", "language": "javascript"},
        {"code": "print 1", "language": "python", "timeout": 1},
        {"code": "print 1", "language": "python", "timeout": 30},
        {"code": "print 1"},
    ],
)
async def test_each_documented_call_responds_in_the_documented_shape(first, body):
    response = await first.post("/execute", json=body)
    assert response.status_code == 200
    jsonschema.validate(response.json(), ANSWER)
    assert response.json()["exit_code"] == 0


async def test_a_program_that_fails_has_error_and_exit_code(first):
    response = await first.post("/execute", json={"code": "error oops\nexit 1", "language": "python"})
    jsonschema.validate(response.json(), ANSWER)
    assert "oops" in response.json()["error"]
    assert response.json()["exit_code"] == 1


@pytest.mark.parametrize("body", [{"code": "", "language": "python"}, {"code": "print 1", "language": "cobolt"}])
async def test_invalid_code_or_language_is_a_bad_request(first, body):
    assert (await first.post("/execute", json=body)).status_code == 400


async def test_a_lost_sandbox_is_an_execution_error(first):
    assert (await first.post("/execute", json={"code": "die"})).status_code == 500


async def test_languages_are_listed_in_the_documented_shape(first):
    response = await first.get("/languages")
    jsonschema.validate(response.json(), LANGUAGES)
    names = [language["name"] for language in response.json()["languages"] if language["available"]]
    assert {"python", "javascript"} <= set(names)


async def test_option_a_a_bearer_token_is_required_and_taken(door):
    body = {"code": "print 1", "language": "python"}
    assert (await door.client.post("/execute", json=body)).status_code == 401
    assert (await door.execute("print 1", language="python")).status_code == 200
