"""What a slot's init and worker work by: what all slots share, this slot's order, and the boundary around it."""

from dataclasses import dataclass

from ..protocol.slot import SlotOrder
from .boundary import Boundary
from .slot_template import SlotTemplate


@dataclass(frozen=True, slots=True)
class SlotConfig:
    """One slot. ``order`` changes each time that it is armed."""

    template: SlotTemplate
    order: SlotOrder
    boundary: Boundary
