"""``make load``, for a moment, with a real server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import read_arguments
from benchmarks.rows.load import CLIENT_COUNTS
from tests.levels import out_of_reach

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.tier("change")
def test_the_load_script_prints_a_table_and_writes_every_figure(tmp_path):
    written = tmp_path / "load.json"
    command = [sys.executable, "-m", "benchmarks.load", "--seconds", "0.2", "--clients", "1", "--clients", "3"]

    run = subprocess.run([*command, "--json", str(written)], cwd=ROOT, capture_output=True, text=True, check=False)

    if "does not allow isolation" in run.stderr:
        out_of_reach("namespaces", "this machine does not reach the level that the benchmark's server asks for")
    assert run.returncode == 0, run.stderr
    figures = json.loads(written.read_text())
    assert [(line["clients"], line["errors"], line["busy"]) for line in figures["load"]] == [(1, 0, 0), (3, 0, 0)]
    assert all(line["samples"] >= line["clients"] for line in figures["load"])
    assert figures["before"]["server_rss_bytes"] > 2**20
    assert figures["machine"]["commit"]
    assert [line.split()[0] for line in run.stdout.splitlines()[-5:-2]] == ["0", "1", "3"]


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--clients", "0"], ["--clients", "x"]])
def test_a_load_of_nothing_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        read_arguments(words)
    assert words[0] in capsys.readouterr().err


def test_the_client_counts_are_those_of_the_table():
    assert CLIENT_COUNTS == (1, 2, 5, 10, 20, 50)
