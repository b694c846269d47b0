"""``python -m benchmarks``: measure, print the table, write JSON and a plot."""

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks import plot
from benchmarks.bench import DEFAULT, QUICK
from benchmarks.rows.load import render_load
from benchmarks.suite import DEFAULT_NAMES, NAMES, Report, Wish, run
from benchmarks.table import render_rows

LATEST = Path(__file__).parent / "results" / "latest.json"


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Start a server and measure it beside bare interpreters, in one run on this machine.",
        epilog="example: make bench ARGS='--quick --only python --only python-rate'",
    )
    parser.add_argument("--quick", action="store_true", help="under 60 s instead of under 4 minutes, and less exact")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="ROW", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, default=LATEST, metavar="PATH", help="where to write all figures")
    parser.add_argument("--no-data", action="store_true", help="install no data packages; their rows may be skipped")
    return parser.parse_args(words)


def main() -> None:
    """Run; the exit code is 0 whatever the figures are."""
    arguments = read_arguments()
    began = time.monotonic()
    wish = Wish(tuple(arguments.only or DEFAULT_NAMES), QUICK if arguments.quick else DEFAULT, not arguments.no_data)
    report = run(wish, say=lambda name: print(f"measuring {name}", file=sys.stderr, flush=True))
    print(render(report))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    print(plot.draw(report, arguments.json.with_suffix(".png")))
    print(f"all figures: {arguments.json}; took {time.monotonic() - began:.0f} s")


def render(report: Report) -> str:
    """Title, table, load table, and how many targets were missed."""
    parts = [report.title(), render_rows(report.rows)]
    if report.load_table:
        parts.append(f"Python print(1) by clients that ask again at once\n{render_load(report.load_table)}")
    if report.missed:
        parts.append(f"{len(report.missed)} of the targets are not reached")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
