"""What the server holds while nothing runs."""

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.processes import Memory, NotReadable, Process, memory_of, program_of
from benchmarks.samples import median
from benchmarks.table import Row, Skipped, Target, as_mebibytes, mebibytes

_IDLE = "Memory of server, launcher and zygotes, idle (Pss)"
_ALL = "Memory of all processes together, armed slots too, idle (Pss)"
_SLOT = "Memory of an armed slot: its init and worker, private"


def idle(bench: Bench) -> Iterator[Row | Skipped]:
    """Server, launchers and zygotes together: shared pages are counted once, by ``Pss``."""
    bench.full()
    family = bench.server.family()
    try:
        parts = {
            "server": [memory_of(family.server).pss],
            "launcher": [memory_of(process).pss for process in family.launchers],
            "zygote": [memory_of(process).pss for process in family.zygotes],
        }
    except NotReadable as error:
        yield Skipped("idle-memory", _IDLE, f"the kernel does not show it to this user ({error})")
        return
    total = sum(map(sum, parts.values()))
    figures = {name: [round(as_mebibytes(size), 2) for size in sizes] for name, sizes in parts.items()}
    try:
        slots = sum(memory_of(process).pss for process in (*family.inits, *family.workers))
    except NotReadable as error:
        yield Skipped("idle-memory", _ALL, f"the kernel does not show it to this user ({error})")
    else:
        yield Row(
            "idle-memory",
            _ALL,
            as_mebibytes(total + slots),
            mebibytes(total + slots),
            f"armed slots {mebibytes(slots)}",
            unit="MiB",
            figures={"armed_mib": round(as_mebibytes(slots), 2)},
        )
    yield Row(
        "idle-memory", _IDLE, as_mebibytes(total), mebibytes(total), unit="MiB", target=Target(200), figures=figures
    )


def slot(bench: Bench) -> Iterator[Row | Skipped]:
    """One armed slot: the median of those that stand ready; those of Node.js apart."""
    bench.full()
    family = bench.server.family()
    try:
        inits = [memory_of(process) for process in family.inits]
        by_kind: dict[str, list[Memory]] = {}
        for process in family.workers:
            by_kind.setdefault(_kind(process), []).append(memory_of(process))
    except NotReadable as error:
        yield Skipped("slot-memory", _SLOT, f"the kernel does not show it to this user ({error})")
        return
    for kind, workers in sorted(by_kind.items(), reverse=True):
        private = median(part.private for part in inits) + median(part.private for part in workers)
        shared = median(part.pss for part in inits) + median(part.pss for part in workers)
        yield Row(
            "slot-memory",
            f"{_SLOT} ({kind})",
            as_mebibytes(private),
            mebibytes(private),
            f"Pss {mebibytes(shared)}",
            unit="MiB",
            target=Target(8) if kind == "python" else None,
            figures={"private_mib": round(as_mebibytes(private), 2), "pss_mib": round(as_mebibytes(shared), 2)},
        )


def _kind(worker: Process) -> str:
    return "python" if program_of(worker).startswith("python") else "node"
