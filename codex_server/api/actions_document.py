"""The OpenAPI document for ChatGPT's actions, under their rules: a few operations, each schema plain and in place.

No header parameters, no unions, no null, no references, one https address without a path, texts of at most 300 and 700
characters: ``tests/api/test_actions.py`` has each rule.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from codex_server import __version__
from codex_server.api.openapi import BEARER, REFERENCE, SUMMARY, TITLE, request_schemas
from codex_server.operations.catalogue import CATALOGUE
from codex_server.operations.operation import Operation
from codex_server.service.lean import LeanHealth, LeanLanguages, LeanOutcome
from codex_server.service.schemas import ExecuteRequest
from codex_server.settings import Settings

PATH = "/actions"
MAX_CHARS = 99_999
"""ChatGPT takes responses below 100,000 characters."""
_MAX_SECONDS = 40.0
"""It waits 45 seconds for a response; so much of it a program may take."""
_FIELDS = ("code", "language", "timeout", "stdin", "args", "files")
"""What a model has a use for; the route takes the others too."""
_PROBLEM = {"description": "A refusal; its `detail` says what to do"}


@dataclass(frozen=True, slots=True)
class _Face:
    """How an operation is offered here; ``response`` is the lean form of its output."""

    path: str
    method: str
    response: type[BaseModel]
    is_open: bool


_FACES = {
    "execute_code": _Face("/execute", "post", LeanOutcome, is_open=False),
    "list_languages": _Face("/languages", "get", LeanLanguages, is_open=True),
    "health_check": _Face("/health", "get", LeanHealth, is_open=True),
}
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
            prefix + face.path: {face.method: _describe(operation, face, settings)}
            for operation in CATALOGUE.values()
            if (face := _FACES.get(operation.name))
        },
        "components": {"schemas": {}, "securitySchemes": {"BearerAuth": dict(BEARER)}},
    }


def _describe(operation: Operation[Any, Any], face: _Face, settings: Settings) -> dict[str, Any]:
    _, found = models_json_schema([(face.response, "serialization")], ref_template=REFERENCE)
    schema = _plain(found["$defs"][face.response.__name__], found["$defs"])
    described = {
        "operationId": _camel(operation.name),
        "summary": operation.title,
        "description": operation.summary,
        "x-openai-isConsequential": operation.effect.lasts,
        "security": [] if face.is_open else [{"BearerAuth": []}],
        "responses": {
            "200": {"description": schema["description"], "content": {"application/json": {"schema": schema}}},
            "default": _PROBLEM,
        },
    }
    if operation.input is ExecuteRequest:
        described["requestBody"] = _program(settings)
    return described


def _program(settings: Settings) -> dict[str, Any]:
    schemas = request_schemas(settings)
    request = _plain(schemas["ExecuteRequest"], schemas)
    fields = {name: request["properties"][name] for name in _FIELDS}
    longest = min(settings.max_timeout, _MAX_SECONDS)
    fields["timeout"] |= {"maximum": longest, "default": min(settings.default_timeout, longest)}
    fields["language"]["description"] = "A name that `listLanguages` gives"
    schema = {"type": "object", "properties": fields, "required": ["code"]}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _plain(schema: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with what it refers to in place, and without null: such a field is left out of a response."""
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
