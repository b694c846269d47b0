"""Puts one small fault after another into a copy of the code, and sees whether a test notices it.

``python -m tests.mutation [NAME...]``, or ``--list``.

A list of chosen faults, and no general tool: these are at places that security and truth depend on, each says by its
name what must be noticed, and takes seconds, for it names its tests. The checkout itself is not touched.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from tests.mutation.mutation import ListError, Mutation, load_mutations

ROOT = Path(__file__).parents[2]
SECONDS = 180.0
"""After which tests hang."""
LEAST_CAUGHT = 0.9


class Verdict(StrEnum):
    """What became of a mutation."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"
    """Its tests did not run as they should, so nothing is known."""


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A copy of the checkout's own files, which other accounts (guests at level ``confined``) can read."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="codex-mutation-") as name:
        Path(name).chmod(0o755)
        for path in filter(None, listed.split("\0")):
            if (root / path).is_file():
                (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / path, Path(name) / path)
        yield Path(name)


def run_tests(copy: Path, tests: Sequence[str]) -> int | None:
    """The exit code of pytest on the copy; None when it had to be ended."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "PYTEST_"))}
    # The environment's own installation names the checkout; PYTHONPATH goes before it, in programs of the tests too.
    environment = ours | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode


def verdict_of(mutation: Mutation, code: int | None) -> Verdict:
    """``code``: what ``run_tests`` returned with the mutation in."""
    if code is None:
        return Verdict.CAUGHT if mutation.hangs else Verdict.BROKEN
    return {0: Verdict.SURVIVED, 1: Verdict.CAUGHT}.get(code, Verdict.BROKEN)


def judge(copy: Path, mutation: Mutation) -> Verdict:
    """Put the fault in, run its tests, and take it out again."""
    file = copy / mutation.file
    whole = file.read_text(encoding="utf-8")
    file.write_text(mutation.applied(whole), encoding="utf-8")
    try:
        return verdict_of(mutation, run_tests(copy, mutation.tests))
    finally:
        file.write_text(whole, encoding="utf-8")


def judge_all(mutations: Sequence[Mutation]) -> dict[str, Verdict]:
    """The verdict of each, told as it comes. Raises ``ListError`` when their tests fail with no fault in."""
    verdicts: dict[str, Verdict] = {}
    with copy_of(ROOT) as copy:
        tests = sorted({test for mutation in mutations for test in mutation.tests})
        if run_tests(copy, tests) != 0:
            raise ListError("the tests that the list names fail without any mutation; mend them first")
        for mutation in mutations:
            begun = time.monotonic()
            verdicts[mutation.name] = judge(copy, mutation)
            print(f"{verdicts[mutation.name]:8}  {time.monotonic() - begun:5.1f} s  {mutation.name}", flush=True)
    return verdicts


def summary(mutations: Sequence[Mutation], verdicts: dict[str, Verdict]) -> tuple[str, bool]:
    """The closing lines, and whether enough was caught and every verdict is known."""
    caught = sum(verdict is Verdict.CAUGHT for verdict in verdicts.values())
    lines = [f"{caught} of {len(verdicts)} mutations caught ({caught / len(verdicts):.0%})"]
    for mutation in mutations:
        if (verdict := verdicts[mutation.name]) is not Verdict.CAUGHT:
            lines.append(
                f"  {verdict}: {mutation.name}" + (f" (accepted: {mutation.accepted})" if mutation.accepted else "")
            )
    known = Verdict.BROKEN not in verdicts.values()
    return "\n".join(lines), known and caught >= LEAST_CAUGHT * len(verdicts)


def main() -> int:
    """0 when at least nine of ten were caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; all without")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    arguments = parser.parse_args()
    try:
        mutations = load_mutations()
        if unknown := set(arguments.names) - {mutation.name for mutation in mutations}:
            raise ListError(f"there is no mutation {', '.join(sorted(unknown))}; --list shows the names")
        chosen = [mutation for mutation in mutations if not arguments.names or mutation.name in arguments.names]
        if arguments.list:
            print("\n".join(mutation.name for mutation in chosen))
            return 0
        text, enough = summary(chosen, judge_all(chosen))
    except ListError as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
