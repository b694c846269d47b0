"""How to call ``codex-server`` here (in a checkout it is not on the search path), and how it reports an error."""

import os
import re
import shutil
import sys
from pathlib import Path

from codex_server.errors import CodexError

_NAMED = re.compile(r"`codex-server (?=[a-z])")


def own_command(executable: Path, folder: Path, path: str | None) -> str:
    """Return ``codex-server`` when it is on the search ``path``, else its path relative to ``folder``."""
    beside = executable.parent / "codex-server"
    found = shutil.which("codex-server", path=path)
    if found and Path(found).resolve() == beside.resolve():
        return "codex-server"
    return str(beside.relative_to(folder) if beside.is_relative_to(folder) else beside)


def command_here() -> str:
    """Return ``own_command`` of this process."""
    return own_command(Path(sys.executable), Path.cwd(), os.environ.get("PATH"))


def as_called_here(text: str, command: str | None = None) -> str:
    """Return a message with each quoted command, such as `` `codex-server token list` ``, as it works here."""
    if not _NAMED.search(text):
        return text
    here = command or command_here()
    return _NAMED.sub(lambda _: f"`{here} ", text)


def show_error(error: CodexError) -> None:
    """Print what is wrong on stderr."""
    print(f"codex-server: {as_called_here(error.detail)}", file=sys.stderr)
