"""``service/missing.py``: which programs hear what there is to import, and where."""

from dataclasses import replace

import pytest

from codex_server.languages import Languages, load_languages
from codex_server.model import Captured, Outcome
from codex_server.packages.package_set import InstalledPackages
from codex_server.service.missing import advise
from codex_server.service.response import build_response, explain
from codex_server.service.truncation import encode, fit
from tests.service.test_response import outcome


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Languages:
    """The shipped ones, as if their packages were there."""
    installed = InstalledPackages(tmp_path_factory.mktemp("packages"), "pip", "python", (), 0)
    return Languages(replace(language, packages=installed) for language in load_languages())


def ended(stderr: str, exit_code: int = 1) -> Outcome:
    return outcome(exit_code=exit_code, stderr=Captured(stderr, total_bytes=len(stderr)))


@pytest.mark.parametrize(
    ("stderr", "word"),
    [
        ("Traceback ...\nModuleNotFoundError: No module named 'polars'\n", "Instead: pandas"),
        ("Traceback ...\nModuleNotFoundError: No module named 'matplotlb'\n", "Did you mean 'matplotlib'?"),
        ("Error: Cannot find module 'loadash'\nRequire stack:\n- /workspace/main.js\n", "Did you mean 'lodash'?"),
        ("Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'axios' imported from /workspace/main.js", "no network"),
    ],
)
def test_the_error_ends_with_what_to_do_about_a_package_that_is_missing(
    stderr: str, word: str, languages: Languages
) -> None:
    one = ended(stderr)
    error = fit(build_response(one, explain(one)), explain(one), 100_000, advise(one, languages)).error
    assert error
    *before, last = error.splitlines()
    assert before == ["Exit code 1", *stderr.splitlines()]
    assert last.startswith("Hint: ")
    assert word in last


def test_other_failures_and_successes_get_no_hint(languages: Languages) -> None:
    assert advise(ended("ValueError: No module named 'polars'"), languages) is None
    assert advise(ended("ModuleNotFoundError: No module named 'polars'", exit_code=0), languages) is None


def test_the_hint_is_kept_when_the_response_has_to_be_short(languages: Languages) -> None:
    one = ended("x" * 30_000 + "\nModuleNotFoundError: No module named 'polars'\n")
    response = fit(build_response(one, explain(one)), explain(one), 10_000, hint := advise(one, languages))
    assert len(encode(response)) <= 10_000
    assert hint
    assert (response.error or "").endswith(hint)
