"""The documents: links lead somewhere, commands exist, nothing of one machine stands in them."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from codex_server.cli.main import app
from codex_server.sandboxes.kernel_state import KERNEL_STATE, Owner

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("runners/**/*.md")])
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
SHELL_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path):
    for target in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if target.startswith(("http://", "https://", "mailto:", "/")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


@each_page
def test_every_fence_is_closed_and_every_page_has_one_title(page: Path):
    text = page.read_text()
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    assert len(re.findall(r"^# ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)) == 1


@each_page
def test_every_table_has_the_same_number_of_cells_in_each_row(page: Path):
    for table in re.findall(r"(?:^\|.*\|\n)+", page.read_text(), re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row))) for row in table.splitlines()}
        assert len(widths) == 1, table.splitlines()[0]


@each_page
def test_every_command_that_is_shown_exists(page: Path):
    root = get_command(app)
    for block in SHELL_BLOCK.findall(page.read_text()):
        for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
            if words and words[0].endswith("codex-server"):
                command = root
                for word in words[1:]:
                    if not getattr(command, "commands", None) or word.startswith("-"):
                        break
                    assert word in command.commands, line
                    command = command.commands[word]
            elif words and words[0] == "make":
                targets = [word for word in words[1:] if "=" not in word]
                subprocess.run(["make", "-C", str(ROOT), "-n", *targets], capture_output=True, check=True)


@each_page
def test_nothing_of_one_machine_stands_in_it(page: Path):
    assert not re.search(r"/(root|home/\w+|work)/", page.read_text())


def written_tests() -> set[str]:
    sources = "\n".join(file.read_text() for file in ROOT.glob("tests/**/*.py"))
    return set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))


def test_every_kind_of_kernel_state_names_tests_that_exist_and_only_caches_have_none():
    named = {name for state in KERNEL_STATE for name in state.tests}
    assert named <= written_tests(), named - written_tests()
    assert [state.kind for state in KERNEL_STATE if not state.tests] == ["caches of files and names, the kernel's log"]
    assert {state.owner for state in KERNEL_STATE} == set(Owner)
    assert len({state.kind for state in KERNEL_STATE}) == len(KERNEL_STATE)


def test_every_claim_of_the_security_page_names_tests_that_exist():
    written = written_tests()
    claims = (ROOT / "SECURITY.md").read_text().partition("| claim |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(claims) > 10
    for claim in claims:
        named = re.findall(r"`(test_\w+)`", claim)
        assert named, f"no test: {claim}"
        assert set(named) <= written, set(named) - written
