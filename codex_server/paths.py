"""Where a client's files may go: a relative path inside the workspace, and nowhere else.

Only text is looked at here, never the disk: whoever writes the files must still not follow a link out of the workspace.
"""

from collections.abc import Iterable

from codex_server.errors import IllegalPath

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
"""The longest file name that Linux takes."""


def checked_path(path: str, pointer: str = "") -> str:
    """``path`` itself, when it names something inside the workspace in the one way to write it.

    INVARIANT: a path that passes has one or more parts; none is empty, ``.`` or ``..``; it does not begin with ``/``;
    it carries neither NUL nor any other control character, and no part is longer than the file system takes.

    Raises ``IllegalPath`` that says which rule is broken.
    """
    if problem := _problem(path):
        shown = path if len(path) <= 80 else path[:77] + "..."
        raise IllegalPath(f"{ascii(shown)} {problem}; write a relative path such as data/input.csv", pointer)
    return path


def check_paths_together(paths: Iterable[str], program: str) -> None:
    """See that no two of ``paths`` collide, and that none takes the place of ``program``, the code's own file.

    INVARIANT: after this, no path is given twice and none is both a file and a folder.

    Raises ``IllegalPath`` whose pointer is ``/files/<index>/path``.
    """
    files = {program: "the program itself is written"}
    folders: dict[str, str] = {}
    for index, path in enumerate(paths):
        if clash := _clash(path, files, folders):
            raise IllegalPath(f"{ascii(path)} {clash}; give each file a path of its own", f"/files/{index}/path")
        files[path] = "another file of this request is written"
        folders.update((parent, path) for parent in _parents(path))


def _problem(path: str) -> str | None:
    if not path:
        return "is empty"
    if any(0xD800 <= ord(char) <= 0xDFFF for char in path):
        return "carries an unpaired surrogate"
    if any(char < " " or char == "\x7f" for char in path):
        return "carries a control character"
    if path.startswith("/"):
        return "is absolute"
    parts = path.split("/")
    if ".." in parts:
        return "climbs with '..'"
    if "" in parts or "." in parts:
        return "has an empty part or a '.'"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return f"has a part longer than {MAX_NAME_BYTES} bytes"
    return None


def _clash(path: str, files: dict[str, str], folders: dict[str, str]) -> str | None:
    if path in files:
        return f"is where {files[path]}"
    if path in folders:
        return f"would be both a file and the folder of {ascii(folders[path])}"
    for parent in _parents(path):
        if parent in files:
            return f"needs a folder {ascii(parent)} where {files[parent]}"
    return None


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
