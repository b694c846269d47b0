"""Validates and normalises a client's paths: they must stay inside the workspace.

This module looks only at the text, never at the disk: code that writes the files must still not follow links.
"""

from collections.abc import Iterable

from codex_server.errors import IllegalPath

WORKSPACE = "/workspace"
WORKSPACE_ALIASES = ("/mnt/data", "/home/user")
"""Folders that models expect: links to the workspace in every sandbox with its own root."""
MAX_PATH_BYTES = 1024
MAX_WRITTEN_BYTES = 4 * MAX_PATH_BYTES
"""The longest path before normalisation: PATH_MAX."""
MAX_NAME_BYTES = 255
"""The longest file name on Linux."""
MAX_PARTS = 32
"""The search for the response's files does not go deeper."""
MAX_ENTRIES = 10_000
"""Files and folders of one request together: half of a workspace's inodes."""
_LINK_SCHEME = "sandbox:"
"""How models write links to their files: ``sandbox:/mnt/data/x.csv``."""


def checked_path(path: str, pointer: str = "") -> str:
    """Return the normalised path in the workspace: ``x.csv`` for ``./data/../x.csv``.

    INVARIANT: the result has one or more parts; none is empty, ``.`` or ``..``; it does not begin with ``/``; it has no
    control character, NUL included, and no part is longer than a file name may be. A path that leaves the workspace and
    returns to it is rejected.

    Raises ``IllegalPath``, which names the broken rule.
    """
    try:
        return _normalized(path)
    except ValueError as error:
        raise IllegalPath(f"{_shown(path)} {error}; write a relative path such as data/input.csv", pointer) from None


def relative_path(path: str) -> str:
    """``data/x.csv`` for ``./data//x.csv``, ``/mnt/data/data/x.csv`` and ``sandbox:/workspace/data/x.csv``.

    A ``/`` at the end stays. What is no path in the workspace comes back as it is: whoever uses it checks it.
    """
    try:
        pieces = _below_workspace(path)
    except ValueError:
        return path
    return "/".join([*pieces, ""] if pieces and path.endswith("/") else pieces)


def checked_paths(written: Iterable[str], program: str) -> list[str]:
    """Return the normalised paths of all files of a request; ``program`` is the file of the code itself.

    INVARIANT: they do not collide: none appears twice, replaces the program, or is both a file and a folder. With their
    folders they are at most ``MAX_ENTRIES``.

    Raises ``IllegalPath`` whose pointer is ``/files/<index>/path``.
    """
    paths: list[str] = []
    files = {program: "the program itself is written"}
    folders: dict[str, str] = {}
    for index, name in enumerate(written):
        pointer = f"/files/{index}/path"
        path = checked_path(name, pointer)
        parents = _parents(path)
        if clash := _clash(path, parents, files, folders):
            raise IllegalPath(f"{_shown(name)} {clash}; give each file a path of its own", pointer)
        paths.append(path)
        files[path] = f"{_shown(name)} (/files/{index}) is written"
        folders.update((parent, name) for parent in parents)
        if len(files) + len(folders) > MAX_ENTRIES:
            raise IllegalPath(
                f"{_shown(name)} is beyond the {MAX_ENTRIES} files and folders that a request may make;"
                " put the files into fewer folders, or send an archive and unpack it in the program",
                pointer,
            )
    return paths


def _normalized(path: str) -> str:
    """Return the normalised path. Raises ``ValueError`` with a message that continues a sentence after the path."""
    _check_text(path)
    pieces = _below_workspace(path)
    parts: list[str] = []
    for piece in pieces:
        if piece != "..":
            parts.append(piece)
        elif parts:
            parts.pop()
        else:
            raise ValueError("climbs out of the workspace with '..'")
    if not parts:
        raise ValueError("names the workspace itself, not a file in it")
    if path.rpartition("/")[2] in ("", ".", ".."):
        raise ValueError("names a folder, not a file")
    _check_size(parts)
    return "/".join(parts)


def _check_text(path: str) -> None:
    if not path:
        raise ValueError("is empty")
    if any("\ud800" <= char <= "\udfff" for char in path):
        raise ValueError("contains an unpaired surrogate")
    if any(char < " " or char == "\x7f" for char in path):
        raise ValueError("contains a control character")
    if len(path.encode()) > MAX_WRITTEN_BYTES:
        raise ValueError(f"is longer than {MAX_PATH_BYTES} bytes")


def _below_workspace(path: str) -> list[str]:
    """Return the parts of ``path`` below the workspace, without empty ones and ``.``."""
    place = path.removeprefix(_LINK_SCHEME) if path.startswith(f"{_LINK_SCHEME}/") else path
    pieces = [piece for piece in place.split("/") if piece not in ("", ".")]
    if not place.startswith("/"):
        return pieces
    for folder in (WORKSPACE, *WORKSPACE_ALIASES):
        above = folder.split("/")[1:]
        if pieces[: len(above)] == above:
            return pieces[len(above) :]
    raise ValueError(f"is absolute and not below {WORKSPACE_ALIASES[0]}")


def _check_size(parts: list[str]) -> None:
    if len("/".join(parts).encode()) > MAX_PATH_BYTES:
        raise ValueError(f"is longer than {MAX_PATH_BYTES} bytes")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise ValueError(f"has a part longer than {MAX_NAME_BYTES} bytes")
    if len(parts) > MAX_PARTS:
        raise ValueError(f"has more than {MAX_PARTS} parts")


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else path[:77] + "...")


def _clash(path: str, parents: list[str], files: dict[str, str], folders: dict[str, str]) -> str | None:
    if path in files:
        return f"is where {files[path]}"
    if path in folders:
        return f"would be both a file and the folder of {_shown(folders[path])}"
    for parent in parents:
        if parent in files:
            return f"needs a folder {_shown(parent)} where {files[parent]}"
    return None


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
