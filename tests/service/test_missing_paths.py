"""``service/missing_paths.py``: a program that looked for its files at another interpreter's place gets ours."""

import pytest

from codex_server.service.missing_paths import hint_for_missing_path


@pytest.mark.parametrize(
    ("stderr", "name"),
    [
        (
            'Traceback (most recent call last):\n  File "/x/main.py", line 1\n    open("/mnt/data/in.csv")\n'
            "FileNotFoundError: [Errno 2] No such file or directory: '/mnt/data/in.csv'\n",
            "in.csv",
        ),
        ("OSError: Cannot save file into a non-existent directory: '/mnt/data'\n", "data.csv"),
        ("PermissionError: [Errno 13] Permission denied: '/mnt/data'\n", "data.csv"),
        ("Error: ENOENT: no such file or directory, open '/home/user/a/b.txt'\n", "a/b.txt"),
        ("cat: /mnt/data/x y: No such file or directory\n", "x"),
        ("noise\n" * 1000 + "cat: /mnt/data/z: No such file or directory\n" + "noise\n" * 1000, "z"),
        ("/workspace/main.sh: line 1: /mnt/data/in: No such file or directory\n", "in"),
        ("mkdir: cannot create directory ‘/mnt/data’: Permission denied\n", "data.csv"),
        (f"cat: /mnt/data/{'x' * 3000}: No such file or directory\n", "data.csv"),
    ],
)
def test_a_path_of_another_interpreter_gets_a_relative_one(stderr: str, name: str) -> None:
    hint = hint_for_missing_path(stderr)
    assert hint is not None
    assert f"such as '{name}'" in hint
    assert "\n" not in hint


@pytest.mark.parametrize(
    "stderr",
    [
        "",
        "FileNotFoundError: [Errno 2] No such file or directory: 'in.csv'\n",
        "FileNotFoundError: [Errno 2] No such file or directory: '/mnt/database/in.csv'\n",
        "/workspace/main.sh: line 1: in.csv: No such file or directory\n",
        "cat: /backup/mnt/data/x: No such file or directory\n",
        "warning: read /mnt/data/in.csv\nValueError: no number\n",
        "/mnt/data/in.csv is fine\nls: x: No such file or directory\n",
    ],
)
def test_any_other_failure_has_no_such_hint(stderr: str) -> None:
    assert hint_for_missing_path(stderr) is None
