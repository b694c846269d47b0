"""The handlers, called as a door calls them."""

import asyncio

import pytest

from codex_server.app import open_artifacts, open_executions, open_kept_files, open_sessions
from codex_server.errors import UnknownLanguage
from codex_server.execution.events import Finished, Started
from codex_server.execution.executor import Executor
from codex_server.model import Caller, Status
from codex_server.nodes.local import LocalNode
from codex_server.observe.metrics import Metrics
from codex_server.operations.catalogue import CATALOGUE
from codex_server.operations.context import Context
from codex_server.operations.operation import NoInput
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.service.cursors import Cursors
from codex_server.service.lean import LEAN
from codex_server.service.schemas import ExecuteRequest
from codex_server.service.truncation import WHOLE
from codex_server.service.uploads import Uploads
from codex_server.settings import Settings
from codex_server.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
CALLER = Caller("tok_1", "someone")


@pytest.fixture
async def surroundings():
    """A function that makes a context, and the runs that it followed."""
    runs = []
    async with FakeBackend() as backend:
        languages, settings = fake_languages(), Settings.model_construct()
        executor = Executor(backend, languages, settings)
        await executor.start()
        node = LocalNode(executor, backend, languages)
        store = MemoryStore()
        files = open_kept_files(settings, store)
        artifacts = open_artifacts(settings, files, store)
        uploads = Uploads(files, Cursors(store, "files"), settings.max_upload)
        executions = open_executions(settings, node, store, artifacts, languages)
        sessions = open_sessions(settings, node, store, Metrics())
        yield (
            (
                lambda room=20_000, form=WHOLE: Context(
                    node, executions, uploads, sessions, settings, languages, room, form, runs.append
                )
            ),
            runs,
        )
        await executor.close()


async def call(name, request, context):
    return await CATALOGUE[name](CALLER, request, context)


async def test_code_is_run_and_its_run_can_be_followed(surroundings):
    context, runs = surroundings
    response = await call("execute_code", ExecuteRequest(code="print hi"), context())
    assert (response.status, response.stdout) == (Status.SUCCEEDED, "hi\n")
    [run] = runs
    assert run.id == response.execution_id
    events = run.events()
    facts = []
    while event := events.next():
        facts.append(type(event.fact))
    assert (facts[0], facts[-1]) == (Started, Finished)


async def test_a_caller_that_leaves_ends_the_program(surroundings):
    context, runs = surroundings
    call_ = asyncio.ensure_future(call("execute_code", ExecuteRequest(code="wait never"), context()))
    await asyncio.sleep(0)  # it has been submitted by then
    await runs[0].admitted()
    call_.cancel()
    await asyncio.wait([call_])
    assert call_.cancelled()
    assert runs[0].ended


async def test_what_is_refused_begins_no_run(surroundings):
    context, runs = surroundings
    with pytest.raises(UnknownLanguage):
        await call("execute_code", ExecuteRequest(code="print hi", language="klingon"), context())
    assert not runs


@pytest.mark.parametrize("form", [WHOLE, LEAN])
async def test_the_response_fits_in_the_form_that_the_door_writes(surroundings, form):
    context, _ = surroundings
    response = await call("execute_code", ExecuteRequest(code="flood 100000\nexit 3"), context(12_000, form))
    assert 10_000 < len(form.encode(response)) <= 12_000
    assert response.truncated.stdout


async def test_languages_and_health_come_from_the_node(surroundings):
    context, _ = surroundings
    listed = await call("list_languages", NoInput(), context())
    health = await call("health_check", NoInput(), context())
    assert [language.name for language in listed.languages] == [language.name for language in fake_languages()]
    assert health.languages == [language.name for language in listed.languages if language.available]
    assert health.status == "healthy"
