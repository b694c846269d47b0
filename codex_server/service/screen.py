"""What a terminal shows, as text: what was overwritten is gone, as for a person who looks at it.

The emulator is pyte, which is pure Python and slow (5 s of CPU time for a MiB): it is imported when the first shell is
looked at, is fed only the end of what came, and runs in a thread.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MOST_FED = 64 * 1024
"""Bytes that are rendered at once: of more only the end."""
Form = Literal["text", "ansi", "raw"]
_FULL_SCREEN = re.compile(rb"\x1b\[\?(?:47|1047|1049)([hl])")
_HISTORY = 5000
_COLOUR_NAMES = ("black", "red", "green", "brown", "blue", "magenta", "cyan", "white")
_COLOURS = {name: number for number, name in enumerate(_COLOUR_NAMES)}
_PRIVATE = re.compile(rb"\x1b\[(?:[<=>][0-9;:]*[ -/]*[@-~]|\?[0-9;:]*[ -/]*[@-gi-km-~])")
"""Control sequences that only real terminals know, such as questions about them; pyte fails over some."""
_CONTROLS = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(slots=True)
class Screen:
    """What appeared at a terminal. ``full``: a program has taken over the whole screen (an editor, a pager).

    ``unread`` is what nobody has looked at yet, ``drawn`` what a full screen is made of; ``missed`` bytes are lost.
    """

    rows: int
    columns: int
    unread: bytearray = field(default_factory=bytearray)
    drawn: bytearray = field(default_factory=bytearray)
    missed: int = 0
    full: bool = False
    column: int = 0
    """Where the cursor stood when somebody looked last."""

    def feed(self, data: bytes) -> None:
        """Take what appeared."""
        for match in _FULL_SCREEN.finditer(data):
            self.full = match[1] == b"h"
            self.drawn.clear()
        if self.full:
            self.drawn += data
            del self.drawn[: max(0, len(self.drawn) - MOST_FED)]
        self.unread += data
        surplus = max(0, len(self.unread) - MOST_FED)
        self.missed += surplus
        del self.unread[:surplus]

    def take(self) -> bytes:
        """What came since the last call; where a program has the whole screen, all that it is made of."""
        data = bytes(self.drawn if self.full and self.unread else self.unread)
        self.unread.clear()
        self.missed = 0
        return data


def render(data: bytes, rows: int, columns: int, form: Form, column: int = 0) -> tuple[str, int]:
    """``data`` as it looks on an empty screen of that size, without empty lines at its end; and where the cursor is.

    ``column`` is where the cursor stood before. ``ansi`` keeps colours and bold type; ``raw`` is what was sent. Slow:
    call it in a thread. INVARIANT: the bytes are a guest's: whatever they are, there is a text.
    """
    if form == "raw":
        return data.decode("utf-8", "replace"), column
    try:
        return _emulated(data, rows, columns, form, column)
    except Exception:  # the emulator's own failure over strange bytes
        return _CONTROLS.sub(b"", data).decode("utf-8", "replace"), 0


def _emulated(data: bytes, rows: int, columns: int, form: Form, column: int) -> tuple[str, int]:
    import pyte  # noqa: PLC0415 - most servers never show a terminal

    screen = pyte.HistoryScreen(columns, rows, history=_HISTORY, ratio=0.5)
    screen.cursor.x = min(column, columns - 1)
    pyte.ByteStream(screen).feed(_PRIVATE.sub(b"", data))
    lines = [*screen.history.top, *(screen.buffer[row] for row in range(rows))]
    show = _coloured if form == "ansi" else _plain
    text = "\n".join(show(line, columns) for line in lines).rstrip("\n")
    if text[:column].isspace():
        text = text[column:]
    return (f"{text}\n" if text and data.endswith(b"\n") else text), screen.cursor.x


def _plain(line: Mapping[int, Any], columns: int) -> str:
    return "".join(line[column].data for column in range(columns)).rstrip()


def _coloured(line: Mapping[int, Any], columns: int) -> str:
    parts, last = [], ""
    for column in range(len(_plain(line, columns))):
        style = _style_of(line[column])
        if style != last:
            parts.append(f"\x1b[0{style}m" if style else "\x1b[0m")
            last = style
        parts.append(line[column].data)
    return "".join(parts) + ("\x1b[0m" if last else "")


def _style_of(character: Any) -> str:
    """The parameters of SGR for a character, each behind a semicolon."""
    style = ";1" if character.bold else ""
    for colour, base in ((character.fg, 30), (character.bg, 40)):
        bright = colour.startswith("bright")
        name = colour.removeprefix("bright")
        if name in _COLOURS:
            style += f";{base + 60 * bright + _COLOURS[name]}"
        elif re.fullmatch(r"[0-9a-f]{6}", colour):
            red, green, blue = bytes.fromhex(colour)
            style += f";{base + 8};2;{red};{green};{blue}"
    return style
