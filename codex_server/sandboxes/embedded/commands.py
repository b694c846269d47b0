"""A language's command with paths as its guest sees them."""

from dataclasses import replace

from codex_server.errors import SandboxUnavailable
from codex_server.languages import Language, Start
from codex_server.sandboxes.embedded.rootfs import guest_path, runner_folder


def command_of(language: Language, *, confined: bool, file: str = "") -> tuple[str, ...]:
    """The command in the guest root, or on the host's own at level ``confined``. Raises ``SandboxUnavailable``."""
    if language.interpreter is None:
        raise SandboxUnavailable(f"{language.title} has no interpreter on this machine")
    program = str(language.interpreter.path) if confined else guest_path(language.interpreter)
    runner = str(language.folder) if confined else runner_folder(language)
    return language.render_command(program=program, runner=runner, file=file)


def session_command_of(language: Language, *, confined: bool) -> tuple[str, ...] | None:
    """The command of its interpreter in a session; None where that is the zygote's own warm Python.

    Raises ``SandboxUnavailable`` for a language that has none.
    """
    if language.start is Start.FORK:
        return None
    if not language.session:
        raise SandboxUnavailable(f"{language.title} has no interpreter for sessions; run it with POST /execute")
    return command_of(replace(language, command=language.session), confined=confined)


def shell_command_of(bash: Language) -> tuple[str, ...]:
    """The command of an interactive shell in the guest root."""
    words = ("{program}", "--noprofile", "--rcfile", "{runner}/shell.bash", "-i")
    return command_of(replace(bash, command=words), confined=False)
