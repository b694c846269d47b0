"""The OpenAPI document for ChatGPT's actions, under their rules: a few operations, each schema plain and in place.

No header parameters, no unions, no null, no references, one https address without a path, texts of at most 300 and 700
characters: ``tests/api/test_actions.py`` has each rule.
"""

from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from codex_server import __version__
from codex_server.api.openapi import BEARER, REFERENCE, SUMMARY, TITLE, request_schemas
from codex_server.service.lean import LeanHealth, LeanLanguages, LeanOutcome
from codex_server.settings import Settings

PATH = "/actions"
MAX_CHARS = 99_999
"""ChatGPT takes answers below 100,000 characters."""
_MAX_SECONDS = 40.0
"""It waits 45 seconds for an answer; so much of it a program may take."""
_FIELDS = ("code", "language", "timeout", "stdin", "args", "files")
"""What a model has a use for; the route takes the others too."""
_PROBLEM = {"description": "A refusal; its `detail` says what to do"}
_PLACEHOLDER = {
    "url": "https://codex-server.example",
    "description": "A placeholder, for this server's address is not known: set CODEX_PUBLIC_URL to it",
}


def build_actions_document(settings: Settings, address: str | None) -> dict[str, Any]:
    """The document of a server that ChatGPT reaches at ``address`` (https, perhaps with a path).

    Without one it names a placeholder that leads nowhere, and says so.
    """
    parts = urlsplit(address or "")
    prefix = parts.path.rstrip("/") + PATH
    server = {"url": f"{parts.scheme}://{parts.netloc}"} if address else dict(_PLACEHOLDER)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": SUMMARY},
        "servers": [server],
        "paths": {
            f"{prefix}/execute": {"post": _execute(settings)},
            f"{prefix}/languages": {"get": _languages()},
            f"{prefix}/health": {"get": _health()},
        },
        "components": {"schemas": {}, "securitySchemes": {"BearerAuth": dict(BEARER)}},
    }


def _execute(settings: Settings) -> dict[str, Any]:
    schemas = request_schemas(settings)
    request = _plain(schemas["ExecuteRequest"], schemas)
    fields = {name: request["properties"][name] for name in _FIELDS}
    longest = min(settings.max_timeout, _MAX_SECONDS)
    fields["timeout"] |= {"maximum": longest, "default": min(settings.default_timeout, longest)}
    fields["language"]["description"] = "A name that `listLanguages` gives"
    return _operation(
        "executeCode",
        "Run a program",
        "Runs a program in a fresh sandbox without network and returns what it printed. Variables and files do not "
        "last: send the files that it needs, and let it print or write into its current folder what is wanted back.",
        LeanOutcome,
        is_open=False,
    ) | {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object", "properties": fields, "required": ["code"]}}},
        }
    }


def _languages() -> dict[str, Any]:
    told = "Returns the languages that programs can be written in, with the packages that they may import."
    return _operation("listLanguages", "List the languages", told, LeanLanguages, is_open=True)


def _health() -> dict[str, Any]:
    told = "Returns whether the server can run programs now, and how strongly it isolates them."
    return _operation("healthCheck", "Tell how the server is", told, LeanHealth, is_open=True)


def _operation(name: str, summary: str, description: str, answer: type[BaseModel], *, is_open: bool) -> dict[str, Any]:
    """A sandbox has no network and nothing in it lasts: no operation here changes anything outside of it."""
    _, found = models_json_schema([(answer, "serialization")], ref_template=REFERENCE)
    schema = _plain(found["$defs"][answer.__name__], found["$defs"])
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        "x-openai-isConsequential": False,
        "security": [] if is_open else [{"BearerAuth": []}],
        "responses": {
            "200": {"description": schema["description"], "content": {"application/json": {"schema": schema}}},
            "default": _PROBLEM,
        },
    }


def _plain(schema: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with what it refers to in place, and without null: such a field is left out of an answer."""
    plain = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "title", "examples")}
    if reference := schema.get("$ref"):
        plain = _plain(known[reference.rpartition("/")[2]], known) | plain
    for choice in schema.get("anyOf", ()):
        if choice != {"type": "null"}:
            plain = _plain(choice, known) | plain
    if plain.get("default", ...) is None:
        del plain["default"]
    if "properties" in plain:
        plain["properties"] = {name: _plain(field, known) for name, field in plain["properties"].items()}
    if "items" in plain:
        plain["items"] = _plain(plain["items"], known)
    return plain
