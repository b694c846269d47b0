"""``python -m benchmarks.load``: the server alone under a growing number of clients; one table, and JSON."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.machine import keep_to_processors, load_average, read_machine
from benchmarks.rows.load import CLIENT_COUNTS, Footprint, footprint, measure_line, render_load
from benchmarks.server import Gate, pool_sizes, running_server
from benchmarks.suite import PROCESSORS, Report
from benchmarks.wire import Connection

LATEST = Path(__file__).parent / "results" / "load.json"
_SECONDS, _QUICK_SECONDS = 8.0, 1.5
_WARM_UP_CLIENTS, _WARM_UP_SECONDS = 2, 1.0


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description="Start a server and let a growing number of clients run Python print(1), each again as soon as "
        "it has the response; after a 503 it waits for Retry-After. Exit code 1 when any response was wrong.",
        epilog="example: make load ARGS='--seconds 30 --clients 10 --clients 100'",
    )
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_SECONDS:g} s at each number of clients")
    parser.add_argument("--seconds", type=_positive, help=f"how long at each number of clients (default {_SECONDS:g})")
    parser.add_argument(
        "--clients",
        type=_positive_int,
        action="append",
        metavar="N",
        help=f"default {', '.join(map(str, CLIENT_COUNTS))}",
    )
    parser.add_argument("--json", type=Path, default=LATEST, metavar="PATH", help="where to write all figures")
    return parser.parse_args(words)


def _positive(word: str) -> float:
    if (number := float(word)) > 0:
        return number
    raise ValueError(word)


def _positive_int(word: str) -> int:
    return int(_positive(str(int(word))))


def main() -> None:
    """Run; the table goes to standard output."""
    arguments = read_arguments()
    seconds = arguments.seconds or (_QUICK_SECONDS if arguments.quick else _SECONDS)
    report, before = measure(tuple(arguments.clients or CLIENT_COUNTS), seconds)
    print(f"{report.title()}\n\n{render_load(report.load_table, before)}\n")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    figures = report.as_json() | {"window_seconds": seconds, "before": before.as_json()}
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"all figures: {arguments.json}")
    wrong = [line.tally for line in report.load_table if line.tally.errors]
    if wrong:
        raise SystemExit(
            f"{sum(tally.errors for tally in wrong)} responses were wrong; the first: {wrong[0].first_error}"
        )


def measure(counts: tuple[int, ...], seconds: float) -> tuple[Report, Footprint]:
    """Measure a line for each of ``counts``, and the memory before the first, after a warm-up."""
    report = Report(read_machine(), keep_to_processors(PROCESSORS), load_average())
    with running_server() as server, Connection(server.address) as connection:
        full = Gate(connection, pool_sizes())
        measure_line(server, full, _WARM_UP_CLIENTS, _WARM_UP_SECONDS)
        before = footprint(server.family())
        report.isolation = str(server.facts()["isolation"])
        for clients in counts:
            print(f"{clients} clients for {seconds:g} s", file=sys.stderr, flush=True)
            report.load_table.append(measure_line(server, full, clients, seconds))
    report.load_after = load_average()
    return report, before


if __name__ == "__main__":
    main()
