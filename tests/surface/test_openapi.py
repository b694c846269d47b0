"""``openapi.yaml`` is the app's own document, is valid, and is complete."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from openapi_spec_validator import validate

from codex_server.api.route_docs import EXECUTE_REQUESTS
from codex_server.cli.openapi import render_document
from codex_server.service.request_parsing import read_request

FILE = Path(__file__).parents[2] / "openapi.yaml"
OPERATIONS = {
    "executeCode",
    "executeBatch",
    "streamCode",
    "listExecutions",
    "followExecution",
    "cancelExecution",
    "feedExecution",
    "openSession",
    "listSessions",
    "lookAtSession",
    "closeSession",
    "interruptSession",
    "executeInSession",
    "streamInSession",
    "listSessionFiles",
    "uploadSessionFile",
    "fetchSessionFile",
    "writeSessionFile",
    "removeSessionFile",
    "readSessionFiles",
    "editSessionFile",
    "searchSessionFiles",
    "copySessionFile",
    "moveSessionFile",
    "deleteSessionFile",
    "combineSessionFiles",
    "archiveSessionFiles",
    "extractSessionArchive",
    "listShells",
    "callShell",
    "closeShell",
    "listWorkspaces",
    "lookAtWorkspace",
    "listWorkspaceFiles",
    "uploadWorkspaceFile",
    "fetchWorkspaceFile",
    "writeWorkspaceFile",
    "removeWorkspaceFile",
    "readWorkspaceFiles",
    "editWorkspaceFile",
    "searchWorkspaceFiles",
    "copyWorkspaceFile",
    "moveWorkspaceFile",
    "deleteWorkspaceFile",
    "combineWorkspaceFiles",
    "archiveWorkspaceFiles",
    "extractWorkspaceArchive",
    "makeCheckpoint",
    "listCheckpoints",
    "lookAtCheckpoint",
    "removeCheckpoint",
    "fetchArtifact",
    "uploadFile",
    "listFiles",
    "removeFile",
    "listLanguages",
    "healthCheck",
    "liveness",
    "readiness",
    "readMetrics",
    "home",
}


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def operations(document):
    return [(path, method, op) for path, methods in document["paths"].items() for method, op in methods.items()]


def test_the_file_is_what_the_app_says():
    assert FILE.read_text(encoding="utf-8") == render_document(), "openapi.yaml is stale; run `make openapi`"


def test_the_document_does_not_depend_on_the_environment(monkeypatch):
    monkeypatch.setenv("CODEX_MAX_TIMEOUT", "77")
    monkeypatch.setenv("CODEX_PUBLIC_URL", "https://elsewhere.example")
    assert render_document() == FILE.read_text(encoding="utf-8")


def test_the_document_is_valid(document):
    validate(document)


def test_every_operation_has_its_name(document):
    assert {op["operationId"] for _, _, op in operations(document)} == OPERATIONS


def test_every_description_is_short_enough_for_chatgpt(document):
    for path, _, op in operations(document):
        assert 0 < len(op["description"]) <= 300, path
        for parameter in op.get("parameters", []):
            assert len(parameter["description"]) <= 700


def test_the_bearer_scheme_guards_what_needs_a_token(document):
    assert document["components"]["securitySchemes"]["BearerAuth"]["scheme"] == "bearer"
    guarded = {op["operationId"] for _, _, op in operations(document) if op.get("security") == [{"BearerAuth": []}]}
    assert OPERATIONS - guarded == {"fetchArtifact", "listLanguages", "healthCheck", "liveness", "readiness", "home"}
    for _, _, op in operations(document):
        assert "security" in op  # [] says that a route is open; leaving it out says nothing
        assert ("401" in op["responses"]) == (op["operationId"] in guarded)


def test_every_request_answer_and_problem_has_an_example(document):
    for path, _, op in operations(document):
        bodies = [op["requestBody"]] if "requestBody" in op else []
        for body in [*bodies, *op["responses"].values()]:
            for content in body.get("content", {}).values():
                assert content.get("examples") or content.get("example"), path


def test_every_example_fits_its_schema(document):
    for path, _, op in operations(document):
        bodies = [op["requestBody"]] if "requestBody" in op else []
        for body in [*bodies, *op["responses"].values()]:
            for content in body.get("content", {}).values():
                schema = {**content["schema"], "components": document["components"]}
                for name, example in content.get("examples", {}).items():
                    jsonschema.validate(example["value"], schema), (path, name)


def test_every_example_request_is_taken():
    for example in EXECUTE_REQUESTS.values():
        assert read_request(example["value"]).code


def test_the_first_contract_is_part_of_the_document(document):
    request = document["components"]["schemas"]["ExecuteRequest"]["properties"]
    assert request["language"]["default"] == "python"
    assert (request["timeout"]["default"], request["timeout"]["minimum"], request["timeout"]["maximum"]) == (10, 1, 30)
    response = document["components"]["schemas"]["ExecuteResponse"]["properties"]
    assert {"output", "error", "exit_code", "execution_time", "timestamp"} <= set(response)
    assert {"400", "500"} <= set(document["paths"]["/execute"]["post"]["responses"])


def test_problems_are_described_as_problems_only(document):
    for path, _, op in operations(document):
        for status, answer in op["responses"].items():
            if not status.startswith("2") and op["operationId"] != "readiness":
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
