"""The document against a real server: whatever a client makes of it gets a documented response."""

import asyncio
import socket
import threading

import httpx2
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from codex_server.api.protocol import guarded
from codex_server.app import create_app
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import Settings
from tests.tiers import examples

TOKEN = "codex_" + "f" * 43
GETS = ("listLanguages", "healthCheck", "liveness", "readiness", "home", "readMetrics")
CASES = [
    ("executeCode", GenerationMode.POSITIVE),
    ("executeCode", GenerationMode.NEGATIVE),  # the others take nothing that could be wrong
    *((name, GenerationMode.POSITIVE) for name in GETS),
]


class Server(threading.Thread):
    """uvicorn in a thread of its own, for schemathesis is not asynchronous."""

    def __init__(self, app):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, http=guarded(20), log_config=None))

    def run(self):
        asyncio.run(self.server.serve(sockets=[self.listener]))


@pytest.fixture(scope="module")
def api():
    settings_ = Settings.model_construct(api_token=None, allow_no_auth=False, rate_limit="")
    # With a longer time for the background, a timeout that the schema refuses would be taken beside `wait_seconds`.
    changes = {"api_token": Settings(api_token=TOKEN).api_token, "max_background_timeout": settings_.max_timeout}
    settings_ = settings_.model_copy(update=changes)
    server = Server(create_app(settings_, backend=FakeBackend(), languages=fake_languages()))
    server.start()
    try:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    finally:
        server.server.should_exit = True
        server.join(30)
        assert not server.is_alive()


FUZZ = settings(max_examples=examples(50), suppress_health_check=list(HealthCheck), database=None)
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_every_call_gets_a_documented_response(api, name, mode):
    # A schema cannot say which languages there are, or which paths collide: those refusals are documented ones.
    excluded = [positive_data_acceptance] if name == "executeCode" else []

    @FUZZ
    @given(case=api.find_operation_by_id(name).as_strategy(generation_mode=mode))
    def call(case):
        case.call_and_validate(headers=HEADERS, excluded_checks=excluded)

    call()


def test_every_call_that_fits_the_schema_and_names_a_language_is_taken(api):
    url = api.get_base_url().rstrip("/") + "/execute"

    @FUZZ
    @given(case=api.find_operation_by_id("executeCode").as_strategy(generation_mode=GenerationMode.POSITIVE))
    def call(case):
        taken = {name: value for name, value in case.body.items() if name in ("code", "timeout", "stdin", "limits")}
        body = taken | {"code": taken["code"].replace("\0", " "), "language": "python"}
        # Without the Idempotency-Key: one that was used before would be another matter.
        response = client.post(url, json=body)
        assert response.status_code == 200, response.text

    with httpx2.Client(headers=HEADERS, timeout=30) as client:
        call()
