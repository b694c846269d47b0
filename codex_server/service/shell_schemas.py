"""The shapes of shells in a session."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from codex_server.service.schemas import RequestTerminal, Seconds, Whole

KEYS: dict[str, str] = {
    "Enter": "\r",
    "Tab": "\t",
    "Escape": "\x1b",
    "Backspace": "\x7f",
    "Space": " ",
    "Up": "\x1b[A",
    "Down": "\x1b[B",
    "Right": "\x1b[C",
    "Left": "\x1b[D",
    "Home": "\x1b[H",
    "End": "\x1b[F",
    "PageUp": "\x1b[5~",
    "PageDown": "\x1b[6~",
    "Insert": "\x1b[2~",
    "Delete": "\x1b[3~",
    **{f"F{number}": code for number, code in enumerate(("\x1bOP", "\x1bOQ", "\x1bOR", "\x1bOS"), 1)},
    **{f"Ctrl-{chr(letter)}": chr(letter - 64) for letter in range(ord("A"), ord("Z") + 1)},
    "Ctrl-\\": "\x1c",
}
"""What a terminal sends for a key."""


class ShellRequest(BaseModel):
    """What to type at a shell, at most one of `command`, `text` and `keys`; without any of them, what is new."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    command: str = Field(
        "", max_length=100_000, description="A command line: typed, and Enter after it", examples=["ls"]
    )
    text: str = Field("", max_length=100_000, description="Text to type as it is, for a program that runs")
    keys: list[str] = Field(
        default=[],
        max_length=1000,
        description="Keys by name: Enter, Tab, Escape, Up, Down, Left, Right, Home, End, PageUp, PageDown, F1 to F4, "
        "Ctrl-C, Ctrl-D (end of input) and so on",
        examples=[["Ctrl-C"]],
    )
    resize: RequestTerminal | None = Field(None, description="New size of the window; also that of a new shell")
    wait_seconds: Seconds = Field(
        10, ge=0, le=60, description="How long to wait for the prompt; a program that still runs then goes on"
    )
    form: Literal["text", "ansi", "raw"] = Field(
        "text", description="text: as it looks on the screen; ansi: with colours; raw: as it was sent"
    )
    since: Annotated[int, Whole] | None = Field(
        None,
        ge=0,
        description="With `form: raw`, for a second reader: output from this `next` on. It stays new for the others, "
        "and without anything to type the call waits until something appears",
    )

    @model_validator(mode="after")
    def _one_at_a_time(self) -> "ShellRequest":
        if len(self.model_fields_set & {"command", "text", "keys"}) > 1:
            raise ValueError("send one of `command`, `text` and `keys`")
        if self.since is not None and self.form != "raw":
            raise ValueError("`since` goes with `form: raw`")
        for key in self.keys:
            if key not in KEYS:
                raise ValueError(f"there is no key {key[:40]!r}; there are {', '.join(KEYS)}")
        return self

    @property
    def typed(self) -> str:
        """What it is at the terminal."""
        if self.keys:
            return "".join(KEYS[key] for key in self.keys)
        return f"{self.command}\r" if "command" in self.model_fields_set else self.text


class ShellResponse(BaseModel):
    """What became of it. `exit_code` and `cwd` are the shell's claim, as of its last prompt."""

    output: str = Field(description="Only what is new, as it looks on the screen")
    missed_bytes: int = Field(description="Bytes before it that were too many to keep")
    running: bool = Field(description="Whether a command still runs, or waits for input")
    running_for_seconds: float | None = Field(description="How long it has run by now; null when none runs")
    exit_code: int | None = Field(
        description="Exit code of the last command; null while one runs, and before the first"
    )
    cwd: str = Field(description="Folder of the shell at its last prompt")
    full_screen: bool = Field(description="Whether a program has the whole screen; `output` is then all of it")
    ended: bool = Field(description="Whether the shell itself has ended; the next call starts a new one")
    next: int = Field(description="How many bytes had appeared in all; the shell's next `since`")


class ShellEntry(BaseModel):
    """A shell of a session."""

    name: str
    running: bool
    cwd: str


class ShellsResponse(BaseModel):
    """The shells of a session."""

    shells: list[ShellEntry]
