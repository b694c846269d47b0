"""The launcher: starts the zygote in its own namespaces, then waits for the server's end to clean up after it.

It runs on the host with the server's uid, holds no secret and reads one LAUNCH frame. Its arguments are descriptors:
the control socket, which the zygote inherits as 3, and the lifeline, a pipe whose other end only the server holds.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..protocol import frames
from ..protocol.codec import decode, encode
from ..protocol.launch import LaunchPlan, NamespacePlan
from . import devices, kernel, mount_setup, named_folders
from .removal import remove_cgroups, remove_tree
from .step import StepFailed, step

CONTROL = 3
_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
)


def main() -> None:
    """Launch, wait, clean up; the exit status is the zygote's."""
    control, lifeline = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    os.set_inheritable(lifeline, False)
    try:
        with step("launch"):
            plan = decode(LaunchPlan, frames.receive(control)[1])
        child = _launch(plan, control)
    except StepFailed as failure:
        frames.send(control, frames.Kind.FAULT, encode(failure.as_message))
        sys.exit(1)
    control.close()
    status, server_gone = _outlive_server(child, lifeline)
    if server_gone:
        remove_cgroups(plan.cgroups)
        for folder in plan.folders:
            with contextlib.suppress(OSError):
                remove_tree(folder)
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _launch(plan: LaunchPlan, control: socket.socket) -> int:
    namespaces = plan.namespaces
    if namespaces is None:
        return _fork_confined(plan, control)
    sources = _open_sources(namespaces)
    ready, go = os.pipe()
    with step("namespaces"):
        # INVARIANT: root's own counters are not the guests': their user namespace is another id's.
        owner = namespaces.owner
        child = kernel.clone_as_owner(_NAMESPACES, owner) if owner else kernel.clone(_NAMESPACES)
    if child == 0:
        os.close(go)
        with _reported_failure(control):
            if os.read(ready, 1) != b"g":
                os._exit(1)
            mount_setup.enter_root(namespaces, sources)
            _exec_zygote(plan, control)
    os.close(ready)
    mount_setup.close_sources(sources)
    try:
        _write_maps(child, namespaces)
        os.write(go, b"g")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(go)
    return child


def _open_sources(plan: NamespacePlan) -> mount_setup.Sources:
    """As root, what only root may reach of what the guest root shows; else nothing: the zygote opens it."""
    if not plan.owner:
        return {}
    with step("mounts"):
        sources = mount_setup.open_sources(plan.entries)
    sources |= named_folders.open_folders(plan.workspaces)
    with step("devices"):
        nodes = devices.make_sets(plan.devices, plan.device_sets)
    return sources if nodes is None else sources | {devices.SETS: nodes}


@contextlib.contextmanager
def _reported_failure(control: socket.socket) -> Iterator[None]:
    """In a child: what does not exec reports why, and ends; never returns."""
    try:
        yield
    except StepFailed as failure:
        frames.send(control, frames.Kind.FAULT, encode(failure.as_message))
    finally:
        os._exit(1)


def _fork_confined(plan: LaunchPlan, control: socket.socket) -> int:
    """The zygote of level ``confined``: an ordinary process; its slots confine themselves with Landlock."""
    child = os.fork()
    if child == 0:
        with _reported_failure(control):
            kernel.die_with_parent()
            _exec_zygote(plan, control)
    return child


def _exec_zygote(plan: LaunchPlan, control: socket.socket) -> None:
    with step("exec"):
        if control.fileno() != CONTROL:
            os.dup2(control.fileno(), CONTROL)
        os.set_inheritable(CONTROL, True)
        kernel.close_descriptors_from(CONTROL + 1)
        os.execve(plan.argv[0], plan.argv, plan.env)


def _write_maps(child: int, plan: NamespacePlan) -> None:
    with step("id-maps"):
        if plan.map_tool:
            for tool, ids in (("newuidmap", plan.uid_map), ("newgidmap", plan.gid_map)):
                subprocess.run([tool, str(child), *map(str, ids)], check=True, capture_output=True, text=True)
            return
        if plan.ids_are_own:
            Path(f"/proc/{child}/setgroups").write_text("deny")
        for kind, ids in (("uid", plan.uid_map), ("gid", plan.gid_map)):
            Path(f"/proc/{child}/{kind}_map").write_text(" ".join(map(str, ids)))


def _outlive_server(child: int, lifeline: int) -> tuple[int, bool]:
    """Wait until the zygote ends, or the server does; then end the zygote. Its wait status, and which it was."""
    zygote = os.pidfd_open(child)
    poll = select.poll()
    poll.register(zygote, select.POLLIN)
    poll.register(lifeline, 0)  # only POLLHUP: nothing is ever written
    server_gone = any(descriptor == lifeline for descriptor, _ in poll.poll())
    # INVARIANT: nothing outlives the server: killing PID 1 of the namespaces kills everything in them.
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(zygote, signal.SIGKILL)
    return os.waitpid(child, 0)[1], server_gone
