"""The init of a session that has a container of its own."""

import socket
import threading

from ..protocol.launch import SlotSetup
from ..protocol.session import CellOrder, CellStopReason
from ..protocol.slot import SlotOrder
from .boundary import ContainerBoundary
from .cgroup_accounting import CgroupAccounting
from .process_tree import ProcessTree
from .session_bounds import SessionBounds
from .session_init import SessionInit
from .session_relay import SessionRelay
from .slot_config import SlotConfig
from .slot_template import SlotTemplate


class ContainerSessionBounds(SessionBounds):
    """What was used is what the container's cgroup has counted, where the engine shows it."""

    def __init__(
        self, setup: SlotSetup, boundary: ContainerBoundary, process_tree: ProcessTree, *, on_disk: bool
    ) -> None:
        super().__init__(setup, boundary, process_tree, on_disk=on_disk)
        self._container = boundary
        self._accounting = CgroupAccounting.open()

    def used_seconds(self) -> float:
        """See ``SessionBounds.used_seconds``."""
        counted = self._accounting.cpu_seconds()
        return super().used_seconds() if counted is None else counted

    def oom_kills(self) -> int:
        """See ``SessionBounds.oom_kills``."""
        return self._accounting.oom_kills() or 0

    def passed(self, order: CellOrder, seconds_before: float) -> CellStopReason | None:
        """See ``SessionBounds.passed``."""
        stored = self._container.stored_bytes()
        return "memory" if stored > order.memory_bytes else super().passed(order, seconds_before)


class ContainerSessionInit(SessionInit):
    """A session's init where a container is the boundary."""

    def __init__(self, config: SlotConfig, boundary: ContainerBoundary, channel: socket.socket) -> None:
        super().__init__(config, channel, ProcessTree(boundary), [])
        self._container = boundary

    def _make_bounds(self) -> SessionBounds:
        setup, on_disk = self._config.template.setup, self._config.order.workspace is not None
        return ContainerSessionBounds(setup, self._container, self.process_tree, on_disk=on_disk)


def serve_session(template: SlotTemplate, order: SlotOrder, relay: socket.socket, channel: socket.socket) -> None:
    """Serve cells until the server is gone. ``relay`` and ``channel`` are the ends of the relay and of init."""
    boundary = ContainerBoundary(on_disk=order.workspace is not None)
    threading.Thread(target=SessionRelay(relay).run).start()
    ContainerSessionInit(SlotConfig(template, order, boundary), boundary, channel).serve()
