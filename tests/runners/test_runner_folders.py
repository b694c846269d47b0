"""Every folder in ``runners/`` is a whole runner: description, agent, and examples that tell the truth."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.languages import Language, Start, load_languages
from codex_server.sandboxes.guest import notices
from tests.levels import out_of_reach
from tests.runners.comparison import RUNNERS, Program, Result, WarmPython, lay_out, run_armed_node, run_bare

LANGUAGES = {language.name: language for language in load_languages()}
FOLDERS = sorted(path for path in (Path(__file__).parents[2] / "runners").iterdir() if path.is_dir())
EXAMPLES = {
    f"{language.name}/{file.stem}": (language, file)
    for language in LANGUAGES.values()
    for file in sorted((language.folder / "examples").glob(f"*{Path(language.file_name).suffix}"))
}
DOCUMENT = Path(__file__).parents[2] / "docs" / "runners.md"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_is_a_runner_of_its_own_name(folder):
    assert LANGUAGES[folder.name].folder == folder.resolve()


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_file_that_a_command_names_exists(name):
    language = LANGUAGES[name]
    command = language.render_command(program="program", runner=str(language.folder), file="file")
    session = replace(language, command=language.session)
    for part in (*command, *session.render_command(program="program", runner=str(language.folder), file="file")):
        assert not part.startswith("/") or Path(part).is_file()
    if language.start is Start.FORK:
        assert (language.folder / "agent.py").is_file()


def test_the_document_tells_the_size_of_each_package_and_of_no_other():
    text = DOCUMENT.read_text()
    section = text[text.index("## What programs can import") : text.index("Left out:")]
    told = re.findall(r"^\| (\S+) \| [\d.]+ \| .+ \|$", section, re.MULTILINE)
    asked = re.findall(r"^[A-Za-z0-9][\w.-]*", (RUNNERS / "python" / "requirements.txt").read_text(), re.MULTILINE)
    asked += json.loads((RUNNERS / "javascript" / "package.json").read_text())["dependencies"]
    assert told == asked


def test_what_keeps_a_program_from_the_preloaded_modules_is_what_these_read():
    """The agent looks at a worker's variables too: its list must not be longer than the server's."""
    python = LANGUAGES["python"]
    packages = (python.folder / "packages.py").read_text()
    (read,) = re.findall(r"_READ_AT_IMPORT = \(([^)]*)\)", packages)
    assert set(re.findall(r'"(\w+)"', read)) <= python.preload_not_for


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_runner_greets_in_an_example(name):
    assert f"{name}/hello" in EXAMPLES


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_example_has_its_expected_output_and_the_other_way_round(name):
    examples = LANGUAGES[name].folder / "examples"
    suffix = Path(LANGUAGES[name].file_name).suffix
    assert {file.stem for file in examples.glob(f"*{suffix}")} == {file.stem for file in examples.glob("*.out")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_what_it_promises(name, tmp_path):
    language, example = EXAMPLES[name]
    if not language.available:
        out_of_reach("languages", f"{language.title} is not on this machine")
    program = Program(example.read_text(encoding="utf-8"))
    file = lay_out(program, tmp_path / "workspace", language.file_name)
    assert run(language, file, program) == Result(0, example.with_suffix(".out").read_text(encoding="utf-8"), "")


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_runner_is_named_in_the_document(name):
    assert f"| `{name}` |" in DOCUMENT.read_text(encoding="utf-8")


def run(language: Language, file: Path, program: Program) -> Result:
    if language.start is Start.AGENT:
        placeholder = language.render_command(program="", runner="", file="")[-1]
        return run_armed_node(language.interpreter.path, file, program, placeholder)
    if language.start is Start.FORK:
        warm = WarmPython(language.interpreter.path)
        try:
            return warm.run(file, program)
        finally:
            warm.close()
    command = language.render_command(
        program=str(language.interpreter.path), runner=str(language.folder), file=str(file)
    )
    return run_bare(command, program, file.parent)


@pytest.mark.parametrize("file", ["python/finalization.py", "javascript/agent.cjs"])
def test_every_agent_says_exit_notification_with_the_mark_that_the_sandbox_listens_for(file):
    text = (DOCUMENT.parents[1] / "runners" / file).read_text()
    [mark] = re.findall(r"EXIT_MARK = (0x[\da-f_]+)", text)
    assert int(mark, 16) == notices.MARK
