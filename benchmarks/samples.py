"""Durations taken one after the other, and what is said of them: percentiles, never means."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

Source = Callable[[], float]
"""Does one thing and returns how many seconds it took."""
WARM_UP_ROUNDS = 3
"""Rounds whose samples are thrown away."""
LEAST_ROUNDS = 10
"""Rounds that are taken however slow the machine is."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds, in rising order; at least one."""

    seconds: tuple[float, ...]

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        """Sort them. Raises ``ValueError`` when there are none: of nothing, nothing can be said."""
        ordered = tuple(sorted(seconds))
        if not ordered:
            raise ValueError("there is no sample")
        return cls(ordered)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.seconds)

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentile(50)

    @property
    def p90(self) -> float:
        """One in ten is slower."""
        return self.percentile(90)

    @property
    def p95(self) -> float:
        """One in twenty is slower."""
        return self.percentile(95)

    @property
    def p99(self) -> float:
        """One in a hundred is slower; below a hundred samples it leans on the slowest."""
        return self.percentile(99)

    def percentile(self, percent: float) -> float:
        """Linear between the two nearest ranks (numpy's and Excel's way)."""
        place = (len(self.seconds) - 1) * percent / 100
        below, above = math.floor(place), math.ceil(place)
        return self.seconds[below] + (self.seconds[above] - self.seconds[below]) * (place - below)

    def as_milliseconds(self) -> dict[str, float]:
        """For JSON."""
        named = {"p50_ms": self.p50, "p90_ms": self.p90, "p95_ms": self.p95, "p99_ms": self.p99}
        return {"samples": self.count, **{name: round(value * 1000, 4) for name, value in named.items()}}


def median(values: Iterable[float]) -> float:
    """The middle one, or half-way between the middle two."""
    return Samples.of(values).p50


def interleave(
    sources: Mapping[str, Source],
    *,
    rounds: int,
    seconds: float,
    settle: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Samples]:
    """One sample of each source in turn, ``rounds`` times or until ``seconds`` are over; ``settle`` runs before each.

    Whatever else the machine does then falls on all of them alike. Each round begins with the next source, so that
    none always follows the same neighbour. The first rounds warm caches and are not counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in sources}
    names = list(sources)
    deadline = clock() + seconds
    for round_ in range(WARM_UP_ROUNDS + rounds):
        if round_ >= WARM_UP_ROUNDS + LEAST_ROUNDS and clock() > deadline:
            break
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            settle()
            sample = sources[name]()
            if round_ >= WARM_UP_ROUNDS:
                taken[name].append(sample)
    return {name: Samples.of(values) for name, values in taken.items()}
