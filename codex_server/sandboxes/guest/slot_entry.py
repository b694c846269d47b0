"""What every init does first: the boundary is raised before anything of a guest exists."""

import gc
import os
import signal

from . import kernel
from .boundary import Boundary
from .step import step


def enter_slot(boundary: Boundary, cgroups: list[int]) -> None:
    """Join ``cgroups`` and raise ``boundary`` around this process."""
    gc.disable()  # a collection would touch, and so copy, every page that is shared with the zygote
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    with step("cgroup"):
        for cgroup in cgroups:
            os.write(cgroup, b"0")
    boundary.enter()
    kernel.set_dumpable(False)
