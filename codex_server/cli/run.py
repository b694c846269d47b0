"""``codex-server run``: one snippet in the sandbox, without a server."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.cli.flags import MinIsolationFlag, SetFlags, gather_flags, settings_from_flags
from codex_server.cli.runners import load
from codex_server.errors import LimitTooLoose
from codex_server.ids import new_id
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, Status, Stop, Stream
from codex_server.units import format_seconds, format_size

if TYPE_CHECKING:
    from codex_server.languages import Languages
    from codex_server.settings import Settings

EXIT_STOPPED = 128 + signal.SIGKILL
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


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
    min_isolation: MinIsolationFlag = None,
    assignments: SetFlags = None,
) -> None:
    """Run one snippet in the same sandbox as the server's, and pass its output through at once.

    Piped input is the program's standard input. The exit code is the program's own, or 128 + N when signal N ended it;
    137 when a limit stopped it, and stderr says which.

    The program sees this file and standard input, no other file of its folder. Files and figures that it writes are
    discarded (the server returns them).
    """
    from codex_server.cli.snippet import STDIN, guess_language, read_snippet

    settings = settings_from_flags(gather_flags(assignments, min_isolation=min_isolation))
    words = [*([file] if file is not None else []), *(args or [])]
    snippet = read_snippet(code, words, sys.stdin.buffer)
    languages = load(settings)
    name = language or guess_language(snippet, languages)
    reads_code_from_stdin = code is None and snippet.file is None and file == STDIN
    execution = Execution(
        id=new_id("exe"),
        language=name,
        code=snippet.code,
        limits=limits_for(settings, timeout),
        args=snippet.args,
        stdin=b"" if reads_code_from_stdin else piped_stdin(),
    )
    output = Passthrough()
    try:
        ending = asyncio.run(_run_in_sandbox(settings, languages, execution, output))
    except asyncio.CancelledError:
        raise typer.Exit(EXIT_TERMINATED) from None
    if output.reader_left:
        raise typer.Exit(EXIT_BROKEN_PIPE)
    reason = why_ended(ending, execution.limits)
    if reason:
        typer.echo(f"codex-server: {reason}", err=True)
    raise typer.Exit(exit_code(ending))


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


def limits_for(settings: "Settings", timeout: float | None) -> Limits:
    """Return the server's limits, with ``timeout`` (or the default one) as wall time.

    Raises ``LimitTooLoose`` when it is above the setting ``max_timeout``.
    """
    wanted = settings.default_timeout if timeout is None else timeout
    if wanted > settings.max_timeout:
        raise LimitTooLoose(
            f"--timeout {wanted:g} is above this machine's ceiling of {settings.max_timeout:g} s; "
            f"ask for at most {settings.max_timeout:g}, or raise it with --set max_timeout={wanted:g}"
        )
    return settings.ceilings.tightened({"wall_seconds": wanted})


def exit_code(ending: Ending) -> int:
    """Return the exit code of this command for ``ending``."""
    return EXIT_STOPPED if ending.stop is not None else ending.shell_exit_code


def why_ended(ending: Ending, limits: Limits) -> str | None:
    """Return why the program did not end by itself, as a sentence, or None."""
    if ending.stop is Stop.WALL_TIME:
        return f"stopped: it took longer than {format_seconds(limits.wall_seconds)}; --timeout gives it more"
    if ending.status is Status.TIMED_OUT:
        used = format_seconds(limits.cpu_seconds)
        return (
            f"stopped: it used more than {used} of CPU time; "
            f"--set max_cpu_seconds={2 * limits.cpu_seconds:g} allows more"
        )
    if ending.status is Status.MEMORY_EXCEEDED:
        ceiling = format_size(limits.memory_bytes)
        return f"stopped: it needed more than {ceiling} of memory; --set max_memory=1GiB allows more"
    if ending.stop is not None:
        return f"stopped: {ending.status.value.replace('_', ' ')}"
    return f"ended by {ending.signal_name}" if ending.signal is not None else None


def piped_stdin() -> bytes:
    """Read standard input when it is piped or redirected; return nothing for a terminal."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read()


async def _run_in_sandbox(
    settings: "Settings", languages: "Languages", execution: Execution, output: Passthrough
) -> Ending:
    from codex_server.sandboxes.factory import open_backend

    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_backend(settings, languages) as backend:
        language = (await backend.survey(languages)).find(execution.language)
        sandbox = await backend.arm(language)
        try:
            return await sandbox.run(execution, language, output)
        finally:
            await sandbox.destroy()
