"""An execution in a session: what it may ask for, and whose turn it needs."""

from dataclasses import dataclass

from codex_server.errors import InvalidRequest
from codex_server.execution.session import Turn
from codex_server.service.fields import FieldError, FieldsInvalid
from codex_server.service.open_session import OpenSession
from codex_server.service.schemas import ExecuteRequest

_REFUSED = {
    "terminal": "an execution in a session has no terminal; leave `terminal` out, or run it without `session`",
    "merge_streams": "the streams of a session stay two; leave `merge_streams` out, or run it without `session`",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """The place of an execution in ``session``; ``wait``: also when another one runs there."""

    session: OpenSession
    wait: bool

    @property
    def turn(self) -> Turn:
        """The turn that it needs."""
        return Turn(self.session.live, self.wait)


def cell_of(request: ExecuteRequest, session: OpenSession) -> Cell:
    """The place of ``request`` in its session. Raises ``InvalidRequest`` for what no session can do."""
    asked = {"terminal": request.in_terminal, "merge_streams": request.merge_streams}
    if faults := [FieldError(f"/{name}", said) for name, said in _REFUSED.items() if asked[name]]:
        raise FieldsInvalid(faults)
    return Cell(session, request.if_busy == "wait")


def check_without_session(request: ExecuteRequest) -> None:
    """Raise ``InvalidRequest`` for what only an execution in a session can ask for."""
    if "if_busy" in request.model_fields_set:
        raise InvalidRequest("only a session can be busy; send `session` too, or leave `if_busy` out", "/if_busy")
