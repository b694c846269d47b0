"""A project at one glance; the state of a git work tree is read without git."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codex_server.sandboxes.files.overview import overview
from codex_server.sandboxes.files.workspace import Workspace
from codex_server.sandboxes.guest import kernel

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git makes the work tree")


def look(folder: Path, **given: int) -> dict[str, Any]:
    top = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        return overview(Workspace(top, kernel), **given)
    finally:
        os.close(top)


def git(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main")
    ran = subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, env=environment)
    return ran.stdout.decode().strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for path in ("a.py", "src/b.py", "src/old.py", "README.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"content of {path}\n", encoding="utf-8")
    return tmp_path


@needs_git
def test_changed_and_deleted_files_of_a_work_tree_are_named(project: Path) -> None:
    git(project, "init", "-q")
    assert look(project)["git"] == {"branch": "main", "commit": None, "changed": None, "truncated": False}
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "first")
    commit = git(project, "rev-parse", "HEAD")
    assert look(project)["git"] == {"branch": "main", "commit": commit, "changed": [], "truncated": False}
    (project / "a.py").write_text("content of A.py\n", encoding="utf-8")
    os.utime(project / "a.py", (1, 1))
    os.utime(project / "src/b.py", (1, 1))  # touched, and the same
    (project / "src/old.py").unlink()
    assert look(project)["git"]["changed"] == [
        {"path": "a.py", "change": "modified"},
        {"path": "src/old.py", "change": "deleted"},
    ]


@needs_git
def test_a_packed_branch_and_a_detached_head_have_their_commit(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "first")
    commit = git(project, "rev-parse", "HEAD")
    git(project, "pack-refs", "--all")
    assert (look(project)["git"]["branch"], look(project)["git"]["commit"]) == ("main", commit)
    git(project, "checkout", "-q", "--detach")
    assert (look(project)["git"]["branch"], look(project)["git"]["commit"]) == (None, commit)


@pytest.mark.parametrize("index", [b"", b"DIRC", b"DIRC\0\0\0\2\0\0\0\5short", b"DIRC\0\0\0\4\0\0\0\0", b"\xff" * 100])
def test_an_index_that_makes_no_sense_hides_the_changes_alone(project: Path, index: bytes) -> None:
    (project / ".git").mkdir()
    (project / ".git/HEAD").write_text("ref: refs/heads/../../../etc/passwd", encoding="utf-8")
    (project / ".git/index").write_bytes(index)
    assert look(project)["git"]["changed"] is None
    assert look(project)["git"]["commit"] is None


def test_a_head_that_leads_out_of_the_folder_is_not_read(project: Path) -> None:
    (project / ".git").mkdir()
    (project / ".git/HEAD").symlink_to("/etc/hostname")
    assert look(project)["git"] is None


def test_the_tree_keeps_what_matters_when_little_fits(project: Path) -> None:
    (project / "deep/er").mkdir(parents=True)
    (project / "deep/er/c.txt").touch()
    for folder in ("deep", "src"):
        os.utime(project / folder, (1, 1))
    assert look(project, most=16)["tree"] == ["README.md", "a.py"]
    whole = look(project)
    assert whole["tree"] == [
        "README.md",
        "a.py",
        "deep/",
        "deep/er/",
        "deep/er/c.txt",
        "src/",
        "src/b.py",
        "src/old.py",
    ]
    assert (whole["tree_truncated"], look(project, most=16)["tree_truncated"]) == (False, True)


def test_languages_come_by_size_and_guides_are_cut(project: Path) -> None:
    (project / "AGENTS.md").write_text("x" * 5000, encoding="utf-8")
    (project / "node_modules").mkdir()
    (project / "node_modules/large.js").write_text("y" * 50_000, encoding="utf-8")
    seen = look(project)
    assert [language["name"] for language in seen["languages"]] == ["Markdown", "Python"]
    assert [(guide["path"], len(guide["head"]), guide["truncated"]) for guide in seen["guides"]] == [
        ("AGENTS.md", 4000, True),
        ("README.md", 21, False),
    ]
