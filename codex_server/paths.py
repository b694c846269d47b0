"""Where a client's files may go: inside the workspace, however the path is written, and nowhere else.

Only text is looked at here, never the disk: whoever writes the files must still not follow a link out of the workspace.
"""

from collections.abc import Iterable

from codex_server.errors import IllegalPath

WORKSPACE = "/workspace"
WORKSPACE_ALIASES = ("/mnt/data", "/home/user")
"""Folders that models take for their own: links to the workspace, in every sandbox with a root of its own."""
MAX_PATH_BYTES = 1024
MAX_WRITTEN_BYTES = 4 * MAX_PATH_BYTES
"""The longest path as it is written, before it is normalised: PATH_MAX."""
MAX_NAME_BYTES = 255
"""The longest file name that Linux takes."""
MAX_PARTS = 32
"""Nothing deeper would be looked at for the answer's files."""
MAX_ENTRIES = 10_000
"""Files and folders of one request together: half of what a workspace has places for."""
_LINK_SCHEME = "sandbox:"
"""How models write links to their files: ``sandbox:/mnt/data/x.csv``."""


def checked_path(path: str, pointer: str = "") -> str:
    """The file of the workspace that ``path`` names, in the one way to write it: ``x.csv`` for ``./data/../x.csv``.

    INVARIANT: what is returned has one or more parts; none is empty, ``.`` or ``..``; it does not begin with ``/``; it
    carries neither NUL nor any other control character, and no part is longer than the file system takes. A path that
    leaves the workspace on its way is refused, though it came back.

    Raises ``IllegalPath`` that says which rule is broken.
    """
    try:
        return _normalized(path)
    except ValueError as error:
        raise IllegalPath(f"{_shown(path)} {error}; write a relative path such as data/input.csv", pointer) from None


def checked_paths(written: Iterable[str], program: str) -> list[str]:
    """The files that ``written`` names, as ``checked_path`` tells them; ``program`` is the code's own file.

    INVARIANT: no two of them collide: none is given twice, takes the program's place, or is both a file and a folder;
    all with their folders are no more than ``MAX_ENTRIES``.

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
    """``path`` without what does not matter in it. Raises ``ValueError`` with what is wrong, to follow the path."""
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
        raise ValueError("names the workspace itself, and no file in it")
    if path.rpartition("/")[2] in ("", ".", ".."):
        raise ValueError("names a folder, and no file")
    _check_size(parts)
    return "/".join(parts)


def _check_text(path: str) -> None:
    if not path:
        raise ValueError("is empty")
    if any("\ud800" <= char <= "\udfff" for char in path):
        raise ValueError("carries an unpaired surrogate")
    if any(char < " " or char == "\x7f" for char in path):
        raise ValueError("carries a control character")
    if len(path.encode()) > MAX_WRITTEN_BYTES:
        raise ValueError(f"is longer than {MAX_PATH_BYTES} bytes")


def _below_workspace(path: str) -> list[str]:
    """The pieces of ``path`` from the workspace on, without those that are empty or ``.``."""
    place = path.removeprefix(_LINK_SCHEME) if path.startswith(f"{_LINK_SCHEME}/") else path
    pieces = [piece for piece in place.split("/") if piece not in ("", ".")]
    if not place.startswith("/"):
        return pieces
    for folder in (WORKSPACE, *WORKSPACE_ALIASES):
        above = folder.split("/")[1:]
        if pieces[: len(above)] == above:
            return pieces[len(above) :]
    raise ValueError(f"is absolute, and not below {WORKSPACE_ALIASES[0]}")


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
