"""``nodes/local.py``: the executor of this process, as the doors see it."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from codex_server.errors import Draining, UnknownLanguage
from codex_server.execution.executor import Executor
from codex_server.languages import Languages
from codex_server.model import Caller, Execution, Status
from codex_server.nodes.local import LocalNode
from codex_server.nodes.node import LanguageInfo
from codex_server.packages.package_set import InstalledPackages, Package
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import Settings

pytestmark = pytest.mark.anyio
CALLER = Caller("tok_1", "someone")


@pytest.fixture
async def parts():
    async with FakeBackend() as backend:
        languages = fake_languages()
        executor = Executor(backend, languages, Settings.model_construct())
        await executor.start()
        yield LocalNode(executor, backend, languages), executor
        await executor.close()


async def test_a_submitted_execution_runs_to_its_outcome(parts):
    node, _ = parts
    run = node.submit(Execution("exe_1", "python", "print hi"), CALLER)
    assert (await run.outcome()).status is Status.SUCCEEDED


async def test_what_the_executor_refuses_the_node_refuses(parts):
    node, executor = parts
    with pytest.raises(UnknownLanguage):
        node.submit(Execution("exe_1", "klingon", "print hi"), CALLER)
    assert not node.capacity().draining
    await executor.drain(0)
    assert node.capacity().draining
    assert "the server is stopping" in node.problems()
    with pytest.raises(Draining):
        node.submit(Execution("exe_1", "python", "print hi"), CALLER)


async def test_capacity_counts_what_runs_and_names_the_level_of_the_back_end(parts):
    node, executor = parts
    run = node.submit(Execution("exe_1", "python", "wait never"), CALLER)
    await run.admitted()
    capacity = node.capacity()
    assert (capacity.running, capacity.queued) == (1, 0)
    assert str(capacity.isolation) in {"confined", "namespaces", "full"}
    assert capacity.armed == executor.stats().armed
    await run.abandon()
    assert node.capacity().running == 0


def test_a_language_crosses_without_any_path_of_the_host(tmp_path):
    installed = InstalledPackages(tmp_path, "pip", "python", (Package("numpy", "2.0"),), 0)
    languages = Languages(replace(each, packages=installed) for each in fake_languages())
    shown = LocalNode(None, None, languages).languages()
    assert [language.name for language in shown] == [language.name for language in languages]
    assert shown[0].packages == (Package("numpy", "2.0"),)
    for language in shown:
        assert not [field for field in fields(LanguageInfo) if isinstance(getattr(language, field.name), Path)]
        assert str(tmp_path) not in repr(language)
