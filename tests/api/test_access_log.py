"""One line for each request: who, what, how long; never code, output or a token."""

import io
import json
import logging

import pytest

from codex_server.observe.logging import configure_logging

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines():
    """Log lines as they are written, parsed."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(level="info", shape="json", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before


async def test_a_request_has_one_line_with_its_facts(door, lines):
    code = "print secret-output\n# secret-code"
    await door.execute(code, headers={"X-Request-ID": "my-id"}, stdin="secret-stdin", env={"K": "secret-env"})
    (line,) = [line for line in lines() if line["event"] == "request"]
    assert line["request_id"] == "my-id"
    assert (line["method"], line["route"], line["status"], line["caller"]) == (
        "POST",
        "/execute",
        200,
        "CODEX_API_TOKEN",
    )
    assert line["seconds"] >= 0
    assert line["execution_id"].startswith("exe_")
    assert (line["language"], line["outcome"], line["exit_code"]) == ("python", "succeeded", 0)
    assert (line["code_bytes"], len(line["code_sha256"]), line["stdout_bytes"]) == (len(code), 64, 14)
    text = json.dumps(lines())
    assert "secret" not in text
    assert "t" * 43 not in text


async def test_a_refusal_is_logged_by_its_word(door, lines):
    await door.client.post("/execute?token=codex_" + "s" * 43, json={"code": "secret"})
    (line,) = [line for line in lines() if line["event"] == "request"]
    assert (line["status"], line["problem"], line["caller"]) == (401, "unauthenticated", None)
    assert "s" * 43 not in json.dumps(lines())


async def test_a_fault_of_ours_is_logged_with_its_traceback_under_the_requests_id(door, lines, monkeypatch):
    def broken(*_args):
        raise RuntimeError("with a token codex_" + "z" * 43)

    monkeypatch.setattr("codex_server.operations.execute_code.to_execution", broken)
    response = await door.execute("print 1")
    (line,) = [line for line in lines() if line["level"] == "error"]
    assert line["request_id"] == response.json()["instance"]
    assert "RuntimeError: with a token ***" in line["exception"]
    assert "z" * 43 not in json.dumps(lines())
