"""The OpenAPI document: what FastAPI finds, with what it cannot know put in."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from codex_server import __version__
from codex_server.api.checkpoints_docs import LIST as CHECKPOINTS
from codex_server.api.executions_docs import CANCEL, FOLLOW, LIST
from codex_server.api.route_docs import BATCH, EXECUTE
from codex_server.api.schemas import Problem
from codex_server.api.sessions_docs import EXECUTE_IN, LOOK, OPEN
from codex_server.api.sessions_docs import LIST as SESSIONS
from codex_server.api.shells_docs import CALL
from codex_server.service.file_schemas import FILE_REQUESTS
from codex_server.service.schemas import BatchRequest, ExecuteRequest, InputRequest
from codex_server.service.session_schemas import CheckpointRequest, SessionRequest
from codex_server.service.shell_schemas import ShellRequest
from codex_server.settings import Settings

TITLE = "Codex Server"
SUMMARY = "Runs the code that a model or a person sends, in a fresh sandbox without network."
_TAGS = [
    {"name": "execution", "description": "Run programs"},
    {"name": "workspace", "description": "Folders of the operator's that sessions may work in, and their files"},
    {"name": "session", "description": "Programs that remember: a sandbox kept from one execution to the next"},
    {"name": "operation", "description": "How the server is"},
]
_EXECUTION = "/executions/{execution_id}"
_SESSION = "/sessions/{session_id}"
_WITH_NULLS = (
    ("/execute", "post", EXECUTE),
    ("/execute/batch", "post", BATCH),
    ("/executions", "get", LIST),
    (_EXECUTION, "get", FOLLOW),
    (_EXECUTION, "delete", CANCEL),
    ("/sessions", "post", OPEN),
    ("/sessions", "get", SESSIONS),
    (_SESSION, "get", LOOK),
    (f"{_SESSION}/execute", "post", EXECUTE_IN),
    (f"{_SESSION}/shells/{{name}}", "post", CALL),
    ("/checkpoints", "get", CHECKPOINTS),
)
"""Routes with examples in which null has a meaning."""
REFERENCE = "#/components/schemas/{model}"
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of this server: `codex-server token create` makes one",
}


def install_document(app: FastAPI, settings: Settings) -> None:
    """Let ``app.openapi()`` (and ``/openapi.json``) give the whole document; it is made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build_document(app, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def build_document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The document of ``app``, with the ceilings of ``settings``."""
    document = get_openapi(
        title=TITLE,
        version=__version__,
        summary=SUMMARY,
        description="Every refusal is a problem after RFC 9457; its `detail` says what happened and what to do.",
        routes=app.routes,
        tags=_TAGS,
        servers=[_server(settings)],
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= request_schemas(settings)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {"BearerAuth": dict(BEARER)}
    for path in document["paths"].values():
        for operation in path.values():
            operation.setdefault("security", [])  # said, not left out: this route asks for no token
            _use_our_problems(operation)
            _simplify_parameters(operation)
    # FastAPI drops every null, also those that an example is about.
    for path, method, docs in _WITH_NULLS:
        status = docs.get("status_code", 200)
        content = document["paths"][path][method]["responses"][str(status)]["content"]["application/json"]
        content["examples"] = docs["responses"][status]["content"]["application/json"]["examples"]
    return document


def _server(settings: Settings) -> dict[str, str]:
    if settings.public_url:
        return {"url": settings.public_url.rstrip("/"), "description": "This server"}
    return {"url": f"http://127.0.0.1:{settings.port}", "description": "This machine; CODEX_PUBLIC_URL names another"}


def request_schemas(settings: Settings) -> dict[str, Any]:
    """The schemas of what FastAPI does not read itself, with the ceilings of ``settings``."""
    _, found = models_json_schema(
        [
            (ExecuteRequest, "validation"),
            (BatchRequest, "validation"),
            (InputRequest, "validation"),
            (SessionRequest, "validation"),
            (ShellRequest, "validation"),
            *((model, "validation") for model in FILE_REQUESTS),
            (CheckpointRequest, "validation"),
            (Problem, "serialization"),
        ],
        ref_template=REFERENCE,
    )
    schemas: dict[str, Any] = found["$defs"]
    fields = schemas["ExecuteRequest"]["properties"]
    fields["timeout"] |= {"default": settings.default_timeout, "maximum": settings.max_timeout}
    fields["code"] |= {"maxLength": settings.max_code}
    schemas["SessionRequest"]["properties"]["ttl_seconds"] |= {
        "default": settings.session_idle_seconds,
        "maximum": settings.max_session_idle_seconds,
    }
    ceilings = settings.ceilings
    for name, field in schemas["RequestLimits"]["properties"].items():
        field["maximum"] = getattr(ceilings, name)
    return schemas


def _use_our_problems(operation: dict[str, Any]) -> None:
    """FastAPI describes its own 422, which nobody ever gets."""
    responses = operation["responses"]
    content = responses.get("422", {}).get("content", {})
    content.pop("application/json", None)
    if "422" in responses and not content:
        del responses["422"]


def _simplify_parameters(operation: dict[str, Any]) -> None:
    """A parameter that may be left out is no parameter that may be null."""
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        for choice in schema.pop("anyOf", []):
            if choice != {"type": "null"}:
                schema |= choice
        schema.pop("description", None)
