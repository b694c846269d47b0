"""Whose containers are whose: so that a server removes what another one left, and never what a living one uses.

Every container bears the id of its owner, a state folder, and of the server (the instance) that made it. Servers on one
state folder share a lock while they live; whoever can have it alone knows that every other instance is dead.
"""

import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from codex_server.errors import StartupError

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
            self._lock = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if not self._read():
                self._name()
                fcntl.flock(self._lock, fcntl.LOCK_SH)
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
        """Write a new id, unless another server that starts now was first."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if not self._read():
            self.owner = secrets.token_hex(8)
            os.pwrite(self._lock, f"{self.owner}\n".encode(), 0)

    def alone(self) -> bool:
        """Whether no other server on this state folder lives now."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A failed upgrade may have given the shared lock away (flock(2)).
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            return False
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return True

    def close(self) -> None:
        """Let the lock go; safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
