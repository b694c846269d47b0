"""When init looks at the limits of the worker that it watches."""

import select
from types import SimpleNamespace

import pytest

from codex_server.sandboxes.guest import watch as module
from codex_server.sandboxes.guest.watch import Watch

pytestmark = pytest.mark.unprivileged


class ProcessTree:
    """A worker that runs until the test says otherwise."""

    def __init__(self) -> None:
        self.worker = 7
        self.status: int | None = None
        self.watched: list[int] = []

    def look(self) -> None:
        pass


class Poll:
    """Waits in no time: the clock goes on by as much, or less where something happens after ``busy`` seconds."""

    def __init__(self, busy: float | None = None) -> None:
        self.now = 1000.0
        self._busy = busy

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        if self._busy is None or milliseconds / 1000 <= self._busy:
            self.now += milliseconds / 1000
            return []
        self.now += self._busy
        return [(99, select.POLLIN)]


@pytest.mark.parametrize("busy", [None, 0.03], ids=["quiet", "busy"])
def test_the_limits_are_looked_at_ten_times_a_second_however_much_happens(busy, monkeypatch):
    poll, looks = Poll(busy), list[float]()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: poll.now))

    def passed() -> str | None:
        looks.append(poll.now - 1000)
        return "memory" if len(looks) == 5 else None

    watch = Watch(ProcessTree(), object(), SimpleNamespace(passed=passed), cgroups=False)  # type: ignore[arg-type]
    watch._poll = poll  # type: ignore[assignment]
    assert watch.watch() == "memory"
    assert looks == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
