"""What of ``/proc`` shows the host and is needed by no program: hidden from guests by either backend."""

from typing import Final

HIDDEN_IN_PROC: Final = (
    "acpi", "asound", "bus", "cmdline", "config.gz", "diskstats", "driver", "fs", "interrupts", "irq", "kallsyms",
    "kcore", "key-users", "keys", "latency_stats", "mdstat", "modules", "mtrr", "partitions", "sched_debug", "scsi",
    "swaps", "timer_list", "timer_stats",
)  # fmt: skip
"""Files and folders, by their names in ``/proc``."""
