import re
from pathlib import Path

import pytest

from codex_server.settings import ENV_PREFIX, Settings
from docs import generate

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \| `(CODEX_\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)


def test_the_page_has_one_row_for_every_setting_in_the_codes_order():
    rows = ROW.findall((ROOT / "docs" / "settings.md").read_text())
    assert [name for name, *_ in rows] == list(Settings.model_fields)
    assert all(variable == ENV_PREFIX + name.upper() for name, variable, *_ in rows)


@pytest.mark.parametrize("page", ["docs/settings.md", "README.md"])
def test_the_page_is_what_the_code_says(page: str):
    assert (ROOT / page).read_text() == generate.pages()[ROOT / page], "run `make docs`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_means(name: str):
    description = Settings.model_fields[name].description
    assert description
    assert len(description) > 10
    assert "|" not in description


def test_the_shown_defaults_are_those_in_force():
    rows = {name: default for name, _, default, _ in ROW.findall((ROOT / "docs" / "settings.md").read_text())}
    assert rows["port"] == f"`{Settings.model_fields['port'].default}`"
    assert rows["max_memory"] == "`512MiB`"
    assert rows["api_token"] == "none"


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_no_page_names_a_variable_that_does_not_exist(page: Path):
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {
        "CODEX_FAULTS",
        "CODEX_IDLE_SESSIONS",
        "CODEX_REQUIRE_LEVELS",
        "CODEX_SESSIONS",
        "CODEX_SOAK",
        "CODEX_TEST_BASE",
    }  # for the suite
    known.add("CODEX_TOKEN")  # of `codex-server run --url`, which is a client
    assert set(re.findall(r"\bCODEX_[A-Z_]+\b", page.read_text())) <= known


def test_the_example_file_is_one_that_the_server_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    example = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "settings.md").read_text(), re.DOTALL)
    assert example
    (tmp_path / "codex.toml").write_text(example[1])
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert (settings.port, settings.max_memory, settings.pool_sizes["python"]) == (9000, 2**30, 8)
