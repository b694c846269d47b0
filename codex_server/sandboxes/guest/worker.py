"""The worker: confines itself for good, waits, and then becomes the user's program.

INVARIANT: every confinement is complete before the first byte of user code is read. The order matters: what needs a
privilege comes before the privileges go, and the system call filter comes last.
"""

import gc
import importlib.util
import os
import resource
import signal
import socket
import sys
from types import ModuleType
from typing import NoReturn

from ..protocol.codec import parse
from ..protocol.run import WorkerRequest
from . import kernel, notices, terminal
from .boundary import SLOT_NAMESPACES
from .credentials import take_uid
from .slot_config import SlotConfig

READY = b"R"
_CHANNEL = 3
_FIXED_LIMITS = {
    resource.RLIMIT_CORE: (1, 1),  # no core at all: a limit of 0 does not hold where the host pipes cores to a program
    resource.RLIMIT_NOFILE: (1024, 1024),
    resource.RLIMIT_STACK: (8 * 2**20, 64 * 2**20),
    resource.RLIMIT_MEMLOCK: (2**16, 2**16),
    resource.RLIMIT_MSGQUEUE: (0, 0),
    resource.RLIMIT_NICE: (0, 0),
    resource.RLIMIT_RTPRIO: (0, 0),
}
_LOCKS = 10  # RLIMIT_LOCKS, which the kernel no longer looks at
_INHERITED_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_RSS, resource.RLIMIT_RTTIME, _LOCKS)
"""Those that bound nothing here: as far up as the server's own hard limit. Of an execution init bounds the CPU time; of
an interpreter, which lives for many cells, it counts each one's."""

_UNKNOWN_TO_GVISOR = {
    resource.RLIMIT_MSGQUEUE,
    resource.RLIMIT_NICE,
    resource.RLIMIT_RTPRIO,
    resource.RLIMIT_SIGPENDING,
    *_INHERITED_LIMITS,
}
"""gVisor lets nobody set these: what they bound is the container's own there, or does not exist."""


def main(config: SlotConfig, descriptors: list[int], slot: int = -1) -> NoReturn:
    """Confine this process, then serve the one request; never returns.

    ``descriptors``: the request's, the three streams, then the cgroups to join. ``slot``: the pidfd of the init whose
    namespaces are to be joined, where this process was not forked by that init itself.
    """
    agent, order = config.template.agent, config.order
    request, *rest = descriptors
    try:
        os.dup2(request, _CHANNEL, inheritable=False)
        for target, source in enumerate(rest[:3]):
            os.dup2(source, target)
        die_first()
        _join(slot, rest[3:])
        # INVARIANT: the guest has descriptors 0, 1 and 2, and the request's until it is read.
        kernel.close_descriptors_from(_CHANNEL + 1)
        confine(config)
        os.chdir(config.boundary.workspace)
        if order.agent:
            os.set_inheritable(_CHANNEL, True)
            os.execve(order.program, order.agent, order.env)
        if order.role == "files":
            _load_files(config.template.setup.import_path).serve(_CHANNEL, kernel)
        agent.warm_up()
        gc.enable()  # init had switched it off
        if order.role == "interpreter":
            agent.serve(_CHANNEL, dict(order.env))
        _become_program(agent)
    except BaseException as error:
        with socket.socket(fileno=_CHANNEL) as answer:
            answer.send(f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(1)


def _load_files(import_path: str) -> ModuleType:
    """What carries out operations on files: loaded here, for no other worker needs it."""
    folder = f"{import_path}/sandboxes/files"
    place = importlib.util.spec_from_file_location(
        "files", f"{folder}/__init__.py", submodule_search_locations=[folder]
    )
    if place is None:
        raise ImportError(f"cannot load {folder}")
    sys.modules["files"] = importlib.util.module_from_spec(place)
    return importlib.import_module("files.service")


def die_first() -> None:
    """The guest dies for memory before its init does. In a slot, whose /proc is read-only, it cannot take that back."""
    kernel.set_dumpable(True)  # its own /proc/self belongs to it again; init's inherited setting had closed it
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)


def _join(slot: int, cgroups: list[int]) -> None:
    for cgroup in cgroups:
        os.write(cgroup, b"0")
    if slot >= 0:
        kernel.setns(slot, SLOT_NAMESPACES)


def confine(config: SlotConfig) -> None:
    """Give up every privilege, then every needless system call."""
    setup, filters = config.template.setup, config.template.filters
    os.setsid()
    if config.order.stdio.terminal:
        terminal.control(0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _set_limits(setup.pending_signals)
    kernel.renew_random_bytes()
    if setup.uid_per_slot:
        take_uid(config.order.uid)
    kernel.drop_capabilities()
    kernel.forbid_new_privileges()
    kernel.set_dumpable(True)  # the change of uid had closed it once more
    config.boundary.confine_worker()
    if filters.notices:
        with _open_channel() as channel:
            notices.announce(channel, filters.notices, filters.without_notices)
            channel.detach()
    if config.order.role != "execution":
        kernel.load_seccomp(filters.of_sessions)
    if config.order.workspace:
        kernel.load_seccomp(filters.of_workspaces)
    kernel.load_seccomp(filters.seccomp)


def _set_limits(pending_signals: int) -> None:
    """All sixteen, but for those that init sets when it knows the execution or the interpreter: DATA, FSIZE, NPROC."""
    fixed = _FIXED_LIMITS | {resource.RLIMIT_SIGPENDING: (pending_signals, pending_signals)}
    fixed |= dict.fromkeys(_INHERITED_LIMITS, (resource.RLIM_INFINITY,) * 2)
    for limit, values in fixed.items():
        hard = resource.getrlimit(limit)[1]
        soft, most = (_lower(value, hard) for value in values)  # nobody may have more than the server itself
        try:
            resource.setrlimit(limit, (soft, most))
        except ValueError:  # EPERM, which Linux never gives where a limit is not raised
            if limit not in _UNKNOWN_TO_GVISOR:
                raise


def _lower(one: int, other: int) -> int:
    """The tighter of two limits; RLIM_INFINITY is -1 to Python."""
    if resource.RLIM_INFINITY in (one, other):
        return other if one == resource.RLIM_INFINITY else one
    return min(one, other)


def _open_channel() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=_CHANNEL)


def _become_program(agent: ModuleType) -> NoReturn:
    """Wait for the request, then run it here or exec its command."""
    request = _read_request()
    if request.argv:
        try:
            os.execve(request.argv[0], request.argv, request.env)
        except (OSError, ValueError) as error:
            os.write(2, f"{request.argv[0]}: {error}\n".encode())
            os._exit(126)
    agent.run(request.file, list(request.args), dict(request.env))
    os._exit(70)


def _read_request() -> WorkerRequest:
    with _open_channel() as channel:
        channel.send(READY)
        parts = []
        while part := channel.recv(2**16):
            parts.append(part)
    if not parts:
        os._exit(0)
    return parse(WorkerRequest, b"".join(parts))
