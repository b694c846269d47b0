"""How long one execution takes when the pool is warm, beside bare starts of the same interpreter."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.bare import Bare
from benchmarks.bench import Bench
from benchmarks.machine import version_of
from benchmarks.samples import Samples, interleave
from benchmarks.table import Row, Skipped, Target, milliseconds

SYSTEM_PYTHON = Path("/usr/bin/python3")
PYTHON_CODE = "print(1)"
JAVASCRIPT_CODE = "console.log(1)"
PANDAS_CODE = "import pandas as p; print(int(p.DataFrame({'a': [1, 2, 3]}).describe().loc['min', 'a']))"
_PANDAS_CASE = "Python `import pandas`, a small describe : python3 -c of it"


def python(bench: Bench) -> Iterator[Row | Skipped]:
    """``print(1)`` beside the guest's own Python (bare, without ``site``, as installed), the system's; HTTP alone."""
    own = version_of(str(bench.python.path))
    installed = Bare((str(bench.python.path), "-c", PYTHON_CODE), b"1\n")
    bares = {
        "bare": (f"python3 -c ({own}, the guest's own)", bench.bare_python(PYTHON_CODE)),
        "isolated": (f"python3 -I -S -c ({own})", bench.bare_python(PYTHON_CODE, "-I", "-S")),
        "installed": (f"python3 -c ({own}, with the packages installed here)", installed),
    }
    if SYSTEM_PYTHON.exists() and SYSTEM_PYTHON.resolve() != bench.python.path.resolve():
        other = f"{SYSTEM_PYTHON} -c ({version_of(str(SYSTEM_PYTHON))})"
        bares["system"] = (other, Bare((str(SYSTEM_PYTHON), "-c", PYTHON_CODE), b"1\n"))
    live = bench.server.address.get("/livez")
    sources = {
        "execution": bench.execution("python", PYTHON_CODE),
        "livez": lambda: bench.connection.timed(live, b"alive"),
        **{name: bare.start for name, (_, bare) in bares.items()},
    }
    samples = interleave(sources, rounds=bench.effort.rounds, seconds=bench.effort.seconds, settle=bench.full)
    for name, (label, _) in bares.items():
        target = Target(0.5) if name == "bare" else None
        yield compared(("python", f"Python print(1) over HTTP : {label}"), samples, ("execution", name), target)
    yield compared(("python", "HTTP alone, GET /livez : python3 -c"), samples, ("livez", "bare"), None)


def tail(bench: Bench) -> Iterator[Row | Skipped]:
    """One execution at a time, each when every pool is full: what the slowest wait for is not a pool."""
    sources = {"execution": bench.execution("python", PYTHON_CODE)}
    rounds = 3 * bench.effort.rounds
    samples = interleave(sources, rounds=rounds, seconds=bench.effort.seconds, settle=bench.full)["execution"]
    yield Row(
        "latency-tail",
        "Python print(1), one at a time, p95 : p50",
        samples.p95 / samples.p50,
        milliseconds(samples.p95),
        milliseconds(samples.p50),
        figures=samples.as_milliseconds(),
    )


def javascript(bench: Bench) -> Iterator[Row | Skipped]:
    """``console.log(1)`` beside ``node -e`` of the same Node.js."""
    case = "JavaScript console.log(1) over HTTP : node -e"
    if bench.node is None:
        yield Skipped("javascript", case, "there is no Node.js on this machine")
        return
    program = str(bench.node.path)
    bare = Bare((program, "-e", JAVASCRIPT_CODE), b"1\n")
    sources = {"execution": bench.execution("javascript", JAVASCRIPT_CODE), "bare": bare.start}
    samples = interleave(sources, rounds=bench.effort.rounds, seconds=bench.effort.seconds, settle=bench.full)
    case = f"{case} ({version_of(program)}, the guest's own)"
    yield compared(("javascript", case), samples, ("execution", "bare"), Target(0.15))


def pandas(bench: Bench) -> Iterator[Row | Skipped]:
    """Where guests have the data packages, beside a bare start that has the same ones."""
    if bench.try_execution("python", PANDAS_CODE)["output"] != "1\n":
        yield Skipped("pandas", _PANDAS_CASE, "guests cannot import pandas: the data packages are not installed")
        return
    if bench.equipped_python is None:
        yield Skipped("pandas", _PANDAS_CASE, "guests have pandas, but it is not where the benchmark looks for it")
        return
    bare = Bare((str(bench.equipped_python), "-c", PANDAS_CODE), b"1\n")
    sources = {"execution": bench.execution("python", PANDAS_CODE), "bare": bare.start}
    rounds = max(20, bench.effort.rounds // 10)
    samples = interleave(sources, rounds=rounds, seconds=bench.effort.seconds, settle=bench.full)
    yield compared(("pandas", _PANDAS_CASE), samples, ("execution", "bare"), Target(0.05))


def compared(
    named: tuple[str, str], samples: Mapping[str, Samples], sides: tuple[str, str], target: Target | None
) -> Row:
    """A row of medians; ``sides`` are the names of the two in ``samples``."""
    ours, other = (samples[side] for side in sides)
    return Row(
        *named,
        value=ours.p50 / other.p50,
        ours=milliseconds(ours.p50),
        other=milliseconds(other.p50),
        target=target,
        figures={"ours": ours.as_milliseconds(), "other": other.as_milliseconds()},
    )
