"""The input of ``codex-server run``: the code, its language and its arguments."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codex_server.errors import InvalidCode, InvalidRequest
from codex_server.languages import Languages

STDIN = "-"
DEFAULT_LANGUAGE = "python"
_SHEBANG = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+)*)?(?:\S*/)?([A-Za-z][A-Za-z+#.]*[A-Za-z+#]|[A-Za-z])")


@dataclass(frozen=True, slots=True)
class Snippet:
    """The program, its file (None: the command line or stdin), and its arguments."""

    code: str
    file: str | None
    args: tuple[str, ...]


def read_snippet(code: str | None, words: Sequence[str], stdin: BinaryIO) -> Snippet:
    """Read the snippet of ``-c CODE [ARGS]``, ``FILE [ARGS]`` or ``- [ARGS]`` (the code on ``stdin``).

    Raises ``InvalidRequest`` when there is none, or when the file cannot be read as text.
    """
    if code is not None:
        return Snippet(code, None, tuple(words))
    if not words:
        raise InvalidRequest("there is nothing to run; name a FILE, give -c CODE, or - to read the code from stdin")
    name, *args = words
    if name == STDIN:
        return Snippet(_decode(stdin.read(), "standard input"), None, tuple(args))
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{name} cannot be read: {error.strerror or error}") from None
    return Snippet(_decode(content, name), name, tuple(args))


def guess_language(snippet: Snippet, languages: Languages) -> str:
    """Return the snippet's language: by the file's extension, else by its ``#!`` line, else Python for ``-c``.

    Raises ``InvalidRequest`` for a file with neither.
    """
    by_suffix = {Path(language.file_name).suffix: language for language in languages}
    if snippet.file is not None:
        suffix = Path(snippet.file).suffix.lower()
        if found := by_suffix.get(suffix) or languages.get(suffix.removeprefix(".")):
            return found.name
    shebang = _SHEBANG.match(snippet.code)
    if shebang and (found := languages.get(shebang[1])):
        return found.name
    if snippet.file is None:
        return DEFAULT_LANGUAGE
    raise InvalidRequest(
        f"the language of {snippet.file} cannot be found from its name or a #! line; name it with --language, "
        "for example --language python"
    )


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidCode(
            f"{name} is not UTF-8 text (byte {error.start} is wrong), so it cannot be a program"
        ) from None
