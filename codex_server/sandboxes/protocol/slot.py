"""What a slot's init, its zygote and the server send one another. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from .codec import Count, Range, Seconds
from .launch import Id
from .stdio import StdioOrder

Role = Literal["execution", "session", "interpreter", "files"]
"""What a slot, or a worker, is for: one execution after another, each in a worker of its own; or a session, whose
workers are interpreters that stay, and one that carries out operations on files."""


@dataclass(frozen=True, slots=True)
class WorkspacePin:
    """What the operator's folder is to be, whatever its path leads to by now (``guest/named_folders.identity``)."""

    identity: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class SlotOrder:
    """One slot to arm. ``agent`` is the command of the program that waits in it; None is the zygote's own Python.

    ``folder``: its own on the host, at level ``confined``; ``number``: which of the sets of device nodes is its own;
    ``workspace``: where the operator's folder lies that is its workspace, if it is one: in the guest root, or at level
    ``confined`` on the host, where ``pin`` says which folder that is.
    """

    uid: Id
    agent: tuple[str, ...] | None
    env: Mapping[str, str]
    folder: str | None
    number: Count
    stdio: StdioOrder
    role: Role = "execution"
    workspace: str | None = None
    pin: WorkspacePin | None = None

    @property
    def program(self) -> str:
        """The program that waits in the slot; "" is the zygote's own Python."""
        return self.agent[0] if self.agent else ""


@dataclass(frozen=True, slots=True)
class ZygoteOrder:
    """A slot for the zygote to fork. Without ``order``, which its init then receives past the zygote: ``confined``."""

    uid: Id
    order: SlotOrder | None


@dataclass(frozen=True, slots=True)
class SlotReady:
    """A worker waits in the slot; its descriptors are beside the frame."""


@dataclass(frozen=True, slots=True)
class WorkerForked:
    """A worker was forked, the zygote's ``serial``-th; its pidfd is beside the frame."""

    serial: Count


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How the worker ``serial`` ended, and what it used: what ``wait4`` said."""

    serial: Count
    status: Annotated[int, Range(0, 2**16 - 1)]
    cpu_seconds: Seconds
    peak_memory_bytes: Count


@dataclass(frozen=True, slots=True)
class StepFailure:
    """The step of the guest side that failed; ``errno`` is None when it was not the kernel that refused."""

    step: str
    errno: Annotated[int, Range(0, 4095)] | None
    message: str
