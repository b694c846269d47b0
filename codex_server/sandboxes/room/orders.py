"""What a slot is told: by the backend (``setup``), for this one slot (``body``), and what stands around it."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .walls import Walls


@dataclass(frozen=True, slots=True)
class Orders:
    """Everything that a slot's init and worker work by."""

    setup: dict[str, Any]
    body: dict[str, Any]
    agent: ModuleType
    walls: Walls
