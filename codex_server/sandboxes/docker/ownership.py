"""Whose containers are whose: so that a server removes what another one left, and never what a living one uses.

Every container bears the id of its owner, a state folder, and of the server (the instance) that made it. Servers on one
state folder share a lock while they live; whoever can have it alone knows that every other instance is dead.
"""

import fcntl
import os
import secrets
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from codex_server.errors import StartupError
from codex_server.files import open_lock

_FILE = "docker-owner"


class Ownership:
    """The owner's id, from a file in ``state_dir`` that is made when it is missing, and this instance's."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / _FILE
        self.instance = secrets.token_hex(8)
        self.owner = ""
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = open_lock(self._file)
            self._name()
        except OSError as error:
            self.close()
            raise StartupError(
                f"{self._file} cannot be used ({error.strerror}): the docker backend marks its containers with it; "
                "name a folder that this account may write with CODEX_STATE_DIR"
            ) from error
        return self

    def _read(self) -> bool:
        self.owner = os.pread(self._lock, 64, 0).decode("ascii", "replace").strip()
        return bool(self.owner)

    def _name(self) -> None:
        """Share the lock, of a file that has an id: a new one, unless another server that starts now is first."""
        while not self._read():
            try:
                self._change(fcntl.F_OFD_SETLK, fcntl.F_WRLCK)
            except BlockingIOError:
                self._change(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK)  # until that one has written it
                self._change(fcntl.F_OFD_SETLK, fcntl.F_UNLCK)
                continue
            if not self._read():
                os.pwrite(self._lock, f"{secrets.token_hex(8)}\n".encode(), 0)
        self._change(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK)
        self._read()  # what was read without the lock may have been a part of it

    def alone(self) -> bool:
        """Whether no other server on this state folder lives now.

        INVARIANT: asking never gives the own place away, not for a moment: another server that asks then would take
        this one for dead. So it is a lock of fcntl(2); flock(2) lets go before it tries for more.
        """
        try:
            self._change(fcntl.F_OFD_SETLK, fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        self._change(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK)
        return True

    def _change(self, how: int, kind: int) -> None:
        """Have the lock of that kind on the whole file; it is this open file's, not the process's."""
        fcntl.fcntl(self._lock, how, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))

    def close(self) -> None:
        """Let the lock go; safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
