"""What a slot is told: by the backend (``setup``), for this one slot (``body``), and what stands around it."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .boundary import Boundary


@dataclass(frozen=True, slots=True)
class SlotConfig:
    """Everything that a slot's init and worker work by."""

    setup: dict[str, Any]
    body: dict[str, Any]
    agent: ModuleType
    boundary: Boundary
