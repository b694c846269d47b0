import itertools
import signal
from datetime import UTC, datetime

import pytest

from codex_server.limits import Limits
from codex_server.model import Captured, Ending, Outcome, Status, Stop


def ending(
    exit_code: int | None = None, number: int | None = None, stop: Stop | None = None, oom_kills: int = 0
) -> Ending:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    return Ending(exit_code, number, began, 1.0, 0.5, None, stop=stop, oom_kills=oom_kills)


def outcome(exit_code: int | None = None, number: int | None = None) -> Outcome:
    return Outcome("exe_1", ending(exit_code, number), Captured(), Captured(), 0.0, Limits())


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (ending(0), Status.SUCCEEDED),
        (ending(1), Status.FAILED),
        (ending(137), Status.FAILED),
        (ending(124), Status.FAILED),
        (ending(number=signal.SIGSEGV), Status.SIGNALLED),
        (ending(number=signal.SIGKILL), Status.SIGNALLED),
        (ending(number=signal.SIGKILL, oom_kills=1), Status.MEMORY_EXCEEDED),
        (ending(number=signal.SIGTERM, oom_kills=1), Status.SIGNALLED),
        (ending(number=signal.SIGXCPU), Status.SIGNALLED),
        (ending(0, oom_kills=3), Status.SUCCEEDED),
        (ending(number=signal.SIGKILL, stop=Stop.WALL_TIME), Status.TIMED_OUT),
        (ending(number=signal.SIGKILL, stop=Stop.CPU_TIME), Status.TIMED_OUT),
        (ending(number=signal.SIGKILL, stop=Stop.MEMORY), Status.MEMORY_EXCEEDED),
        (ending(number=signal.SIGKILL, stop=Stop.OUTPUT), Status.OUTPUT_EXCEEDED),
        (ending(number=signal.SIGKILL, stop=Stop.CANCELLED), Status.CANCELLED),
    ],
)
def test_an_ending_has_one_status(ended: Ending, status: Status) -> None:
    assert ended.status is status


@pytest.mark.parametrize(("stop", "exit_code", "oom_kills"), list(itertools.product(Stop, (0, 1, 137), (0, 1))))
def test_what_the_supervisor_did_outranks_what_the_program_says(stop: Stop, exit_code: int, oom_kills: int) -> None:
    assert ending(exit_code, stop=stop, oom_kills=oom_kills).status is ending(number=9, stop=stop).status


def test_every_status_can_come_about() -> None:
    numbers = [*range(1, 65)]
    seen = {ending(code).status for code in range(256)} | {ending(number=number).status for number in numbers}
    seen |= {ending(number=9, stop=stop).status for stop in Stop}
    assert seen == set(Status)


def test_the_exit_code_is_the_program_s_own_or_the_shell_s_for_a_signal() -> None:
    assert [ending(code).shell_exit_code for code in (0, 3, 255)] == [0, 3, 255]
    assert [ending(number=number).shell_exit_code for number in (9, 11)] == [137, 139]


def test_a_signal_has_its_name_even_where_it_has_none() -> None:
    assert ending(number=signal.SIGSEGV).signal_name == "SIGSEGV"
    assert ending(number=50).signal_name == "SIG50"
    assert ending(0).signal_name is None


def test_an_outcome_tells_the_exit_code_and_the_signal_of_its_ending() -> None:
    assert [(told.exit_code, told.signal) for told in (outcome(3), outcome(number=11))] == [(3, None), (139, "SIGSEGV")]
