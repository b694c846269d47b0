import itertools
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.cli.greeting import (
    Greeting,
    TokenSource,
    curl_line,
    describe_backend,
    describe_packages,
    render_greeting,
    state_dir_option,
)
from codex_server.interpreters import Interpreter
from codex_server.packages.package_set import InstalledPackages, Package, PackageSet
from codex_server.sandboxes.base import Isolation, IsolationLevel
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import load_settings

TOKEN = "codex_" + "x" * 43
PLACE = Path("/state/packages/python-3.11-abc")
WANTED = PackageSet("Python", "pip", Interpreter("python", Path("/usr/bin/python3")), PLACE, None, (), PLACE)
INSTALLED = InstalledPackages(PLACE, "pip", "/usr/bin/python3", (Package("numpy", "2"), Package("pandas", "3")), 2**30)
FIRST = Greeting(
    url="http://127.0.0.1:8000",
    public_url=None,
    isolation=Isolation(IsolationLevel.NAMESPACES, "own namespaces", ("no cgroups here: do this",)),
    token=TOKEN,
    token_source=TokenSource.STORE,
    state_dir=Path("/state"),
    seconds=1.23,
    command=".venv/bin/codex-server",
    packages="Python with 47",
    backend="embedded",
)


def test_the_first_start_shows_the_token_the_level_what_it_lacks_and_the_documents():
    text = render_greeting(FIRST)
    for part in ("http://127.0.0.1:8000", TOKEN, "namespaces: own namespaces", "no cgroups here", "/docs", "1.2 s"):
        assert part in text


def test_the_curl_line_is_one_shell_command_with_the_token_and_a_json_body():
    words = shlex.split(curl_line(FIRST))
    assert words[:3] == ["curl", "-sS", "http://127.0.0.1:8000/execute"]
    assert f"Authorization: Bearer {TOKEN}" in words
    assert words[-1] == '{"code": "print(6 * 7)"}'


def test_a_later_start_shows_no_token_but_where_they_are_and_how_to_make_one():
    text = render_greeting(replace(FIRST, token=None))
    assert TOKEN not in text
    assert "/state" in text
    assert ".venv/bin/codex-server token create NAME" in text
    assert '"Authorization: Bearer $TOKEN"' in text


def test_the_token_commands_look_at_the_state_folder_of_this_server(tmp_path: Path):
    assert state_dir_option(Path("/state"), Path("/state")) == ""
    option = state_dir_option(Path("/my state"), Path("/state"))
    assert option == " --state-dir '/my state'"
    text = render_greeting(replace(FIRST, token=None, state_dir_option=option))
    assert "codex-server token list --state-dir '/my state'`" in text
    assert "codex-server token create NAME --state-dir '/my state'`" in text


def test_a_token_from_the_environment_is_named_and_not_shown():
    text = render_greeting(replace(FIRST, token=None, token_source=TokenSource.SETTING))
    assert "the one in CODEX_API_TOKEN" in text


def test_the_address_of_the_curl_line_is_one_word_for_every_shell():
    assert "'http://[::1]:8000/execute'" in curl_line(replace(FIRST, url="http://[::1]:8000"))


def test_a_server_without_tokens_says_so_and_its_curl_line_has_none():
    text = render_greeting(replace(FIRST, token=None, token_source=TokenSource.NONE))
    assert "anyone who reaches this address can run code" in text
    assert "Authorization" not in text


def test_the_token_source_follows_the_settings():
    assert TokenSource.of(load_settings()) is TokenSource.STORE
    assert TokenSource.of(load_settings({"api_token": "x" * 16})) is TokenSource.SETTING
    assert TokenSource.of(load_settings({"allow_no_auth": True})) is TokenSource.NONE


@pytest.mark.parametrize(
    ("wanted", "there", "switched_on", "line"),
    [
        (WANTED, INSTALLED, True, "Python with 2"),
        (WANTED, None, True, "Python not installed: `codex-server runners install python`"),
        (None, None, True, "standard libraries only"),
        (None, None, False, "standard libraries only: switched off (data_packages)"),
    ],
)
def test_the_first_lines_tell_which_packages_programs_find(wanted, there, switched_on, line):
    languages = [replace(fake_languages().find("python"), wanted=wanted, packages=there), fake_languages().find("bash")]
    assert describe_packages(languages, switched_on=switched_on) == line
    assert f"  packages   {line}\n" in render_greeting(replace(FIRST, packages=line, command="codex-server"))


def test_the_back_end_is_named():
    assert "\n  backend    embedded\n" in render_greeting(FIRST)
    assert describe_backend(FakeBackend()) == "fake"


def test_docker_in_the_place_of_embedded_says_why_on_lines_that_fit_a_terminal():
    backend = FakeBackend()
    backend.name = "docker"
    backend.in_place_of = (
        "this host does not allow isolation level namespaces (CODEX_MIN_ISOLATION):\n"
        "- user namespaces: they are switched off; sysctl user.max_user_namespaces=15000\n"
        "- cgroups: none are delegated"
    )
    text = render_greeting(replace(FIRST, backend=describe_backend(backend)))
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("  backend    docker, because the"))
    told = list(itertools.takewhile(lambda line: not line.startswith("  isolation"), lines[start:]))
    assert all(len(line) <= 110 for line in told)
    assert all(line.startswith(" " * 13) for line in told[1:])
    joined = " ".join(line.strip() for line in told)
    assert "cannot start here: this host does not allow isolation level namespaces" in joined
    assert "they are switched off; sysctl user.max_user_namespaces=15000 cgroups: none are delegated" in joined


def test_languages_whose_images_are_missing_are_told_below_the_level_without_calling_it_weaker():
    missing = "bash is left out: the image codex-runner-bash:1 is missing: `codex-server runners build bash` builds it"
    full = Isolation(IsolationLevel.FULL, "a container of its own for each sandbox", (missing,))
    text = render_greeting(replace(FIRST, backend="docker", isolation=full))
    assert "  isolation  full: a container of its own for each sandbox\n             bash is left out: " in text
    assert "not stronger" not in text
