"""What a program that went wrong could do instead: the last lines of ``error``, for a model to act on."""

from codex_server.api.missing import advise
from codex_server.api.missing_paths import hint_for_missing_path
from codex_server.languages import Languages
from codex_server.model import Outcome, Status


def hint_for(outcome: Outcome, languages: Languages) -> str | None:
    """Hints for an outcome; None where there are none, as for every program that succeeded."""
    if outcome.status is not Status.FAILED:
        return None
    hints = [advise(outcome, languages), hint_for_missing_path(outcome.stderr.text)]
    return "\n".join(hint for hint in hints if hint) or None
