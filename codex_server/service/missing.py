"""The last line of ``error`` for a program that imported what is not there: what is, so that a model can go on."""

from collections.abc import Iterable

from codex_server.languages import Language
from codex_server.model import Outcome, Status


def advise(outcome: Outcome, languages: Iterable[Language]) -> str | None:
    """A hint where a package was missed, in whichever language: a shell script may have started the interpreter."""
    if outcome.status is not Status.FAILED:
        return None
    for language in languages:
        if language.stock and (missed := language.stock.missed(outcome.stderr.text)):
            return language.stock.advise(missed, installed=language.packages is not None)
    return None
