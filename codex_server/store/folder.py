"""The state folder, and what is said where it cannot be used. SQLite is not loaded here."""

import os
from pathlib import Path

from codex_server.errors import StoreUnusable
from codex_server.files import stat_file

RIGHTS = "Give this account the right to read and write there, or set CODEX_STATE_DIR to another folder"


def make_file(path: Path) -> None:
    """Make the file and its folder, for their owner alone, where they are missing. Raises ``StoreUnusable``."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise folder_problem(path.parent, error) from error
    if stat_state(path) is not None:
        return
    try:
        # SQLite gives the files beside it (-wal, -shm) the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be made ({error.strerror}). {RIGHTS}") from error


def stat_state(path: Path) -> os.stat_result | None:
    """What is known of the file; None where there is none. Raises ``StoreUnusable`` when it is no file or not seen."""
    try:
        return stat_file(path)
    except NotADirectoryError as error:
        raise folder_problem(path.parent, error) from error
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be read ({error.strerror}). {RIGHTS}") from error


def is_frozen(path: Path) -> bool:
    """Whether the file is there and its folder cannot be written: it can be read, and nobody here changes it."""
    return path.exists() and not os.access(path.parent, os.W_OK)


def folder_problem(folder: Path, error: OSError) -> StoreUnusable:
    """Why the folder cannot be had, and the remedy."""
    # Only then may it be looked at: `is_file` would raise where the way there is closed.
    if isinstance(error, NotADirectoryError | FileExistsError) and os.path.lexists(folder) and not folder.is_dir():
        kind = "a file" if folder.is_file() else "no folder"
        return StoreUnusable(f"the state folder {folder} is {kind}; name a folder with --state-dir or CODEX_STATE_DIR")
    return StoreUnusable(
        f"the state folder {folder} cannot be made ({error.strerror}); "
        "name one that this account may write with --state-dir or CODEX_STATE_DIR"
    )
