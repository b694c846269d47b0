"""``/actions``: the document that ChatGPT imports keeps each of its rules, and the responses are as it says."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import validate

from codex_server.packages.package_set import InstalledPackages, Package
from codex_server.sandboxes.testing.fake import fake_languages
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio
ADDRESS = "https://code.example.org"


@pytest.fixture
async def document(open_door):
    async with open_door(public_url=ADDRESS) as door:
        response = await door.client.get("/actions/openapi.json")
    assert response.status_code == 200
    return response.json()


def operations(document):
    return [each for path in document["paths"].values() for each in path.values()]


def named(document, name):
    return next(each for each in operations(document) if each["operationId"] == name)


def response_schema(operation):
    return operation["responses"]["200"]["content"]["application/json"]["schema"]


def body_schema(document):
    return named(document, "executeCode")["requestBody"]["content"]["application/json"]["schema"]


def everything(node):
    """Each object of the document, however deep."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from everything(inner)


def contents(document):
    for each in operations(document):
        yield from each.get("requestBody", {}).get("content", {}).items()
        for response in each["responses"].values():
            yield from response.get("content", {}).items()


def is_described_object(schema):
    return schema["type"] == "object" and schema["properties"]


RULES = {
    "openapi is 3.1.0": (lambda d: d["openapi"] == "3.1.0", lambda d: d.update(openapi="3.0.0")),
    "bodies and responses are JSON": (
        lambda d: {kind for kind, _ in contents(d)} == {"application/json"},
        lambda d: named(d, "executeCode")["requestBody"]["content"].update({"multipart/form-data": {"schema": {}}}),
    ),
    "one address": (lambda d: len(d["servers"]) == 1, lambda d: d["servers"].append({"url": ADDRESS})),
    "the address is https and has no path": (
        lambda d: re.fullmatch(r"https://[^/]+", d["servers"][0]["url"]),
        lambda d: d["servers"][0].update(url="http://code.example.org"),
    ),
    "the address is the public one": (
        lambda d: d["servers"][0]["url"] == ADDRESS,
        lambda d: d["servers"][0].update(url="https://127.0.0.1:8000"),
    ),
    "three operations, at most thirty": (
        lambda d: {each["operationId"] for each in operations(d)} == {"executeCode", "listLanguages", "healthCheck"},
        lambda d: named(d, "healthCheck").update(operationId="readMetrics"),
    ),
    "an operation's name is a word and its own": (
        lambda d: (
            all(re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,63}", each["operationId"]) for each in operations(d))
            and len({each["operationId"] for each in operations(d)}) == len(operations(d))
        ),
        lambda d: named(d, "healthCheck").update(operationId="listLanguages"),
    ),
    "an operation's texts have at most 300 characters": (
        lambda d: all(0 < len(each[text]) <= 300 for each in operations(d) for text in ("summary", "description")),
        lambda d: named(d, "healthCheck").update(description="x" * 301),
    ),
    "every text has at most 700 characters": (
        lambda d: all(len(each.get("description", "")) <= 700 for each in everything(d)),
        lambda d: body_schema(d)["properties"]["code"].update(description="x" * 701),
    ),
    "no parameter is a header or a cookie": (
        lambda d: all(each.get("in") not in {"header", "cookie"} for each in everything(d)),
        lambda d: named(d, "executeCode").update(parameters=[{"name": "Idempotency-Key", "in": "header"}]),
    ),
    "every response is an object with properties": (
        lambda d: all(is_described_object(response_schema(each)) for each in operations(d)),
        lambda d: response_schema(named(d, "listLanguages")).update(type="array"),
    ),
    "every object has properties": (
        lambda d: all(is_described_object(each) for each in everything(d) if each.get("type") == "object"),
        lambda d: body_schema(d)["properties"].update(env={"type": "object"}),
    ),
    "no unions": (
        lambda d: not any(each.keys() & {"anyOf", "oneOf", "allOf"} for each in everything(d)),
        lambda d: body_schema(d)["properties"].update(x={"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ),
    "one type each, and none is null": (
        lambda d: (
            all(isinstance(each.get("type", ""), str | dict) for each in everything(d)) and '"null"' not in str(d)
        ),
        lambda d: body_schema(d)["properties"]["code"].update(type=["string", "null"]),
    ),
    "no references": (
        lambda d: not any("$ref" in each for each in everything(d)),
        lambda d: body_schema(d)["properties"].update(x={"$ref": "#/components/schemas/X"}),
    ),
    "every operation says whether it is consequential": (
        lambda d: all(isinstance(each["x-openai-isConsequential"], bool) for each in operations(d)),
        lambda d: named(d, "executeCode").update({"x-openai-isConsequential": None}),
    ),
    "what is got changes nothing": (
        lambda d: all(
            each["x-openai-isConsequential"] is False and "requestBody" not in each
            for path in d["paths"].values()
            for method, each in path.items()
            if method == "get"
        ),
        lambda d: named(d, "listLanguages").update(requestBody={}),
    ),
    "files of the conversation are an array of strings": (
        lambda d: all(
            each["openaiFileIdRefs"] == {"type": "array", "items": {"type": "string"}}
            for each in everything(d)
            if "openaiFileIdRefs" in each
        ),
        lambda d: body_schema(d)["properties"].update(openaiFileIdRefs={"type": "array", "items": {"type": "object"}}),
    ),
    "one way to authenticate, and open operations say that they are": (
        lambda d: (
            [each["type"] for each in d["components"]["securitySchemes"].values()] == ["http"]
            and [each["security"] for each in operations(d)] == [[{"BearerAuth": []}], [], []]
        ),
        lambda d: named(d, "healthCheck").pop("security"),
    ),
    "ChatGPT's editor finds a table of schemas": (
        lambda d: isinstance(d["components"]["schemas"], dict),
        lambda d: d["components"].pop("schemas"),
    ),
    "no program may take longer than ChatGPT waits": (
        lambda d: body_schema(d)["properties"]["timeout"]["maximum"] <= 40,
        lambda d: body_schema(d)["properties"]["timeout"].update(maximum=45),
    ),
    "it has less than 100,000 characters": (
        lambda d: len(json.dumps(d)) < 100_000,
        lambda d: d["info"].update(description="x" * 100_000),
    ),
    "nothing is said twice": (
        lambda d: not {"stdout", "stderr", "usage", "timestamp", "truncated"} & set(response_properties(d)),
        lambda d: response_schema(named(d, "executeCode"))["properties"].update(stdout={"type": "string"}),
    ),
}
"""Each rule with a way to break it: ChatGPT's own, from its pages for developers and what its editor refuses."""


def response_properties(document):
    return response_schema(named(document, "executeCode"))["properties"]


def keeps(rule, document):
    try:
        return bool(rule(document))
    except (KeyError, TypeError):
        return False


@pytest.mark.parametrize("name", RULES)
async def test_the_document_keeps_the_rule(name, document):
    rule, broken_by = RULES[name]
    assert rule(document), name
    broken = copy.deepcopy(document)
    broken_by(broken)
    assert not keeps(rule, broken), "the rule does not look at what it is about"


async def test_the_document_is_a_valid_one(document):
    validate(document)


async def test_a_prefix_of_the_public_address_goes_into_the_paths_and_a_long_timeout_is_cut(open_door):
    async with open_door(public_url=f"{ADDRESS}/codex/", max_timeout=300, default_timeout=60) as door:
        document = (await door.client.get("/actions/openapi.json")).json()
    assert document["servers"] == [{"url": ADDRESS}]
    assert next(iter(document["paths"])) == "/codex/actions/execute"
    timeout = body_schema(document)["properties"]["timeout"]
    assert (timeout["default"], timeout["maximum"]) == (40, 40)


async def test_a_proxy_that_is_trusted_reports_the_address(open_door):
    # uvicorn takes X-Forwarded-Proto of trusted proxies alone, and then the scheme is https.
    async with open_door() as door:
        response = await door.client.get("https://elsewhere.example/actions/openapi.json")
    assert response.json()["servers"] == [{"url": "https://elsewhere.example"}]
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["127.0.0.1:8000", "[::1]:8000", "codex:8000", "localhost"])
async def test_the_name_that_a_proxy_has_for_this_server_is_no_public_one(door, name):
    response = await door.client.get(f"https://{name}/actions/openapi.json")
    assert response.json()["code"] == "no-public-address"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "this server does not know its public address; set CODEX_PUBLIC_URL to the https address"),
        ({"public_url": "http://code.example.org"}, "CODEX_PUBLIC_URL is http://code.example.org, and ChatGPT calls"),
    ],
    ids=["unknown", "http"],
)
async def test_without_a_public_https_address_there_is_no_document_but_the_remedy(open_door, settings, expected):
    async with open_door(**settings) as door:
        forged = {"Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
        response = await door.client.get("/actions/openapi.json", headers=forged)
    assert (response.status_code, response.json()["code"]) == (404, "no-public-address")
    assert response.json()["detail"].startswith(expected)


def strictly(schema):
    """The schema, where nothing may be there that it does not name."""
    strict = copy.deepcopy(schema)
    for each in everything(strict):
        if each.get("type") == "object":
            each["additionalProperties"] = False
    return strict


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print hi", {"status": "succeeded", "exit_code": 0, "output": "hi\n"}),
        ("print hi\nerror oh", {"status": "succeeded", "exit_code": 0, "output": "hi\n", "error": "oh\n"}),
        ("error oh\nexit 3", {"status": "failed", "exit_code": 3, "output": "", "error": "Exit code 3\noh\n"}),
        ("signal 9", {"status": "signalled", "exit_code": 137, "output": "", "error": "Killed by SIGKILL (Killed)"}),
        (
            "write a.txt hello\nskip big.bin it is too large",
            {
                "status": "succeeded",
                "exit_code": 0,
                "output": "",
                "files": [{"path": "a.txt", "media_type": "text/plain", "content": "hello", "encoding": "utf-8"}],
                "skipped_files": [{"path": "big.bin", "reason": "it is too large"}],
            },
        ),
    ],
    ids=["output", "warning", "failure", "signal", "files"],
)
async def test_what_a_program_gets_is_what_the_document_says(code, expected, document, open_door):
    async with open_door() as door:
        response = (await door.client.post("/actions/execute", json={"code": code}, headers=BEARER)).json()
    jsonschema.validate(response, strictly(response_schema(named(document, "executeCode"))))
    assert response.pop("execution_time") >= 0
    assert response == expected


async def test_the_other_responses_are_what_the_document_says(document, open_door, tmp_path):
    shared = InstalledPackages(tmp_path, "npm", "node", (Package("lodash", "4.17.21"),), 1)
    languages = [replace(each, packages=shared) for each in fake_languages()]
    async with open_door(languages=type(fake_languages())(languages)) as door:
        listed = (await door.client.get("/actions/languages")).json()
        health = (await door.client.get("/actions/health")).json()
    jsonschema.validate(listed, strictly(response_schema(named(document, "listLanguages"))))
    jsonschema.validate(health, strictly(response_schema(named(document, "healthCheck"))))
    first, *others = listed["languages"]
    assert first["packages"] == ["lodash 4.17.21"]
    assert [each.get("packages_of") for each in others] == [first["name"]] * len(others)


async def test_a_response_fits_whatever_the_server_allows_others(open_door):
    async with open_door(max_response=2_000_000, max_output="1MiB") as door:
        long = await door.client.post("/actions/execute", json={"code": "print " + "é" * 300_000}, headers=BEARER)
    assert 90_000 < len(long.text) < 100_000


async def test_running_takes_a_token_and_refusals_are_problems(door):
    response = await door.client.post("/actions/execute", json={"code": "print hi"})
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    refused = await door.client.post("/actions/execute", json={"code": "print hi", "timeout": 99}, headers=BEARER)
    assert (refused.status_code, refused.json()["code"]) == (422, "limit-too-loose")


def test_the_five_steps_of_the_readme_import_this_document():
    steps = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").partition("## ChatGPT")[2]
    assert "`https://code.example.org/actions/openapi.json`" in steps.partition("\n## ")[0]
