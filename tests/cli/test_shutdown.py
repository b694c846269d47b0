import pytest

from codex_server.cli.shutdown import describe_stop, show
from codex_server.model import ExecutorStats


@pytest.mark.parametrize(
    ("running", "queued", "told"),
    [
        (0, 0, "Stopping."),
        (1, 0, "Stopping: 1 execution may take up to 30 s more; Ctrl-C again stops at once."),
        (2, 3, "Stopping: 5 executions may take up to 30 s more; Ctrl-C again stops at once."),
    ],
)
def test_a_stop_tells_what_it_waits_for_and_how_not_to(running: int, queued: int, told: str):
    assert describe_stop(ExecutorStats(running, queued, {}), 30) == told


def test_a_reader_that_has_left_does_not_hold_up_the_stop(monkeypatch: pytest.MonkeyPatch):
    def broken(*_args: object, **_more: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", broken)
    show("Stopped.")
