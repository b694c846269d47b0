"""A sandbox's container as it is requested of the engine: pure functions, so that the promises stand in one place.

INVARIANT: no network, no capability, no new privilege, no writable root; no folder of the host but the one that the
operator has named for a session; the processes are not root's.
"""

import json
from dataclasses import dataclass
from typing import Any

from codex_server.limits import Limits
from codex_server.paths import WORKSPACE
from codex_server.sandboxes.hidden import HIDDEN_IN_PROC

OWNER_LABEL = "codex-server.owner"
INSTANCE_LABEL = "codex-server.instance"
TASKS_OF_INIT = 2
"""Init and its relay."""
_TASKS_OF_RUNTIME = 6
"""What a runtime has in the container while it starts it."""
OWN_MEMORY_BYTES = 24 * 2**20
"""Memory of a container that is not the program's: init's, which elsewhere is shared with the zygote."""
OWN_MEMORY_BYTES_PRELOADED = 96 * 2**20
"""The same where init has imported the data packages (measured: 67 MiB)."""
_INODES = 20_000
_BOOT_ID = "sys/kernel/random/boot_id"
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_SYSTEM_TREES = ("/sys/firmware", "/sys/devices/virtual/powercap")


@dataclass(frozen=True, slots=True)
class WorkspaceMount:
    """A folder of the operator's that a session has as its workspace, and whose id the session then has.

    ``owner``: uid and gid, neither root's; None: an id of the container's own, for a folder that is only read.
    ``processes``: how many the session may have: the kernel counts those of the owner on the host with them.
    """

    folder: str
    read_only: bool
    owner: tuple[int, int] | None
    processes: int


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """What differs between containers. ``seccomp`` is the JSON profile; ``runtime`` None is the engine's default.

    ``workspace``: None for one in memory.
    """

    image: str
    uid: int
    owner: str
    instance: str
    ceilings: Limits
    workspace_bytes: int
    shm_bytes: int
    seccomp: dict[str, Any]
    runtime: str | None = None
    own_memory_bytes: int = OWN_MEMORY_BYTES
    workspace: WorkspaceMount | None = None

    @property
    def ids(self) -> tuple[int, int]:
        """Uid and gid of everything that runs in it."""
        return (self.workspace and self.workspace.owner) or (self.uid, self.uid)


def container_config(plan: ContainerPlan) -> dict[str, Any]:
    """The body of the engine's request to create a container."""
    return {
        "Image": plan.image,
        "User": "{}:{}".format(*plan.ids),
        "Hostname": "sandbox",
        "WorkingDir": WORKSPACE,
        "OpenStdin": True,
        "StdinOnce": True,  # init learns of the server's end, whatever ended it, and ends with it
        "StopSignal": "SIGKILL",  # an engine that is stopped would wait 10 s for init to heed another
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},  # whatever the base image would have run beside the program
        "Labels": {OWNER_LABEL: plan.owner, INSTANCE_LABEL: plan.instance},
        "HostConfig": _host_config(plan),
    }


def _host_config(plan: ContainerPlan) -> dict[str, Any]:
    memory = plan.ceilings.memory_bytes + plan.own_memory_bytes
    processes = plan.workspace.processes if plan.workspace else plan.ceilings.processes
    config = {
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={json.dumps(plan.seccomp, separators=(',', ':'))}"],
        "MaskedPaths": [*(f"/proc/{name}" for name in (*HIDDEN_IN_PROC, _BOOT_ID)), *_SYSTEM_TREES],
        "ReadonlyPaths": [f"/proc/{name}" for name in _READ_ONLY],
        "Memory": memory,
        "MemorySwap": memory,
        "PidsLimit": processes + TASKS_OF_INIT + _TASKS_OF_RUNTIME,
        "OomScoreAdj": 500,  # before the engine and the server
        "Tmpfs": _tmpfs(plan),
        "LogConfig": {"Type": "none"},  # else every byte of output would be kept on the host's disk
        "RestartPolicy": {"Name": "no"},
        "Init": False,
    }
    config |= {"Mounts": [_bind(plan.workspace)]} if plan.workspace else {}
    return config | ({"Runtime": plan.runtime} if plan.runtime else {})


def _bind(workspace: WorkspaceMount) -> dict[str, Any]:
    """INVARIANT: exactly that folder, without what is mounted inside; one that is missing is not made."""
    return {
        "Type": "bind",
        "Source": workspace.folder,
        "Target": WORKSPACE,
        "ReadOnly": workspace.read_only,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
    }


def _tmpfs(plan: ContainerPlan) -> dict[str, str]:
    common = f"rw,exec,nosuid,nodev,nr_inodes={_INODES}"
    in_memory = f"{common},size={plan.workspace_bytes},mode=755,uid={plan.uid},gid={plan.uid}"
    return ({} if plan.workspace else {WORKSPACE: in_memory}) | {
        "/tmp": f"{common},size={plan.workspace_bytes},mode=1777",  # noqa: S108
        "/dev/shm": f"{common},size={plan.shm_bytes},mode=1777",  # noqa: S108
    }
