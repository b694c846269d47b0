import stat
from pathlib import Path

import pytest

from codex_server.errors import LanguageUnavailable, StartupError, UnknownLanguage
from codex_server.languages import Languages, Start, load_languages, runner_folders
from codex_server.sandboxes.testing.fake import fake_languages

COMMAND = "name: {name}\ntitle: {name}\nfile: main.x\nprogram: {program}\n"
_SLOW = COMMAND.format(name="slow", program="sh") + "version: {args: ['-c', 'exec sleep 60']}\n"


def add(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "runner.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_shipped_runners_are_known_and_python_is_available() -> None:
    languages = load_languages()
    assert {language.name for language in languages} >= {"python", "javascript", "typescript", "bash", "sql"}
    python = languages.find("python")
    assert python.available
    assert python.start is Start.FORK
    assert languages.find("js").pool == languages.find("typescript").pool == "javascript"


def test_a_language_with_an_agent_has_a_pool_of_its_own_where_one_is_asked_for() -> None:
    languages = load_languages().with_own_pools({"typescript": 1, "bash": 1, "none": 1})
    assert languages.find("typescript").pool == "typescript"
    assert languages.find("javascript").pool == "javascript"
    assert languages.find("bash").pool == "python"


def test_a_pool_that_there_is_not_stops_the_start_and_those_that_there_are_are_named() -> None:
    load_languages(pools=("python", "python-data", "javascript", "typescript", "bash"))
    with pytest.raises(StartupError) as refusal:
        load_languages(pools=("python", "pyhton"))
    assert refusal.value.detail == (
        "CODEX_POOL_SIZES: there is no pool 'pyhton'; the pools are python, bash, javascript, python-data, typescript"
    )


def test_a_folder_is_a_language(tmp_path: Path) -> None:
    add(tmp_path, "shell", COMMAND.format(name="almquist", program="sh") + "version: {args: ['-c', 'echo 1.2']}\n")
    language = load_languages(tmp_path).find("almquist")
    assert (language.version, language.pool, language.start) == ("1.2", "python", Start.COMMAND)
    assert language.render_command(program="/bin/sh", runner="/r", file="/w/main.x") == ("/bin/sh", "/w/main.x")


def test_a_language_has_sessions_when_it_is_the_warm_python_or_names_an_interpreter_that_stays(tmp_path: Path) -> None:
    add(tmp_path, "shell", COMMAND.format(name="almquist", program="sh") + "session: ['{program}', '{runner}/stay']\n")
    add(tmp_path, "other", COMMAND.format(name="other", program="sh"))
    languages = load_languages(tmp_path)
    assert languages.get("almquist").session == ("{program}", "{runner}/stay")
    having = {language.name for language in languages if language.has_session}
    assert {"python", "sql", "almquist"} <= having
    assert "other" not in having


def test_a_folder_of_runners_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"CODEX_RUNNERS_DIR: /.*/nowhere is not a folder, "):
        load_languages(tmp_path / "nowhere")


def test_a_runners_own_folder_is_not_taken_for_the_one_above_it(tmp_path: Path) -> None:
    add(tmp_path, "shell", COMMAND.format(name="almquist", program="sh"))
    with pytest.raises(StartupError, match=r"shell has no folder with a runner.yaml in it; name the folder above"):
        load_languages(tmp_path / "shell")


def test_a_runner_with_no_interpreter_is_known_but_not_available(tmp_path: Path) -> None:
    add(tmp_path, "none", COMMAND.format(name="none", program="no-such-interpreter"))
    languages = load_languages(tmp_path)
    with pytest.raises(LanguageUnavailable, match="codex-server doctor"):
        languages.find("none")


def test_an_interpreter_that_does_not_tell_its_version_is_not_available(tmp_path: Path) -> None:
    add(tmp_path, "mute", COMMAND.format(name="mute", program="sh") + "version: {args: ['-c', 'exit 0']}\n")
    with pytest.raises(LanguageUnavailable):
        load_languages(tmp_path).find("mute")


def test_an_interpreter_that_takes_too_long_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codex_server.languages.CHECKOUT_RUNNERS", add(tmp_path, "slow", _SLOW))
    monkeypatch.setattr("codex_server.languages._VERSION_PROBE_SECONDS", 0.1)
    with pytest.raises(StartupError, match=r"sh did not report its version within 0\.1 s; start again once"):
        load_languages()


@pytest.mark.parametrize("name", ["PYTHON", "Py", "python3"])
def test_a_language_is_found_by_alias_whatever_the_case(languages: Languages, name: str) -> None:
    assert languages.find(name).name == "python"


def test_a_language_without_its_interpreter_is_there_to_be_told_of(tmp_path: Path) -> None:
    add(tmp_path, "none", COMMAND.format(name="none", program="no-such-interpreter") + "aliases: [nix]\n")
    languages = load_languages(tmp_path)
    assert languages.get("NIX") is languages.get("none") is not None
    assert languages.get("cobol") is None


def test_an_unknown_name_is_refused_with_the_nearest_and_all_that_is_available(languages: Languages) -> None:
    with pytest.raises(UnknownLanguage) as refusal:
        languages.find("pyton")
    assert refusal.value.detail == (
        "there is no language 'pyton'. Did you mean 'python'? Available: python, javascript, typescript, bash"
    )
    assert refusal.value.pointer == "/language"


def test_a_very_long_name_is_not_told_back(languages: Languages) -> None:
    with pytest.raises(UnknownLanguage) as refusal:
        languages.find("x" * 10_000)
    assert len(refusal.value.detail) < 200


def test_what_a_manifest_asks_for_is_known_and_where_it_would_be(tmp_path: Path) -> None:
    python = load_languages(packages=tmp_path).find("python")
    assert python.wanted
    assert python.wanted.folder.parent == tmp_path
    assert python.wanted.manifest.is_file()
    assert python.packages is None
    assert {name.partition(".")[0] for name in python.preload} - {"codex_figures"} <= python.preload_for


def test_nothing_is_asked_for_where_packages_are_switched_off() -> None:
    assert all(language.wanted is None and language.packages is None for language in load_languages())


def test_a_manifest_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    packages = "start: fork\npackages: {installer: pip, manifest: nowhere.txt}\nversion: {args: ['-V']}\n"
    add(tmp_path, "snake", COMMAND.format(name="snake", program="python") + packages)
    with pytest.raises(StartupError, match=r"snake.*names a file that cannot be read.*nowhere\.txt"):
        load_languages(tmp_path, tmp_path)


def test_two_runners_with_one_name_stop_the_start() -> None:
    with pytest.raises(StartupError, match=r"/python/runner\.yaml and /.*/runner\.yaml both claim the name 'python'"):
        Languages([*fake_languages(), *fake_languages()])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: Bad Name\ntitle: t\nfile: f\nprogram: p\n", "name: "),
        ("name: a\ntitle: t\nfile: ../f\nprogram: p\n", "file: "),
        ("name: a\ntitle: t\nfile: f\nprogram: /bin/sh\n", "program: "),
        ("name: a\ntitle: t\nfile: f\n", "program: Field required"),
        ("nam: a\ntitle: t\nfile: f\nprogram: p\n", "there is no key 'nam'; did you mean 'name'?"),
        ("name: a\ntitle: t\nfile: f\nprogram: p\ncolour: red\n", "there is no key 'colour'; there are name, title"),
        (
            COMMAND.format(name="a", program="sh") + "version: {arg: [-V]}\n",
            "version: there is no key 'arg'; did you mean 'args'?",
        ),
        ("name: [", "cannot be read"),
        (COMMAND.format(name="a", program="sh") + "packages: {installer: pip, manifest: m.txt}\n", "start: fork"),
        (COMMAND.format(name="a", program="sh") + "packages: {installer: apt, manifest: m}\n", "packages.installer: "),
        ("- just\n- a list\n", "not a valid runner"),
    ],
)
def test_a_wrong_runner_stops_the_start_and_names_the_file_and_the_key(
    tmp_path: Path, text: str, complaint: str
) -> None:
    add(tmp_path, "bad", text)
    with pytest.raises(StartupError) as refusal:
        load_languages(tmp_path)
    assert complaint in str(refusal.value)
    assert str(tmp_path / "bad" / "runner.yaml") in str(refusal.value)
    assert "docs/runners.md" in str(refusal.value)


def test_every_shipped_runner_has_its_folder_named_like_the_language() -> None:
    languages = {language.folder: language.name for language in load_languages()}
    for folder in runner_folders():
        assert languages[folder.resolve()] == folder.name
        assert stat.S_IMODE(folder.stat().st_mode) & 0o005 == 0o005, "guests read it"
