import os
from datetime import UTC, datetime

import pytest

from codex_server.cli.local import exit_code, limits_for, why_ended
from codex_server.cli.program import EXIT_STOPPED
from codex_server.cli.run import Passthrough
from codex_server.errors import LimitTooLoose
from codex_server.limits import Limits
from codex_server.model import Ending, Stop, Stream
from codex_server.settings import load_settings


def ending(exit_code: int | None = None, signal: int | None = None, **more) -> Ending:
    return Ending(exit_code, signal, datetime.now(UTC), 1.0, 1.0, None, **more)


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (ending(0), 0, None),
        (ending(3), 3, None),
        (ending(signal=11), 139, "ended by SIGSEGV"),
        (ending(signal=60), 188, "ended by SIG60"),
        (ending(signal=9, stop=Stop.WALL_TIME), EXIT_STOPPED, "stopped: it took longer than 10 s; --timeout"),
        (
            ending(signal=9, stop=Stop.CPU_TIME),
            EXIT_STOPPED,
            "more than 30 s of CPU time; --set max_cpu_seconds=60 allows more",
        ),
        (ending(0, stop=Stop.MEMORY), EXIT_STOPPED, "more than 512 MiB of memory"),
        (ending(signal=9, oom_kills=1), 137, "more than 512 MiB of memory"),
        (ending(signal=9, stop=Stop.OUTPUT), EXIT_STOPPED, "stopped: output exceeded"),
    ],
)
def test_the_exit_code_is_the_programs_and_a_stop_is_explained(end: Ending, code: int, said: str | None):
    assert exit_code(end) == code
    reason = why_ended(end, Limits())
    assert reason is None if said is None else said in str(reason)


def test_output_passes_through_byte_for_byte_to_its_own_stream():
    reading, writing = os.pipe()
    other_reading, other_writing = os.pipe()
    sink = Passthrough({Stream.STDOUT: writing, Stream.STDERR: other_writing})
    assert sink(Stream.STDOUT, b"\xff\x00out")
    assert sink(Stream.STDERR, b"err")
    os.close(writing)
    os.close(other_writing)
    with os.fdopen(reading, "rb") as out, os.fdopen(other_reading, "rb") as err:
        assert (out.read(), err.read()) == (b"\xff\x00out", b"err")


def test_a_reader_that_has_left_stops_the_program():
    reading, writing = os.pipe()
    os.close(reading)
    sink = Passthrough({Stream.STDOUT: writing})
    assert not sink(Stream.STDOUT, b"more")
    assert sink.reader_left
    os.close(writing)


def test_the_timeout_is_the_wall_limit_and_the_default_one_when_not_given():
    settings = load_settings()
    assert limits_for(settings, 5).wall_seconds == 5
    assert limits_for(settings, None).wall_seconds == settings.default_timeout


def test_a_timeout_above_the_ceiling_says_how_to_raise_it():
    with pytest.raises(LimitTooLoose, match=r"--timeout 60 is above .* 30 s; .* --set max_timeout=60"):
        limits_for(load_settings(), 60)
