"""What appeared at a terminal, and what it looks like: what was overwritten is gone, as for a person who looks at it.

The emulator is pyte, which is pure Python and slow (5 s of CPU time for a MiB): it is imported when the first shell is
looked at, is fed only the end of what came, and runs in a thread. It is an extra (``shell``): without it there is a
plain rendering, which knows line ends alone.
"""

import codecs
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MOST_KEPT = 64 * 1024
"""Bytes that are kept, and rendered at once: of more only the end."""
Form = Literal["text", "ansi", "raw"]
_FULL_SCREEN = re.compile(rb"\x1b\[\?(?:47|1047|1049)([hl])")
_LONGEST_SWITCH = 8
_MOST_CELLS_AT_ONCE = 500_000
"""Drawn between two looks at the time: three bytes can redraw a whole screen."""
_MOST_SECONDS = 3.0
_COLOUR_NAMES = ("black", "red", "green", "brown", "blue", "magenta", "cyan", "white")
_COLOURS = {name: number for number, name in enumerate(_COLOUR_NAMES)}
_PRIVATE = re.compile(rb"\x1b\[(?:[<=>][0-9;:]*[ -/]*[@-~]|\?[0-9;:]*[ -/]*[@-gi-km-~])")
"""Control sequences that only real terminals know, such as questions about them; pyte fails over some."""
_CONTROLS = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")
_CUT_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*)?\Z")
_LONGEST_CUT = 32


@dataclass(slots=True)
class Screen:
    """What appeared at a terminal. ``full``: a program has taken over the whole screen (an editor, a pager).

    INVARIANT: whatever a guest shows, and nobody looks at, at most three times ``MOST_KEPT`` bytes are kept.
    """

    rows: int
    columns: int
    full: bool = False
    column: int = 0
    """Where the cursor stood when somebody looked last."""
    total: int = 0
    """Bytes that have appeared since it was opened."""
    looked: int = 0
    """How many of them somebody has looked at with ``take``."""
    missed: int = 0
    """Bytes that nobody has looked at and that are lost."""
    kept: bytearray = field(default_factory=bytearray)
    """The last of all bytes."""
    unread: bytearray = field(default_factory=bytearray)
    """What appeared outside of full screens and nobody has looked at."""
    drawn: bytearray = field(default_factory=bytearray)
    """What a full screen is made of."""

    @property
    def news(self) -> bool:
        """Whether something has appeared since somebody looked last."""
        return self.total > self.looked

    def feed(self, data: bytes) -> None:
        """Take what appeared."""
        overlap = min(len(self.kept), _LONGEST_SWITCH - 1)
        recent = bytes(self.kept[len(self.kept) - overlap :]) + data
        position = overlap
        for switch in _FULL_SCREEN.finditer(recent):
            if switch.end() > overlap:
                self._show(recent[position : switch.end()])
                position = switch.end()
                self.full = switch[1] == b"h"
                self.drawn.clear()
        self._show(recent[position:])
        self.total += len(data)
        self.kept += data
        del self.kept[:-MOST_KEPT]

    def _show(self, data: bytes) -> None:
        target = self.drawn if self.full else self.unread
        target += data
        surplus = max(0, len(target) - MOST_KEPT)
        del target[:surplus]
        if not self.full:
            self.missed += surplus

    def take(self, form: Form) -> tuple[bytes, int]:
        """What came since the last call and how many bytes before it are lost; of a full screen all of it.

        A character or a control sequence that has not come to its end is left for the next call.
        """
        if not self.news:
            return b"", 0
        if form == "raw":
            data, missed = self.since(self.looked)
            self.looked = min(self.total, self.looked + missed + len(data))
            self.unread.clear()
            self.missed = 0
            return data, missed
        self.looked = self.total
        if self.full:
            return bytes(self.drawn), 0
        data, missed = _without_cut_end(bytes(self.unread)), self.missed
        del self.unread[: len(data)]
        self.missed = 0
        return data, missed

    def since(self, position: int) -> tuple[bytes, int]:
        """What came after so many bytes, as it was sent, up to a whole character; and how many of it are lost."""
        first = max(position, self.total - len(self.kept))
        data = bytes(self.kept[len(self.kept) - max(0, self.total - first) :])
        return data[: _whole_characters(data)] or data, max(0, first - position)


def _whole_characters(data: bytes) -> int:
    """How many of the bytes are before a character in UTF-8 that is cut off at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data[-4:])
    return len(data) - len(decoder.getstate()[0])


def _without_cut_end(data: bytes) -> bytes:
    cut = _CUT_SEQUENCE.search(data, max(0, len(data) - _LONGEST_CUT))
    return data[: cut.start() if cut else _whole_characters(data)]


def render(data: bytes, rows: int, columns: int, form: Form, column: int = 0, *, full: bool = False) -> tuple[str, int]:
    """``data`` as it looks on an empty screen of that size, without empty lines at its end; and where the cursor is.

    ``full``: a program has the whole screen, so what has left it at the top is not shown.
    ``column`` is where the cursor stood before. ``ansi`` keeps colours and bold type; ``raw`` is what was sent. Slow:
    call it in a thread. INVARIANT: the bytes are a guest's: whatever they are, there is a text, within seconds.
    """
    if form == "raw":
        return data.decode("utf-8", "replace"), column
    try:
        return _emulated(data, rows, columns, form, column, full=full)
    except Exception:  # no emulator here, or its own failure over strange bytes
        return plainly(data), 0


def plainly(data: bytes) -> str:
    """``data`` without an emulator: no control sequences, and of each line what follows its last carriage return."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in _uncontrolled(data).split("\n"))
    return "\n".join(line.rstrip() for line in lines)


def _uncontrolled(data: bytes) -> str:
    return _CONTROLS.sub(lambda found: b"\r" if found[0] == b"\r" else b"", data).decode("utf-8", "replace")


class _TooMuchWork(Exception):
    """The bytes redraw the screen again and again."""


def _emulated(data: bytes, rows: int, columns: int, form: Form, column: int, *, full: bool) -> tuple[str, int]:
    import pyte  # noqa: PLC0415 - most servers never show a terminal

    screen = pyte.HistoryScreen(columns, rows, history=MOST_KEPT, ratio=0.5)
    screen.cursor.x = min(column, columns - 1)
    _feed(pyte.ByteStream(screen), _PRIVATE.sub(b"", data), max(4, _MOST_CELLS_AT_ONCE // (rows * columns)))
    lines = [*(() if full else screen.history.top), *(screen.buffer[row] for row in range(rows))]
    show = _coloured if form == "ansi" else _plain
    text = "\n".join(show(line, columns) for line in lines).rstrip("\n")
    first, newline, rest = text.partition("\n")
    if first[:column].isspace():
        text = first[column:] + newline + rest
    return (f"{text}\n" if text and data.endswith(b"\n") else text), screen.cursor.x


def _feed(stream: Any, data: bytes, size: int) -> None:
    due = time.thread_time() + _MOST_SECONDS
    for start in range(0, len(data), size):
        stream.feed(data[start : start + size])
        if time.thread_time() > due:
            raise _TooMuchWork


def _plain(line: Mapping[int, Any], columns: int) -> str:
    return "".join(line[column].data for column in range(_width_of(line, columns)))


def _width_of(line: Mapping[int, Any], columns: int) -> int:
    """Columns up to the last character; a wide one has two, of which the second is empty."""
    shown = (column for column, character in line.items() if column < columns and character.data.strip())
    return max(shown, default=-1) + 1


def _coloured(line: Mapping[int, Any], columns: int) -> str:
    parts, last = [], ""
    for column in range(_width_of(line, columns)):
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
