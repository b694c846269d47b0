"""The hint for a program that looked for its files where other interpreters have them."""

import re

from codex_server.paths import WORKSPACE_ALIASES

_FOLDERS = "|".join(WORKSPACE_ALIASES)
_WORDS = "No such file or directory|non-existent directory|ENOENT|EACCES|Permission denied"
_FAILED_OPEN = re.compile(rf"^(?=.*(?:{_WORDS})).*?(?<![\w./-])(?:{_FOLDERS})\b/?([^\s'\"`‘’“”:;,()]*)", re.MULTILINE)
_EXAMPLE = "data.csv"
_LONGEST = 100


def hint_for_missing_path(stderr: str) -> str | None:
    """What to write instead, where ``stderr`` reports a file that could not be opened by one of those paths.

    True at every level: at ``confined`` there are no such folders, elsewhere the file is not in them.
    """
    found = _FAILED_OPEN.search(stderr)
    if found is None:
        return None
    name = found[1] if 0 < len(found[1]) <= _LONGEST else _EXAMPLE
    return (
        f"Hint: a program's files are in its current folder; use relative paths such as {name!r}, "
        "and send what it reads in `files`"
    )
