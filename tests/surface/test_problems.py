"""Every error has a word, a number and a paragraph; the documents say the same as the code."""

import importlib
import pkgutil
import re
from pathlib import Path

import codex_server
from codex_server import errors, file_errors
from codex_server.api import problem_pages
from codex_server.api.problems import client_errors, kinds, status_of

OURS = (errors.__name__, file_errors.__name__)
FILE = Path(__file__).parents[2] / "docs" / "problems.md"


def every_class(root=errors.CodexError):
    return [root, *(found for kind in root.__subclasses__() for found in every_class(kind))]


def import_everything():
    for module in pkgutil.walk_packages(codex_server.__path__, "codex_server."):
        # the room runs inside a sandbox, and a module named __main__ may act when imported
        if ".room" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_every_error_that_reaches_a_client_has_a_number():
    import_everything()
    for kind in every_class()[1:]:
        if not issubclass(kind, errors.StartupError):
            assert 400 <= status_of(kind) <= 599


def test_every_error_of_the_tree_has_a_word_of_its_own():
    slugs = [kind.slug for kind in every_class() if kind.__module__ in OURS]
    assert len(set(slugs)) == len(slugs)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in slugs)


def test_every_word_of_a_client_error_has_its_kind_once():
    slugs = [kind.slug for kind in kinds()]
    assert len(set(slugs)) == len(slugs)
    assert {kind.slug for kind in client_errors()} <= set(slugs)


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = set(re.findall(r"[|`]- (\w+)", errors.__doc__ + file_errors.__doc__))
    assert drawn == {kind.__name__ for kind in every_class()[1:] if kind.__module__ in OURS}


def test_the_document_is_what_the_code_says():
    assert FILE.read_text(encoding="utf-8") == problem_pages.as_markdown(), "docs/problems.md is stale; run `make docs`"


def test_every_kind_has_its_paragraph():
    text = FILE.read_text(encoding="utf-8")
    for kind in kinds():
        assert f"\n## {kind.slug}\n" in text
        assert kind.remedy in text


def test_settings_that_the_paragraphs_name_exist():
    from codex_server.settings import Settings

    named = set(re.findall(r"CODEX_([A-Z_]+)", problem_pages.as_markdown()))
    assert {name.lower() for name in named} <= set(Settings.model_fields)
