"""Where a client's files may go: a relative path inside the workspace, and nowhere else.

Only text is looked at here, never the disk: whoever writes the files must still not follow a link out of the workspace.
"""

from collections.abc import Callable, Iterable

from codex_server.errors import IllegalPath

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
"""The longest file name that Linux takes."""
MAX_PARTS = 32
"""Nothing deeper would be looked at for the answer's files."""
MAX_ENTRIES = 10_000
"""Files and folders of one request together: half of what a workspace has places for."""


def checked_path(path: str, pointer: str = "") -> str:
    """``path`` itself, when it names something inside the workspace in the one way to write it.

    INVARIANT: a path that passes has one or more parts; none is empty, ``.`` or ``..``; it does not begin with ``/``;
    it carries neither NUL nor any other control character, and no part is longer than the file system takes.

    Raises ``IllegalPath`` that says which rule is broken.
    """
    if problem := _problem(path):
        shown = path if len(path) <= 80 else path[:77] + "..."
        raise IllegalPath(f"{shown!a} {problem}; write a relative path such as data/input.csv", pointer)
    return path


def check_paths_together(paths: Iterable[str], program: str) -> None:
    """See that no two of ``paths`` collide, and that none takes the place of ``program``, the code's own file.

    INVARIANT: after this, no path is given twice, none is both a file and a folder, and all with their folders are no
    more than ``MAX_ENTRIES``.

    Raises ``IllegalPath`` whose pointer is ``/files/<index>/path``.
    """
    files = {program: "the program itself is written"}
    folders: dict[str, str] = {}
    for index, path in enumerate(paths):
        parents = _parents(path)
        if clash := _clash(path, parents, files, folders):
            raise IllegalPath(f"{path!a} {clash}; give each file a path of its own", f"/files/{index}/path")
        files[path] = "another file of this request is written"
        folders.update((parent, path) for parent in parents)
        if len(files) + len(folders) > MAX_ENTRIES:
            raise IllegalPath(
                f"{path!a} is beyond the {MAX_ENTRIES} files and folders that a request may make;"
                " put the files into fewer folders, or send an archive and unpack it in the program",
                f"/files/{index}/path",
            )


def _problem(path: str) -> str | None:
    return next((text for broken, text in _RULES if broken(path)), None)


_RULES: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda path: not path, "is empty"),
    (lambda path: any("\ud800" <= char <= "\udfff" for char in path), "carries an unpaired surrogate"),
    (lambda path: any(char < " " or char == "\x7f" for char in path), "carries a control character"),
    (lambda path: path.startswith("/"), "is absolute"),
    (lambda path: ".." in path.split("/"), "climbs with '..'"),
    (lambda path: not {"", "."}.isdisjoint(path.split("/")), "has an empty part or a '.'"),
    (lambda path: len(path.encode()) > MAX_PATH_BYTES, f"is longer than {MAX_PATH_BYTES} bytes"),
    (
        lambda path: any(len(part.encode()) > MAX_NAME_BYTES for part in path.split("/")),
        f"has a part longer than {MAX_NAME_BYTES} bytes",
    ),
    (lambda path: path.count("/") >= MAX_PARTS, f"has more than {MAX_PARTS} parts"),
)


def _clash(path: str, parents: list[str], files: dict[str, str], folders: dict[str, str]) -> str | None:
    if path in files:
        return f"is where {files[path]}"
    if path in folders:
        return f"would be both a file and the folder of {folders[path]!a}"
    for parent in parents:
        if parent in files:
            return f"needs a folder {parent!a} where {files[parent]}"
    return None


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
