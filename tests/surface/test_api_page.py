"""``docs/api.md`` names every route, field, status and limit of the code.

``docs/sessions.md`` and ``docs/workspaces.md`` do for their parts.
"""

import re
from pathlib import Path
from typing import get_args

import pytest

from codex_server.api.application import build_api
from codex_server.model import Status
from codex_server.observe.metrics import Metrics
from codex_server.service.request_parsing import MAX_ARGS
from codex_server.service.schemas import (
    ExecuteRequest,
    ExecuteResponse,
    HealthResponse,
    LanguageEntry,
    RequestLimits,
    Usage,
)
from codex_server.service.session_schemas import (
    CheckpointRequest,
    CheckpointResponse,
    SessionExecuteResponse,
    SessionLimits,
    SessionRequest,
    SessionResponse,
)
from codex_server.service.shell_schemas import ShellEntry, ShellRequest, ShellResponse
from codex_server.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
TEXT, SESSIONS, WORKSPACES = (
    (DOCS / name).read_text(encoding="utf-8") for name in ("api.md", "sessions.md", "workspaces.md")
)


def words_of(page):
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    return set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", prose))))


WORDS = words_of(TEXT)


def test_every_route_is_named():
    app = build_api(Settings.model_construct(), Metrics())
    for path in app.openapi()["paths"]:
        assert re.search(rf"(GET|POST|PUT|DELETE) {path}[`\n]", TEXT + SESSIONS + WORKSPACES), path


@pytest.mark.parametrize(
    "model",
    [
        SessionRequest,
        SessionResponse,
        SessionLimits,
        SessionExecuteResponse,
        CheckpointRequest,
        CheckpointResponse,
        ShellRequest,
        ShellResponse,
        ShellEntry,
    ],
)
def test_every_field_of_sessions_is_named(model):
    assert set(model.model_fields) <= WORDS | words_of(SESSIONS)


@pytest.mark.parametrize("model", [ExecuteRequest, ExecuteResponse, Usage, HealthResponse, LanguageEntry])
def test_every_field_is_named(model):
    assert set(model.model_fields) <= WORDS


def test_every_limit_and_status_is_named():
    assert set(RequestLimits.__annotations__) <= WORDS
    assert {status.value for status in Status} <= WORDS


def test_every_status_of_health_is_explained_there_and_in_the_openapi_document():
    field = HealthResponse.model_fields["status"]
    for word in get_args(field.annotation):
        assert re.search(rf"\b{word}\b[:;]", field.description)
        assert word in WORDS


def test_the_settings_that_it_names_exist():
    named = {name.lower() for name in re.findall(r"CODEX_([A-Z_]+)", TEXT + SESSIONS)} - {"token"}
    assert named <= set(Settings.model_fields)


def test_its_numbers_are_the_defaults():
    settings = Settings.model_construct()
    assert f"number, 1 to {settings.max_timeout:g} | {settings.default_timeout:g} |" in TEXT
    assert f"under {settings.max_response:,} characters" in TEXT
    assert f"at most {MAX_ARGS}," in TEXT
    assert (settings.max_code, settings.max_inline_file) == (2**20, 32 * 2**10)
