"""``codex-server run``: one snippet in a sandbox of this machine, or on a server."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.cli.command import show_error
from codex_server.cli.flags import MinIsolationFlag, SetFlags, gather_flags, settings_from_flags
from codex_server.cli.program import EXIT_BROKEN_PIPE, EXIT_NOT_RUN, Place, Program
from codex_server.cli.runners import load
from codex_server.errors import CodexError, SettingsInvalid
from codex_server.model import Stream

if TYPE_CHECKING:
    from codex_server.languages import Languages
    from codex_server.settings import Settings


def run(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="The program's file; - reads it from stdin")
    ] = None,
    args: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="Arguments of the program")] = None,
    code: Annotated[str | None, typer.Option("--code", "-c", metavar="CODE", help="The program itself")] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", metavar="NAME", help="By default found from the file's name or its #! line"),
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", "-t", metavar="SECONDS", help="Wall time limit")] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Run it on the server with this address, not here")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", envvar="CODEX_TOKEN", help="The token for --url")
    ] = None,
    min_isolation: MinIsolationFlag = None,
    assignments: SetFlags = None,
) -> None:
    """Run one snippet in the same sandbox as the server's, and pass its output through at once.

    With --url a server runs it, under the limits that are set there.

    Piped input is the program's standard input. The exit code is the program's own, or 128 + N when signal N ended it;
    137 when a limit stopped it, and stderr says which. It is 125 when the program was not run (no connection, no
    right, a refusal) or nobody knows what became of it, and 2 for a wrong command line.

    The program sees this file and standard input, no other file of its folder. Files and figures that it writes are
    discarded here; with --url stderr has a link to each, as long as the server keeps it.
    """
    output = Passthrough()
    with refusals_exit_with(EXIT_NOT_RUN):
        if url is not None and (min_isolation or assignments):
            raise SettingsInvalid(
                "--min-isolation and --set are about this machine; with --url the server's settings hold"
            )
        settings = settings_from_flags(gather_flags(assignments, min_isolation=min_isolation))
        languages = cache(partial(load, settings))
        words = [*([file] if file is not None else []), *(args or [])]
        program = read_program(code, words, language, timeout, languages)
        ended = _place(settings, languages, url, token).run(program, output)
    if output.reader_left:
        raise typer.Exit(EXIT_BROKEN_PIPE)
    for line in (*([ended.reason] if ended.reason else []), *ended.files):
        typer.echo(f"codex-server: {line}", err=True)
    raise typer.Exit(ended.exit_code)


@contextmanager
def refusals_exit_with(exit_code: int) -> Iterator[None]:
    """A code of their own: 1, that of other commands, is what most programs end with when they fail."""
    try:
        yield
    except SettingsInvalid:
        raise
    except CodexError as error:
        show_error(error)
        raise typer.Exit(exit_code) from None


def read_program(
    code: str | None,
    words: Sequence[str],
    language: str | None,
    timeout: float | None,
    languages: Callable[[], "Languages"],
) -> Program:
    """The program that a command line names."""
    from codex_server.cli.snippet import STDIN, guess_language, read_snippet

    snippet = read_snippet(code, words, sys.stdin.buffer)
    reads_code_from_stdin = code is None and snippet.file is None and words[:1] == [STDIN]
    return Program(
        code=snippet.code,
        language=language or guess_language(snippet, languages()),
        args=snippet.args,
        stdin=b"" if reads_code_from_stdin else piped_stdin(),
        timeout=timeout,
    )


def _place(settings: "Settings", languages: Callable[[], "Languages"], url: str | None, token: str | None) -> Place:
    from codex_server.cli.local import LocalPlace
    from codex_server.cli.server import Server

    return LocalPlace(settings, languages()) if url is None else Server(url, token)


class Passthrough:
    """Writes each chunk unchanged to this process's stdout or stderr; stops the program when the reader has left."""

    def __init__(self, descriptors: Mapping[Stream, int] | None = None) -> None:
        self._descriptors = descriptors or {Stream.STDOUT: 1, Stream.STDERR: 2}
        self.reader_left = False

    def __call__(self, stream: Stream, chunk: bytes) -> bool:
        """Write all of ``chunk``; return False when the reader has left (``codex-server run ... | head``)."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[os.write(self._descriptors[stream], rest) :]
        except BrokenPipeError:
            self.reader_left = True
        return not self.reader_left


def piped_stdin() -> bytes:
    """Read standard input when it is piped or redirected; return nothing for a terminal."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read()
