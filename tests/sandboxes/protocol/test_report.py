"""What is made of an init's report: the ending that it reports, or a refusal."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.errors import ProtocolViolation
from codex_server.model import Ending, OutputFile, SkippedFile, Status, Stop
from codex_server.sandboxes.protocol.report import ending_without_report, read_ending
from tests.sandboxes.executions import CONTENT, KILLED, REPORT, WITH_FILES

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def read(body: dict[str, Any], content: bytes = b"", requested: Stop | None = None) -> Ending:
    return read_ending(body, content, started_at=BEGAN, requested=requested)


def test_what_is_reported_is_the_ending():
    assert read(WITH_FILES | {"oom_kills": 2}, CONTENT) == Ending(
        exit_code=0,
        signal=None,
        started_at=BEGAN,
        wall_seconds=1.5,
        cpu_seconds=0.25,
        peak_memory_bytes=4096,
        stop=None,
        oom_kills=2,
        files=(OutputFile("out/a", b"aaa"), OutputFile("b", b""), OutputFile("c", b"cc")),
        skipped_files=(
            SkippedFile("link", None, "it is a symbolic link"),
            SkippedFile("big", 9999, "it is large"),
            SkippedFile("*", None, "4 more entries are not listed"),
        ),
    )


def test_where_somebody_else_counts_what_the_kernel_killed_for_memory_none_are_reported():
    assert read(REPORT).oom_kills == 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.SUCCEEDED),
        ({"exit_code": 255}, Status.FAILED),
        ({"exit_code": None, "signal": 11}, Status.SIGNALLED),
        ({"exit_code": None, "signal": 64}, Status.SIGNALLED),
        ({"exit_code": None, "signal": 9, "oom_kills": 1}, Status.MEMORY_EXCEEDED),
        ({"exit_code": None, "signal": 9, "stop": "cpu_time"}, Status.TIMED_OUT),
        ({"exit_code": None, "signal": 9, "stop": "memory"}, Status.MEMORY_EXCEEDED),
        ({"exit_code": 0, "stop": "cpu_time"}, Status.TIMED_OUT),
        ({"wall_seconds": 0, "cpu_seconds": 3}, Status.SUCCEEDED),
    ],
)
def test_each_kind_of_end_has_its_word(changes: dict[str, Any], status: Status):
    assert read(REPORT | changes).status is status


@pytest.mark.parametrize("requested", Stop)
def test_an_end_that_was_requested_has_the_reason_of_whoever_requested(requested: Stop):
    assert read(KILLED | {"stop": "stop_requested"}, requested=requested).stop is requested


def test_an_end_that_nobody_requested_is_a_violation_at_all():
    with pytest.raises(ProtocolViolation, match="nobody requested"):
        read(KILLED | {"stop": "stop_requested"})


@pytest.mark.parametrize(("reported", "stop"), [(None, None), ("cpu_time", Stop.CPU_TIME), ("memory", Stop.MEMORY)])
def test_what_init_reports_of_itself_is_kept_although_it_was_also_requested(reported: str | None, stop: Stop | None):
    assert read(KILLED | {"stop": reported}, requested=Stop.OUTPUT).stop is stop


WRONG: list[dict[str, Any]] = [
    {"exit_code": None},
    {"exit_code": 0, "signal": 9},
    {"exit_code": "0"},
    {"exit_code": True},
    {"exit_code": 256},
    {"exit_code": -1},
    {"exit_code": 0.0},
    {"exit_code": None, "signal": 0},
    {"exit_code": None, "signal": 65},
    {"exit_code": None, "signal": "9"},
    {"exit_code": [], "signal": 9},
    {"stop": "whim"},
    {"stop": "cancelled"},
    {"stop": ""},
    {"stop": False},
    {"stop": ["memory"]},
    {"wall_seconds": "1"},
    {"wall_seconds": None},
    {"wall_seconds": -0.1},
    {"wall_seconds": math.nan},
    {"wall_seconds": math.inf},
    {"wall_seconds": 10**400},
    {"cpu_seconds": math.nan},
    {"cpu_seconds": True},
    {"peak_memory_bytes": 1.5},
    {"peak_memory_bytes": -1},
    {"peak_memory_bytes": None},
    {"oom_kills": -1},
    {"oom_kills": None},
    {"files": None},
    {"files": 3},
    {"files": [["a"]]},
    {"files": [["a", 1, 2]]},
    {"files": [["a", 6]]},
    {"files": [["a", 5], ["b", 1]]},
    {"files": [["a", 9], ["b", -4]]},
    {"files": [["a", True], ["b", 4]]},
    {"files": [["a", "5"]]},
    {"files": [[7, 5]]},
    {"files": [["a", 4]]},
    {"skipped": None},
    {"skipped": [["a", 1]]},
    {"skipped": [[None, 1, "why"]]},
    {"skipped": [["a", "1", "why"]]},
    {"skipped": [["a", -1, "why"]]},
    {"skipped": [["a", 1, None]]},
    {"unlisted": None},
    {"unlisted": "many"},
    {"unlisted": -1},
]


@pytest.mark.parametrize("changes", WRONG, ids=str)
@pytest.mark.parametrize("requested", [None, Stop.CANCELLED])
def test_a_report_out_of_shape_is_a_violation_and_no_ending(changes: dict[str, Any], requested: Stop | None):
    with pytest.raises(ProtocolViolation, match="malformed"):
        read(REPORT | {"files": [["a", 5]]} | changes, b"12345", requested)


@pytest.mark.parametrize("key", REPORT)
def test_a_report_without_one_of_its_parts_is_a_violation(key: str):
    with pytest.raises(ProtocolViolation, match=f"malformed.*{key}"):
        read({name: value for name, value in REPORT.items() if name != key})


@pytest.mark.parametrize("content", [b"", b"1234", b"123456"])
def test_content_that_is_not_as_long_as_its_files_is_a_violation(content: bytes):
    with pytest.raises(ProtocolViolation, match="malformed"):
        read(REPORT | {"files": [["a", 5]]}, content)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.floats()
    | st.text("a", max_size=1)
    | st.sampled_from(["stop_requested", "memory"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(sorted(REPORT)), JUNK, max_size=4),
    st.sampled_from([None, Stop.WALL_TIME]),
)
def test_any_report_is_an_ending_that_can_be_reported_or_a_violation(changes: dict[str, Any], requested: Stop | None):
    try:
        ending = read(REPORT | changes, requested=requested)
    except ProtocolViolation:
        return
    assert (ending.exit_code is None) != (ending.signal is None)
    assert math.isfinite(ending.wall_seconds + ending.cpu_seconds)
    assert ending.files == ()
    assert ending.stop in (None, Stop.CPU_TIME, Stop.MEMORY, requested)
    assert ending.oom_kills >= 0
    assert all(isinstance(file.path, str) and isinstance(file.reason, str) for file in ending.skipped_files)


def test_what_nobody_counted_of_a_program_that_was_killed_with_its_init_is_not_reported_as_nothing():
    ending = ending_without_report(BEGAN, 1.5, Stop.WALL_TIME)
    assert (ending.signal, ending.wall_seconds) == (9, 1.5)
    assert (ending.cpu_seconds, ending.peak_memory_bytes) == (None, None)
    assert ending_without_report(BEGAN, 1.5, Stop.WALL_TIME, cpu_seconds=0.25).cpu_seconds == 0.25
