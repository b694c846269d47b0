"""A sandbox of this machine, for ``codex-server run``."""

import asyncio
import signal
from typing import TYPE_CHECKING

import typer

from codex_server.cli.program import EXIT_STOPPED, EXIT_TERMINATED, Ended, Program, Sink
from codex_server.errors import LimitTooLoose
from codex_server.ids import new_id
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, Status, Stop
from codex_server.units import format_seconds, format_size

if TYPE_CHECKING:
    from codex_server.languages import Languages
    from codex_server.settings import Settings


class LocalPlace:
    """Makes one sandbox as the server would, and destroys it."""

    def __init__(self, settings: "Settings", languages: "Languages") -> None:
        self._settings, self._languages = settings, languages

    def run(self, program: Program, output: Sink) -> Ended:
        """As ``Place.run``."""
        execution = Execution(
            id=new_id("exe"),
            language=program.language,
            code=program.code,
            limits=limits_for(self._settings, program.timeout),
            args=program.args,
            stdin=program.stdin,
        )
        try:
            ending = asyncio.run(self._run_in_sandbox(execution, output))
        except asyncio.CancelledError:
            raise typer.Exit(EXIT_TERMINATED) from None
        return Ended(exit_code(ending), why_ended(ending, execution.limits))

    async def _run_in_sandbox(self, execution: Execution, output: Sink) -> Ending:
        from codex_server.sandboxes.factory import open_backend

        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with open_backend(self._settings, self._languages) as backend:
            language = (await backend.survey(self._languages)).find(execution.language)
            sandbox = await backend.arm(language)
            try:
                return await sandbox.run(execution, language, output)
            finally:
                await sandbox.destroy()


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
