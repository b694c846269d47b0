import json

import pytest

from benchmarks.__main__ import render
from benchmarks.closed_loop import Tally
from benchmarks.machine import Machine
from benchmarks.plot import share_of_target
from benchmarks.rows.load import Footprint, LoadLine, render_load
from benchmarks.suite import Report
from benchmarks.table import Row, Skipped, Target, render_columns, render_rows

GOOD = Row("python", "Python", 0.4, "4.0 ms", "10.0 ms", target=Target(0.5), figures={"ours": {"p50_ms": 4.0}})
BAD = Row("python-rate", "rate", 1.2, "120/s", "100/s", target=Target(1.5, at_least=True))
PLAIN = Row("start", "start", 1.25, "1.25 s", unit="s")
LEFT_OUT = Skipped("pandas", "import pandas", "the data packages are not installed")


@pytest.mark.parametrize(
    ("target", "value", "holds"),
    [
        (Target(0.5), 0.5, True),
        (Target(0.5), 0.51, False),
        (Target(1.5, at_least=True), 1.5, True),
        (Target(1.5, at_least=True), 1.49, False),
    ],
)
def test_a_target_is_a_bound_from_above_or_from_below(target, value, holds):
    assert target.holds(value) is holds
    assert (share_of_target(value, target) <= 1) is holds


def test_the_table_shows_what_was_reached_the_target_and_whether_it_holds():
    lines = render_rows([GOOD, BAD, PLAIN]).splitlines()

    assert lines[0].split() == ["case", "ours", "other", "reached", "target", "holds"]
    assert lines[2].split() == ["Python", "4.0", "ms", "10.0", "ms", "0.4", "<=", "0.5", "yes"]
    assert lines[3].split() == ["rate", "120/s", "100/s", "1.2", ">=", "1.5", "NO"]
    assert lines[4].split() == ["start", "1.25", "s", "1.25", "s"]


def test_a_case_that_could_not_be_measured_is_named_with_the_reason():
    assert render_rows([GOOD, LEFT_OUT]).splitlines()[-1] == (
        "skipped: import pandas: the data packages are not installed"
    )


def test_columns_are_as_wide_as_their_widest_cell():
    assert render_columns(("n", "size"), [("aa", "1"), ("b", "22222")], left=1) == [
        "n    size",
        "---------",
        "aa      1",
        "b   22222",
    ]


def _report(*rows: Row | Skipped) -> Report:
    machine = Machine("a processor", 2, 4 * 2**30, "6.1", "0.1.0", "abc123", dirty=True)
    tally = Tally(5, 2.0, latencies=[0.001, 0.003], in_time=2, busy=1, errors=0)
    report = Report(machine, 2, 0.5, isolation="full", load_after=1.5, rows=list(rows))
    report.load_table.append(LoadLine(tally, Footprint(60 * 2**20, None)))
    return report


def test_a_report_names_machine_and_commit_and_counts_the_missed_targets():
    text = render(_report(GOOD, BAD, LEFT_OUT))

    assert "commit abc123 with changes, isolation full" in text
    assert "2 processors (a processor), 2 used; 4.0 GiB; Linux 6.1; load average 0.5 before, 1.5 after" in text
    assert "1 of the targets are not reached" in text


def test_a_report_as_json_has_every_row_every_figure_and_what_was_skipped():
    written = json.loads(json.dumps(_report(GOOD, BAD, LEFT_OUT).as_json()))

    good, bad, left_out = written["rows"]
    assert good["holds"] is True
    assert good["target"] == "<= 0.5"
    assert good["ours"] == {"p50_ms": 4.0}
    assert bad["holds"] is False
    assert left_out == {
        "name": "pandas",
        "case": "import pandas",
        "skipped": "the data packages are not installed",
    }
    assert written["load"][0] | {"samples": 2, "busy": 1, "clients": 5} == written["load"][0]
    assert written["machine"]["dirty"] is True
    assert (written["load"][0]["server_rss_bytes"], written["load"][0]["zygotes_rss_bytes"]) == (60 * 2**20, None)


def test_the_load_table_begins_with_the_memory_before_the_first_client():
    tally = Tally(5, 2.0, latencies=[0.001, 0.003], in_time=2, busy=1, errors=0)

    lines = render_load([LoadLine(tally, Footprint(2**20, None))], before=Footprint(2**19, 2**20)).splitlines()

    assert lines[2].split() == ["0", "0.5", "1.0"]
    assert lines[3].split() == ["5", "1", "2.0", "2.8", "3.0", "0", "1", "1.0"]
