"""``service/truncation.py``: a response within its size, changed as little as that takes."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_server.execution.capture import mark
from codex_server.model import Status
from codex_server.service.lean import LEAN
from codex_server.service.response import join_error
from codex_server.service.schemas import ExecuteResponse, LeftOutFile, ResponseFile, Truncated, Usage
from codex_server.service.session_schemas import SessionExecuteResponse, SessionTruncated
from codex_server.service.truncation import WHOLE, encode, fit, shorten
from tests.tiers import examples

ROOM = 10_000
TEXTS = st.one_of(
    st.text(max_size=50),
    st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=8), st.integers(0, 4000)),
    st.sampled_from(["\x00" * 9000, '"' * 9000, "\n" * 20_000, "é" * 20_000, "😀" * 20_000, "x" * 70_000]),
)
NAMES = st.one_of(st.text(min_size=1, max_size=20), st.sampled_from(["\x01" * 200, "p" * 500]))
FILES = st.lists(st.tuples(NAMES, TEXTS), max_size=40)
SKIPPED = st.lists(st.tuples(NAMES, st.text(max_size=100)), max_size=300)


def response(stdout="", stderr="", reason=None, files=(), skipped=()):
    return ExecuteResponse(
        execution_id="exe_" + "0" * 26,
        status=Status.FAILED,
        output=stdout,
        error=join_error(reason, stderr),
        exit_code=1,
        signal=None,
        execution_time=0.123456,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        stdout=stdout,
        stderr=stderr,
        truncated=Truncated(stdout=False, stderr=False),
        usage=Usage(
            queue_seconds=0.1,
            wall_seconds=0.1,
            cpu_seconds=0.1,
            peak_memory_bytes=1,
            stdout_bytes=len(stdout.encode()),
            stderr_bytes=len(stderr.encode()),
        ),
        files=[
            ResponseFile(path=path, size=len(text.encode()), media_type="text/plain", content=text, encoding="utf-8")
            for path, text in files
        ],
        skipped_files=[LeftOutFile(path=path, size=None, reason=reason_) for path, reason_ in skipped],
    )


@settings(max_examples=examples(150))
@given(TEXTS, TEXTS, st.sampled_from([None, "Exit code 1"]), FILES, SKIPPED)
def test_whatever_is_in_it_the_response_fits_and_reports_what_is_missing(stdout, stderr, reason, files, skipped):
    whole = response(stdout, stderr, reason, files, skipped)
    fitted = fit(whole, reason, ROOM)
    assert len(encode(fitted)) <= ROOM
    assert json.loads(encode(fitted))
    assert fitted.output == fitted.stdout
    assert fitted.error == join_error(reason, fitted.stderr)
    assert fitted.truncated.stdout == (fitted.stdout != stdout)
    assert fitted.truncated.stderr == (fitted.stderr != stderr)
    listed = len(fitted.files) + len(fitted.skipped_files)
    assert listed == len(files) + len(skipped) or fitted.skipped_files[-1].path == "*"
    if len(encode(whole)) <= ROOM:
        assert fitted == whole


RESULTS = st.dictionaries(st.sampled_from(["text/plain", "text/html", "image/png", "image/svg+xml"]), TEXTS, max_size=4)


def in_session(whole, result):
    return SessionExecuteResponse(
        **dict(whole) | {"truncated": SessionTruncated(stdout=False, stderr=False, result=False)},
        execution_count=1,
        result=result or None,
        interpreter_restarted=False,
        session_expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("form", [WHOLE, LEAN], ids=["whole", "lean"])
@settings(max_examples=examples(100))
@given(TEXTS, TEXTS, FILES, RESULTS)
def test_whatever_the_result_of_a_cell_is_the_response_fits_and_says_what_is_missing(
    form, stdout, stderr, files, result
):
    whole = in_session(response(stdout, stderr, None, files), result)
    fitted = fit(whole, None, ROOM, form=form)
    assert len(form.encode(fitted)) <= ROOM
    assert fitted.truncated.result == (fitted.result != whole.result)
    if len(form.encode(whole)) <= ROOM:
        assert fitted == whole


def test_of_a_result_the_largest_rich_form_goes_first_then_the_middle_of_the_text():
    forms = {"text/plain": "t" * 3000, "text/html": "h" * 4000, "image/png": "p" * 9000}
    fitted = fit(in_session(response("out"), forms), None, ROOM)
    assert fitted.result == {name: forms[name] for name in ("text/plain", "text/html")}
    assert (fitted.truncated.result, fitted.truncated.stdout) == (True, False)
    cut = fit(in_session(response("out"), {"text/plain": "a" * 9000 + "z" * 9000, "text/html": "h"}), None, ROOM)
    assert list(cut.result) == ["text/plain"]
    assert cut.result["text/plain"].startswith("aaa")
    assert cut.result["text/plain"].endswith("zzz")


def test_long_streams_leave_half_of_the_room_to_the_result():
    forms = {"text/plain": "t" * 4000}
    fitted = fit(in_session(response("s" * 50_000), forms), None, ROOM)
    assert (fitted.result, fitted.truncated.stdout) == (forms, True)


KINDS = st.sampled_from(["png", "svg", "txt", "csv"])
MANY_FILES = st.lists(st.tuples(KINDS, st.integers(0, 4000)), max_size=60)


@settings(max_examples=examples(100))
@given(MANY_FILES, st.integers(0, 3000), st.randoms(use_true_random=False))
def test_as_many_files_as_fit_stay_figures_and_small_ones_first_whatever_their_order(sizes, printed, random):
    files = [(f"{number:03}.{kind}", "x" * size) for number, (kind, size) in enumerate(sizes)]
    whole = response("o" * printed, "", None, files)
    fitted = fit(whole, None, ROOM)
    assert [file for file in whole.files if file in fitted.files] == fitted.files
    left_out = {file.path: file.size for file in fitted.skipped_files}
    assert list(left_out) == sorted(left_out, key=lambda path: (path == "*", path))
    kept = {file.path: file.size for file in fitted.files}
    for figures in (True, False):
        of_kind = {path: len(text) for path, text in files if (path[-3:] in ("png", "svg")) == figures}
        largest = max((size for path, size in of_kind.items() if path in kept), default=0)
        assert all(size >= largest for path, size in of_kind.items() if path not in kept)
    shuffled = random.sample(files, len(files))
    again = fit(response("o" * printed, "", None, shuffled), None, ROOM)
    assert {file.path for file in again.files} == set(kept)
    if "*" not in left_out and not fitted.truncated.stdout:
        cheapest = min((size for size in left_out.values()), default=ROOM)
        assert len(encode(fitted)) + cheapest > ROOM - ROOM // 10 - 300


def test_a_figure_goes_before_what_is_smaller():
    files = [("a.txt", "t" * 3000), ("b.png", "p" * 6000), ("c.txt", "t" * 2000), ("d.PNG", "p" * 5000)]
    fitted = fit(response("", "", None, files), None, ROOM)
    assert [file.path for file in fitted.files] == ["c.txt", "d.PNG"]
    assert [file.path for file in fitted.skipped_files] == ["a.txt", "b.png"]


def test_that_the_sandbox_has_listed_some_only_is_still_said_when_the_list_is_cut():
    skipped = [*((f"f{number:03}", "why") for number in range(200)), ("*", "50 more entries are not listed")]
    fitted = fit(response("x" * 20_000, skipped=skipped), None, ROOM)
    reasons = [file.reason for file in fitted.skipped_files if file.path == "*"]
    assert reasons[0] == "50 more entries are not listed"
    assert reasons[1].startswith(f"{200 - len(fitted.skipped_files) + 2} more are not listed")


@given(TEXTS, st.integers(200, 50_000))
def test_a_shortened_text_is_a_head_a_mark_and_a_tail_within_its_room(text, room):
    short = shorten(text, room, len(text.encode()))
    assert len(json.dumps(short, ensure_ascii=False)) - 2 <= room
    if short != text:
        head, _, rest = short.partition("\n[... ")
        _, _, tail = rest.partition(" bytes left out ...]\n")
        assert text.startswith(head)
        assert text.endswith(tail)


def test_a_shortened_text_uses_its_room_and_counts_what_is_left_out():
    short = shorten("a" * 5000 + "b" * 5000, 1000, 12_345)
    assert 990 <= len(short.replace("\n", "\\n")) <= 1000
    kept = short.count("a") + short.count("b") - "bytes".count("b")
    assert f"[... {12_345 - kept:,} bytes left out ...]" in short


def test_one_stream_may_use_the_room_that_the_other_leaves():
    fitted = fit(response("x" * 20_000, "short"), None, ROOM)
    assert fitted.stderr == "short"
    assert len(encode(fitted)) > ROOM - 50


def test_two_long_streams_share_the_room():
    fitted = fit(response("x" * 20_000, "y" * 20_000), None, ROOM)
    assert abs(len(fitted.stdout) - len(fitted.stderr)) < 20


def test_the_largest_files_give_way_first_and_streams_stay_whole():
    fitted = fit(response("out", "", None, [("small", "s"), ("large", "l" * 9000), ("middle", "m" * 2000)]), None, ROOM)
    assert [file.path for file in fitted.files] == ["small", "middle"]
    assert [file.path for file in fitted.skipped_files] == ["large"]
    assert "left out" in fitted.skipped_files[0].reason
    assert fitted.stdout == "out"
    assert not fitted.truncated.stdout


def test_a_list_of_thousands_of_files_is_cut_and_says_so():
    fitted = fit(response("x" * 20_000, skipped=[(f"f{n}", "why") for n in range(5000)]), None, ROOM)
    assert fitted.skipped_files[0].path == "f0"
    assert fitted.skipped_files[-1].path == "*"
    assert f"{5000 - (len(fitted.skipped_files) - 1)} more" in fitted.skipped_files[-1].reason


def test_of_a_stream_far_above_the_size_the_ends_are_kept_and_the_rest_is_counted():
    text = "a" * ROOM + "m" * 300 * ROOM + "z" * ROOM

    stdout = fit(response(text), None, ROOM).stdout

    head, marked, tail = stdout.partition(stdout.strip("az"))
    assert set(head) == {"a"}
    assert set(tail) == {"z"}
    assert marked == mark(len(text) - len(head) - len(tail))


def test_a_response_that_is_one_character_too_long_is_shortened():
    whole = response("x" * 5000, skipped=[("name", "reason")])
    room = len(encode(whole))
    assert fit(whole, None, room) == whole
    assert len(encode(fit(whole, None, room - 1))) < room


def test_what_is_short_but_long_in_json_is_measured():
    whole = response("\x00" * 1000)
    assert len(encode(whole)) > ROOM
    assert len(encode(fit(whole, None, ROOM))) <= ROOM
