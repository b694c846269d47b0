"""What a program that went wrong could do instead: the last lines of ``error``, for a model to act on."""

from codex_server.languages import Languages
from codex_server.model import Execution, Outcome, Status
from codex_server.service.missing import advise
from codex_server.service.missing_paths import hint_for_missing_path
from codex_server.service.notebook import hint_for_notebook


def hint_for(execution: Execution, outcome: Outcome, languages: Languages) -> str | None:
    """Hints for an outcome; None for nearly every program that succeeded."""
    hints = [hint_for_notebook(execution, outcome)]
    if outcome.status is Status.FAILED:
        hints += [advise(outcome, languages), hint_for_missing_path(outcome.stderr.text)]
    return "\n".join(hint for hint in hints if hint) or None
