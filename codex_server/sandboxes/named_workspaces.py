"""Why a backend, or a host, cannot have sessions work in the operator's folders."""

from codex_server.errors import StartupError
from codex_server.settings import Settings


def refused(why: str, remedy: str) -> StartupError:
    """What is raised at the start; ``remedy`` is what an operator can do instead of leaving the setting out."""
    return StartupError(
        f"named workspaces (CODEX_WORKSPACES) cannot be had here: {why}. {remedy}, or leave the setting out"
    )


def check_none(settings: Settings, why: str, remedy: str) -> None:
    """Raise ``StartupError`` where the settings name workspaces."""
    if settings.workspaces:
        raise refused(why, remedy)
