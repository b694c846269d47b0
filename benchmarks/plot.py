"""The run as a picture, where matplotlib is installed."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from benchmarks import packages
from benchmarks.suite import Report
from benchmarks.table import Row, Target


def draw(report: Report, path: Path) -> str:
    """Write the PNG; a sentence that says where, or why there is none."""
    if importlib.util.find_spec("matplotlib") is None and (environment := packages.python_environment()):
        sys.path.extend(map(str, environment.glob("lib/python3*/site-packages")))  # the same Python: it fits
    if importlib.util.find_spec("matplotlib") is None:
        return "skipped: the plot: matplotlib is not installed, and the guests' data packages are not either"
    importlib.import_module("matplotlib").use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, (targets, load) = pyplot.subplots(1, 2, figsize=(16, 5), layout="constrained")
    _draw_targets(report, targets)
    _draw_load(report, load)
    figure.suptitle(report.title(), fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return f"plot: {path}"


def share_of_target(value: float, target: Target) -> float:
    """How much of what the target allows was taken: up to 1 it holds."""
    return target.bound / value if target.at_least else value / target.bound


def _draw_targets(report: Report, axes: Any) -> None:
    rows = [(row, row.target) for row in report.rows if isinstance(row, Row) and row.target]
    shares = [share_of_target(row.value, target) for row, target in rows]
    colours = ["tab:green" if row.holds else "tab:red" for row, _ in rows]
    axes.barh([row.case for row, _ in rows], shares, color=colours)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xlabel="share of the target; up to 1 it holds")
    axes.invert_yaxis()


def _draw_load(report: Report, axes: Any) -> None:
    if not report.load_table:
        axes.set_axis_off()
        return
    clients = [line.tally.clients for line in report.load_table]
    for percent in (50, 99):
        times = [line.tally.samples.percentile(percent) * 1000 for line in report.load_table]
        axes.plot(clients, times, marker="o", label=f"p{percent}, ms")
    axes.plot(clients, [line.tally.rate for line in report.load_table], marker="s", label="executions a second")
    axes.set(xlabel="clients", xscale="log", yscale="log")
    axes.legend()
