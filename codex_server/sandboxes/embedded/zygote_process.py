"""A zygote as the server sees it: start it through a launcher, request slots of it, end it."""

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from codex_server.errors import SandboxUnavailable
from codex_server.interpreters import SYSTEM_PATH
from codex_server.sandboxes.embedded.channel import Channel, close_all
from codex_server.sandboxes.embedded.slot import receive_ready
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode, encode
from codex_server.sandboxes.protocol.launch import LaunchPlan, SlotSetup, ZygoteReady
from codex_server.sandboxes.protocol.slot import SlotOrder, StepFailure, ZygoteOrder

SANDBOXES_FOLDER = Path(__file__).parent.parent
"""Holds the guest side's packages, ``guest`` and ``protocol``."""
_LAUNCH_SECONDS = 60.0
_END_SECONDS = 10.0
_BOOT = (
    "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {path!r}); "
    "from sandboxes.guest import {module}; {module}.main()"
)


class LaunchFailed(Exception):
    """The zygote did not come up: ``step`` and ``errno`` say where (both None: it ended without a word)."""

    def __init__(self, step: str | None, errno: int | None, message: str) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno


def boot_argv(interpreter: str, import_path: str, module: str) -> tuple[str, ...]:
    """Start ``module`` of the guest side in ``interpreter``; ``import_path`` is the folder that holds ``sandboxes``."""
    return interpreter, "-c", _BOOT.format(path=import_path, module=module)


class Zygote:
    """A running zygote and its launcher."""

    def __init__(self, launcher: subprocess.Popen[bytes], channel: Channel, lifeline: int) -> None:
        self._launcher = launcher
        self._channel = channel
        self._lifeline = lifeline
        self.shortfall: tuple[str, ...] = ()
        """What this host did not give its guest root, and what programs have to do without for it."""

    @classmethod
    async def launch(cls, interpreter: str, plan: LaunchPlan, setup: SlotSetup) -> "Zygote":
        """Start one and wait until it is warm. Raises ``LaunchFailed``."""
        with contextlib.ExitStack() as stack:
            try:
                errors = stack.enter_context(tempfile.TemporaryFile())
                launcher, channel, lifeline = _launch(interpreter, errors)
            except OSError as error:  # no process, descriptor or space on the disk is left on this host
                raise LaunchFailed(None, error.errno, f"its launcher cannot be started: {error}") from error
            zygote = cls(launcher, Channel(channel), lifeline)
            try:
                await zygote._become_ready(plan, setup, errors)
            except BaseException:
                await zygote.close()
                raise
        return zygote

    async def _become_ready(self, plan: LaunchPlan, setup: SlotSetup, errors: IO[bytes]) -> None:
        try:
            self._channel.send(frames.Kind.LAUNCH, encode(plan))
            self._channel.send(frames.Kind.LAUNCH, encode(setup))
            async with asyncio.timeout(_LAUNCH_SECONDS):
                kind, body, descriptors = await self._channel.receive()
        except frames.Closed:
            errors.seek(0)
            said = errors.read(10_000).decode("utf-8", "replace").strip()
            raise LaunchFailed(None, None, said or "it ended without a word") from None
        except frames.BadFrame as error:
            raise LaunchFailed(None, None, f"it broke the protocol ({error})") from error
        except TimeoutError:
            raise LaunchFailed(None, None, f"it was not ready after {_LAUNCH_SECONDS:g} s") from None
        close_all(descriptors)
        if kind is frames.Kind.FAULT:
            failure = decode(StepFailure, body)
            raise LaunchFailed(failure.step, failure.errno, failure.message)
        self.shortfall = _shortfall_of(plan, decode(ZygoteReady, body))

    @property
    def alive(self) -> bool:
        """Whether it still runs; a dead zygote's slots are dead too, but at level ``confined``."""
        return self._channel.is_silent() and self._launcher.poll() is None

    async def arm(self, order: SlotOrder, cgroups: list[int]) -> tuple[Channel, list[int]]:
        """Make a slot: its channel, and the descriptors of its init, its input and its outputs; a session has none yet.

        Raises ``SandboxUnavailable``.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(ours)
        try:
            with theirs:
                past = order.folder is not None
                if past:
                    channel.send(frames.Kind.ARM, encode(order))
                message = ZygoteOrder(order.uid, None if past else order)
                self._channel.send(frames.Kind.ARM, encode(message), (theirs.fileno(), *cgroups))
            return channel, await receive_ready(channel, 1 + (0 if order.role == "session" else order.stdio.ends))
        except (frames.Closed, OSError) as error:
            channel.close()
            raise SandboxUnavailable(f"a sandbox could not be armed ({type(error).__name__})") from error
        except BaseException:
            channel.close()
            raise

    async def close(self) -> None:
        """End it and wait until everything in its namespaces is dead.

        The zygote ends when its channel closes, and the launcher with it. The lifeline is closed last: to the launcher
        its end means that the server is gone, and then it removes the cgroups, which a zygote started anew still needs.
        """
        self._channel.close()
        try:
            await asyncio.to_thread(self._launcher.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            self._launcher.kill()  # the zygote dies with it
            await asyncio.to_thread(self._launcher.wait)
        finally:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1


def _shortfall_of(plan: LaunchPlan, ready: ZygoteReady) -> tuple[str, ...]:
    """In words, what a READY frame says is missing."""
    found = []
    if plan.namespaces and not ready.overlay:
        found.append(
            "this kernel allows no overlay over the folders that programs see, so locks and watches on files (flock, "
            "fcntl, inotify; SQLite on a file needs them) are refused: keep Python and the data packages on an "
            "ordinary file system such as ext4 or xfs"
        )
    if plan.namespaces and plan.namespaces.owner and not ready.nodes:
        found.append(
            "device nodes cannot be made here, so locks on /dev/null and its kin are shared with the host: run the "
            "server with CAP_MKNOD"
        )
    return tuple(found)


def _launch(interpreter: str, errors: IO[bytes]) -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    """A launcher, our end of its channel, and its lifeline. Raises ``OSError``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held, lifeline = os.pipe()
    try:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * frames.MAX_FRAME)
        return _start_launcher(interpreter, theirs, held, errors), ours, lifeline
    except BaseException:
        ours.close()
        os.close(lifeline)
        raise
    finally:
        theirs.close()
        os.close(held)


def _start_launcher(
    interpreter: str, control: socket.socket, lifeline: int, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    argv = boot_argv(interpreter, str(SANDBOXES_FOLDER.parent), "launcher")
    # INVARIANT: the guest side inherits no variable and no descriptor of the server but these two.
    return subprocess.Popen(
        [*argv, str(control.fileno()), str(lifeline)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env={"LANG": "C.UTF-8", "PATH": SYSTEM_PATH},
        cwd="/",
        pass_fds=(control.fileno(), lifeline),
        umask=0o022,  # what is built for the guest must be readable to it, whatever the operator's shell says
        start_new_session=True,
    )
