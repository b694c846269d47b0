"""A program's text as its interpreter can read it: shells and their kin take Windows' line ends for part of a word."""

import re
from collections.abc import Iterator

from codex_server.languages import Language, Start

_BYTE_ORDER_MARK = "\ufeff"
_HERE_DOCUMENT = re.compile(r"<<[-~]?\s*([\"'\\]?)([A-Za-z_]\w*)\1?")


def readable_source(code: str, language: Language) -> str:
    """``code`` without a byte order mark, and with the line ends of Unix, where a command is to read it.

    A here-document keeps its bytes where the line that opens it ends as Unix does: what is in it then ends otherwise on
    purpose. Interpreters with an agent (Python, Node.js) read both kinds by themselves.
    """
    if language.start is not Start.COMMAND or not ("\r" in code or code.startswith(_BYTE_ORDER_MARK)):
        return code
    return "\n".join(_lines_of_unix(code.removeprefix(_BYTE_ORDER_MARK)))


def _lines_of_unix(code: str) -> Iterator[str]:
    ends: list[str] = []  # the words that end the here-documents which keep their bytes
    for line in code.split("\n"):
        text = line.removesuffix("\r")
        if ends and text.lstrip("\t ") == ends[0]:
            ends.pop(0)
        elif ends:
            text = line
        elif line == text:
            ends = [match[2] for match in _HERE_DOCUMENT.finditer(line.replace("<<<", ""))]
        yield text
