"""Answers the system calls of one worker that its init does for it, or counts (``notices.py``)."""

import errno

from . import kernel, notices
from .attributes import AttributeService
from .boundary import Boundary
from .landlock_boundary import LandlockBoundary
from .locks import Locks, LockService

_MOST_ROUTE_SOCKETS = 32
"""What waits in one of them is charged to nobody, and is at most twice net.core.rmem_max: 13 MiB in all by default."""


class NoticeServer:
    """``listener`` is the descriptor of the worker's notices, -1 where there is none now.

    Workers of one guest share ``locks``.
    """

    def __init__(self, boundary: Boundary, locks: Locks | None = None) -> None:
        self.listener = -1
        self._boundary = boundary
        self.locks = LockService(self._answer, self._is_waiting, locks)
        self._services = {kernel.number_of(notices.LOCKS.call): self.locks.serve}
        if isinstance(boundary, LandlockBoundary):
            attributes = AttributeService(boundary.own_folders, self._answer, self._is_waiting)
            self._services |= {kernel.number_of(held.call): attributes.serve for held in notices.ATTRIBUTES}

    def receive(self) -> notices.Notice | None:
        """Take the next call and answer it, if it is one that this serves; else return it, to be let go."""
        notice = notices.receive(self.listener)
        if notice is None:
            return None
        if serve := self._services.get(notice.number):
            serve(notice)
            return None
        if notice.is_of(notices.NETWORK):
            self._serve_socket(notice)
            return None
        return notice

    def let_go(self, notice: notices.Notice) -> None:
        """Let the call be carried out."""
        notices.let_go(self.listener, notice)

    def _serve_socket(self, notice: notices.Notice) -> None:
        self._boundary.note_internet()
        if notice.is_of(notices.ROUTES) and self._boundary.route_sockets() >= _MOST_ROUTE_SOCKETS:
            self._answer(notice, errno.EMFILE)
        else:
            self.let_go(notice)

    def _answer(self, notice: notices.Notice, error: int) -> None:
        notices.answer(self.listener, notice, error)

    def _is_waiting(self, notice: notices.Notice) -> bool:
        return notices.is_waiting(self.listener, notice)
