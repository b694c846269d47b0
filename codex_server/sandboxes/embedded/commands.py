"""A language's command with paths as its guest sees them."""

from codex_server.errors import SandboxUnavailable
from codex_server.languages import Language
from codex_server.sandboxes.embedded.rootfs import guest_path, runner_folder


def command_of(language: Language, *, confined: bool, file: str = "") -> tuple[str, ...]:
    """The command in the guest root, or on the host's own at level ``confined``. Raises ``SandboxUnavailable``."""
    if language.interpreter is None:
        raise SandboxUnavailable(f"{language.title} has no interpreter on this machine")
    program = str(language.interpreter.path) if confined else guest_path(language.interpreter)
    runner = str(language.folder) if confined else runner_folder(language)
    return language.render_command(program=program, runner=runner, file=file)
