"""``service/response.py``: what a model gets of an outcome."""

import base64
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from codex_server.limits import Limits
from codex_server.model import (
    Captured,
    CellFacts,
    Ending,
    Execution,
    Outcome,
    OutputFile,
    SessionState,
    SkippedFile,
    Status,
    Stop,
)
from codex_server.sandboxes.testing.fake import fake_languages
from codex_server.service.response import build_response, explain
from codex_server.service.truncation import fitted_response


def outcome(**changes):
    ending = {
        "exit_code": 0,
        "signal": None,
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "wall_seconds": 0.1,
        "cpu_seconds": 0.1,
        "peak_memory_bytes": None,
    }
    streams = {name: changes.pop(name, Captured()) for name in ("stdout", "stderr")}
    return Outcome("exe_1", Ending(**ending | changes), **streams, queue_seconds=0.0, limits=Limits())


KILLED = {"exit_code": None, "signal": 9}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"exit_code": 3}, "Exit code 3"),
        ({"exit_code": None, "signal": 6}, "Killed by SIGABRT (Aborted)"),
        ({"exit_code": None, "signal": 40}, "Killed by SIG40 (Real-time signal 6)"),
        (KILLED | {"stop": Stop.WALL_TIME}, "Timed out after 10 s"),
        (KILLED | {"stop": Stop.CPU_TIME}, "Timed out: the limit of 30 s of CPU time was used up"),
        ({"exit_code": None, "signal": 24}, "Killed by SIGXCPU (CPU time limit exceeded)"),
        (KILLED | {"oom_kills": 1}, "Out of memory: limit 512 MiB"),
        (KILLED | {"stop": Stop.MEMORY}, "Out of memory: limit 512 MiB"),
        (KILLED | {"stop": Stop.CANCELLED}, "Cancelled before it ended"),
        (
            {"oom_kills": 1},
            "Out of memory: one of the program's processes was killed, limit 512 MiB",
        ),
        (
            {"exit_code": 1, "oom_kills": 2},
            "Exit code 1\nOut of memory: 2 of the program's processes were killed, limit 512 MiB",
        ),
    ],
)
def test_the_reason_comes_first_and_names_the_limit(changes, reason):
    assert explain(outcome(**changes)) == reason


INTERRUPTED = {"exit_code": 130, "stop": Stop.WALL_TIME}
DID_NOT_STOP = "; the interpreter did not stop, so it was replaced: variables are gone, files stay"
NEW_ONE = "; the interpreter ended, so the next execution has a new one: variables are gone, files stay"


@pytest.mark.parametrize(
    ("changes", "restarted", "reason"),
    [
        ({}, False, None),
        ({}, True, None),
        ({"exit_code": 1}, False, "Exit code 1"),
        ({"exit_code": 3}, True, f"Exit code 3{NEW_ONE}"),
        (INTERRUPTED, False, "Timed out after 10 s; the interpreter was interrupted and keeps its variables"),
        (
            KILLED | {"stop": Stop.WALL_TIME},
            True,
            f"Timed out after 10 s{DID_NOT_STOP}",
        ),
        (KILLED | {"oom_kills": 1}, True, f"Out of memory: limit 512 MiB{NEW_ONE}"),
        (
            {"exit_code": 130, "stop": Stop.CANCELLED},
            False,
            "Cancelled before it ended; the interpreter was interrupted and keeps its variables",
        ),
        (KILLED | {"stop": Stop.CANCELLED}, True, f"Cancelled before it ended{DID_NOT_STOP}"),
    ],
)
def test_in_a_session_the_reason_says_what_became_of_the_interpreter(changes, restarted, reason):
    cell = CellFacts(execution_count=1, result=None, claimed=not restarted, interpreter_restarted=restarted)
    assert explain(outcome(**changes, cell=cell)) == reason


@pytest.mark.parametrize(
    ("restarted", "reason"),
    [(False, "Exit code 130; interrupted; the variables stay"), (True, f"Exit code 130{NEW_ONE}")],
)
def test_of_an_interrupted_cell_it_says_whether_the_variables_stay(restarted, reason):
    cell = CellFacts(1, None, claimed=True, interpreter_restarted=restarted, interrupted=True)
    assert explain(outcome(exit_code=130, cell=cell)) == reason
    assert explain(outcome(cell=cell)) is None


@pytest.mark.parametrize("stop", [Stop.WALL_TIME, Stop.CANCELLED])
def test_of_a_cell_with_which_its_session_ended_nothing_is_said_to_stay(stop):
    cell = CellFacts(1, None, claimed=False, interpreter_restarted=True, session_lost=True)
    ended = replace(outcome(**KILLED, stop=stop, cell=cell), session=SessionState("ses_1", None))
    found = build_response(ended, explain(ended))
    assert (found.execution_count, found.interpreter_restarted) == (1, None)
    assert found.error.endswith("; the session ended with it: variables are gone, and the files that it alone had")


def test_of_a_cancelled_cell_is_said_only_what_is_known():
    cancelled = replace(outcome(**KILLED, stop=Stop.CANCELLED), session=SessionState("ses_1", None))
    found = build_response(cancelled, explain(cancelled))
    assert (found.execution_count, found.result, found.interpreter_restarted) == (None, None, None)
    assert found.session_expires_at is None


def test_a_hint_comes_last_for_a_program_that_failed_and_for_no_other():
    missing = Captured("FileNotFoundError: [Errno 2] No such file or directory: '/mnt/data/in.csv'\n")
    error = fitted_response(
        Execution("exe_1", "python", "open(1)"), outcome(exit_code=1, stderr=missing), fake_languages(), 10_000
    ).error
    assert error.split("\n")[0] == "Exit code 1"
    assert "such as 'in.csv'" in error.split("\n")[-1]
    succeeded = Execution("exe_1", "python", "open(1)")
    assert fitted_response(succeeded, outcome(stderr=missing), fake_languages(), 10_000).error == missing.text


@pytest.mark.parametrize("status", list(Status))
def test_every_status_but_success_has_a_reason(status):
    ways = {
        Status.SUCCEEDED: {},
        Status.FAILED: {"exit_code": 1},
        Status.SIGNALLED: {"exit_code": None, "signal": 11},
        Status.TIMED_OUT: KILLED | {"stop": Stop.WALL_TIME},
        Status.MEMORY_EXCEEDED: KILLED | {"stop": Stop.MEMORY},
        Status.OUTPUT_EXCEEDED: KILLED | {"stop": Stop.OUTPUT},
        Status.CANCELLED: KILLED | {"stop": Stop.CANCELLED},
    }
    ended = outcome(**ways[status])
    assert ended.status is status
    assert (explain(ended) is None) == (status is Status.SUCCEEDED)


def test_binary_files_come_as_base64_and_text_as_text():
    files = (
        OutputFile("a.txt", "é\n".encode()),
        OutputFile("b.bin", b"\x00\xff"),
        OutputFile("c", b"a\0b"),
        OutputFile("d.unknown-kind", b"text"),
        OutputFile("empty", b""),
    )
    response = build_response(outcome(files=files), None)
    assert [(file.media_type, file.encoding) for file in response.files] == [
        ("text/plain", "utf-8"),
        ("application/octet-stream", "base64"),
        ("application/octet-stream", "base64"),
        ("text/plain", "utf-8"),
        ("text/plain", "utf-8"),
    ]
    assert base64.b64decode(response.files[1].content) == b"\x00\xff"
    assert [file.size for file in response.files] == [3, 2, 3, 4, 0]


def test_names_that_are_no_text_do_not_break_the_response():
    ended = outcome(
        files=(OutputFile("bad\udcff", b"x"),), skipped_files=(SkippedFile("worse\udcfe", None, "odd\udcfd"),)
    )
    text = build_response(ended, None).model_dump_json()
    assert '"bad?"' in text
    assert '"worse?"' in text


@pytest.mark.parametrize(("measured", "shown"), [(None, None), (0.0, 0.0), (0.12345678, 0.123457)])
def test_what_could_not_be_measured_is_null_and_never_nothing(measured, shown):
    response = build_response(outcome(cpu_seconds=measured), None)
    assert response.usage.cpu_seconds == shown
