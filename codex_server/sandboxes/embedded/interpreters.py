"""How the interpreters of a session in a slot are started."""

from dataclasses import dataclass, replace

from codex_server.errors import InvalidRequest, SandboxUnavailable
from codex_server.languages import Language, Languages, Start
from codex_server.limits import Limits
from codex_server.model import Terminal
from codex_server.sandboxes.embedded.commands import session_command_of, shell_command_of
from codex_server.sandboxes.embedded.slot import Slot
from codex_server.sandboxes.protocol.cell import interpreter_order
from codex_server.sandboxes.protocol.session import FILES, InterpreterOrder
from codex_server.sandboxes.protocol.stdio import TerminalSize

_SHELL = "bash"
_NO_TERMINAL = (
    "this server runs programs at isolation level `confined`, where they have no devices of their own, so a session "
    'has no shells there; run Bash with `language: "bash"`, or run the server where it reaches level `namespaces`'
)


@dataclass(frozen=True, slots=True)
class SlotInterpreters:
    """Those of the session in ``slot``, with ``limits``."""

    slot: Slot
    languages: Languages
    limits: Limits

    def of(self, language: Language) -> InterpreterOrder:
        """See ``InterpreterOrders.of``."""
        command = session_command_of(language, confined=self._confined)
        environment = {**self.slot.environment, **language.env}
        # V8 reserves far more than it uses.
        data_limit = language.start is not Start.AGENT
        return interpreter_order(language.name, command, environment, self.limits, data_limit=data_limit)

    def of_files(self) -> InterpreterOrder:
        """See ``InterpreterOrders.of_files``."""
        return interpreter_order(FILES, None, self.slot.environment, self.limits)

    def of_shell(self, name: str, size: Terminal) -> InterpreterOrder:
        """See ``InterpreterOrders.of_shell``."""
        if self._confined:
            raise InvalidRequest(_NO_TERMINAL)
        bash = self.languages.get(_SHELL)
        if bash is None or not bash.available:
            raise SandboxUnavailable("this server has no Bash, so a session has no shells")
        environment = {**self.slot.environment, "TERM": "xterm-256color"}
        order = interpreter_order(name, shell_command_of(bash), environment, self.limits)
        return replace(order, terminal=TerminalSize(size.rows, size.columns))

    @property
    def _confined(self) -> bool:
        return self.slot.folder is not None
