"""The runners' images: their names, what is built into them, and what a look into one shows."""

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server import __version__
from codex_server.errors import SandboxUnavailable
from codex_server.languages import Languages, load_languages
from codex_server.packages.package_set import Package
from codex_server.sandboxes.docker.images import (
    as_found,
    build_context,
    command_in_image,
    image_name,
    questions,
    runners_with_images,
    session_command_in_image,
)
from codex_server.sandboxes.protocol.launch import ImageContents, ProgramFound

SHIPPED = load_languages()


def runner(name: str, among: Languages = SHIPPED):
    return next(language for language in among if language.name == name)


def contents(archive: io.BytesIO) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=archive) as tar:
        return {entry.name: entry for entry in tar}


def test_a_name_is_the_template_with_the_runner_and_the_servers_version():
    assert image_name("codex-runner-{runner}:{version}", "bash") == f"codex-runner-bash:{__version__}"
    assert image_name("ghcr.example/me/{runner}:mine", "python") == "ghcr.example/me/python:mine"


def test_each_runner_with_a_dockerfile_has_an_image_and_its_kin_share_it():
    assert {language.name for language in runners_with_images(SHIPPED)} == {"python", "javascript", "bash"}
    assert runner("typescript").image == "javascript"


def test_a_context_has_the_dockerfile_the_guest_side_the_steps_and_the_runner():
    names = set(contents(build_context(runner("python"), SHIPPED)))
    assert {"Dockerfile", "guest/container_init.py", "guest/worker.py", "image/prepare"} <= names
    assert {"runners/python/agent.py", "runners/python/runner.yaml"} <= names


def test_the_image_of_sessions_has_every_language_with_an_interpreter_for_them():
    with_one = {language.folder.name for language in SHIPPED if language.session}
    names = set(contents(build_context(runner("python"), SHIPPED)))
    assert with_one >= {"javascript", "typescript", "sql"}
    assert {f"runners/{folder}/runner.yaml" for folder in with_one} <= names
    assert {"files/service.py", "runners/javascript/session.cjs"} <= names
    assert {"python", "sql", "javascript", "typescript"} <= set(questions("python", SHIPPED))
    assert "python" not in questions("javascript", SHIPPED)


def test_the_command_of_a_sessions_interpreter_has_the_programs_path_in_that_image():
    command = session_command_in_image(runner("javascript"), "/usr/bin/node")
    assert command[0] == "/usr/bin/node"
    assert command[-1] == "/opt/runners/javascript/session.cjs"


def test_an_image_that_two_languages_share_has_the_folders_of_both():
    names = set(contents(build_context(runner("javascript"), SHIPPED)))
    assert {"runners/javascript/runner.yaml", "runners/typescript/runner.yaml"} <= names


@pytest.fixture
def snake(tmp_path: Path) -> Languages:
    """A runner of the test's own, with rubbish in its folder."""
    folder = tmp_path / "snake"
    for name in ("__pycache__", "examples", "node_modules", "lib"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("x")
    (folder / "runner.yaml").write_text("name: snake\ntitle: Snake\nfile: main.py\nprogram: python\n")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "start").write_text("#!/bin/sh\n")
    (folder / "start").chmod(0o700)
    return load_languages(tmp_path)


def test_caches_and_examples_stay_outside(snake):
    names = set(contents(build_context(runner("snake", snake), snake)))
    assert "runners/snake/lib/file" in names
    assert not any(part in name.split("/") for name in names for part in ("__pycache__", "examples", "node_modules"))


def test_the_same_files_are_the_same_bytes_whoever_has_them_and_whenever_they_were_written(snake):
    first = build_context(runner("snake", snake), snake).getvalue()
    folder = runner("snake", snake).folder
    (folder / "lib" / "file").chmod(0o600)
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    (folder / "__pycache__" / "another").write_text("y")
    assert build_context(runner("snake", snake), snake).getvalue() == first
    (folder / "lib" / "file").write_text("z")
    assert build_context(runner("snake", snake), snake).getvalue() != first


def test_everything_is_nobodys_readable_by_all_and_what_can_be_run_stays_so(snake):
    entries = contents(build_context(runner("snake", snake), snake))
    assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in entries.values()} == {
        (0, 0, "", "", 0)
    }
    assert entries["runners/snake/start"].mode == 0o755
    assert entries["runners/snake/lib"].mode == 0o755
    assert entries["runners/snake/lib/file"].mode == 0o644


def test_every_language_of_an_image_is_requested():
    requested = questions("javascript", SHIPPED)
    assert set(requested) == {"javascript", "typescript"}
    assert requested["javascript"][0] == "node"
    assert set(questions("bash", SHIPPED)) == {"bash"}


IMAGES = {
    "python": ImageContents(
        programs={"python": ProgramFound("/usr/bin/python3", "Python 3.13.9\n")}, pip=(("numpy", "2.3"),), npm=()
    ),
    "javascript": ImageContents(
        programs={"javascript": ProgramFound("/usr/bin/node", "v24.1.0\n"), "typescript": None}, pip=(), npm=()
    ),
}


def test_languages_are_reported_with_the_interpreters_and_packages_of_their_images():
    known = as_found(SHIPPED, IMAGES)
    python = known.find("python")
    assert (str(python.interpreter.path), python.version) == ("/usr/bin/python3", "3.13.9")
    assert python.packages.packages == (Package("numpy", "2.3"),)
    assert known.find("javascript").packages is None


def test_what_an_image_has_not_or_cannot_report_is_not_available_though_this_machine_has_it():
    known = as_found(SHIPPED, IMAGES)
    assert {language.name for language in known if language.available} == {"python", "javascript"}
    assert runner("bash", known).interpreter is None
    mute = {"bash": ImageContents({"bash": ProgramFound("/bin/bash", "what?")}, (), ())}
    assert not runner("bash", as_found(SHIPPED, mute)).available


def test_packages_of_this_machine_are_not_reported_for_the_image():
    here = Languages([replace(runner("python"), packages=as_found(SHIPPED, IMAGES).find("python").packages)])
    bare = {"python": replace(IMAGES["python"], pip=())}
    assert as_found(here, bare).find("python").packages is None


def test_a_command_names_the_paths_that_are_in_the_image():
    known = as_found(SHIPPED, IMAGES)
    argv = command_in_image(known.find("javascript"))
    assert argv[0] == "/usr/bin/node"
    assert any(part.startswith("/opt/runners/javascript/") for part in argv)
    with pytest.raises(SandboxUnavailable, match="no interpreter in its image"):
        command_in_image(runner("bash", known))
