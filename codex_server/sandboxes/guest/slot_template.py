"""What is the same for every slot that is forked from one process: made ready once, then inherited."""

import importlib.util
from dataclasses import dataclass
from types import ModuleType

from ..protocol.launch import SlotSetup


@dataclass(frozen=True, slots=True)
class Filters:
    """The programs of a worker's system call filters; ``notices`` is empty where init does nothing for the worker.

    ``without_notices`` refuses what is in ``notices``, where the kernel offers none; ``of_workspaces`` is loaded too
    where the workspace is a folder of the operator's, ``of_sessions`` in a session.
    """

    seccomp: bytes
    of_sessions: bytes
    notices: bytes = b""
    without_notices: bytes = b""
    of_workspaces: bytes = b""


@dataclass(frozen=True, slots=True)
class SlotTemplate:
    """The backend's ``setup``, the runner's warm agent, the filters; ``overlay``: slots have inodes of their own."""

    setup: SlotSetup
    agent: ModuleType
    filters: Filters
    overlay: bool = False


def load_agent(path: str) -> ModuleType:
    """The runner's agent in the file ``path``. Raises ``ImportError``."""
    spec = importlib.util.spec_from_file_location("_runner_agent", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
