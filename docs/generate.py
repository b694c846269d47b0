"""Writes what comes from the code: pages of docs/ (cli, settings, problems), the table in README.md, seccomp.json.

``make docs`` runs it; ``--check`` writes nothing and fails when a page is not what it should be.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from typer.main import get_command

from codex_server.api.problem_pages import as_markdown
from codex_server.cli.config import show_size, show_value
from codex_server.cli.main import app
from codex_server.sandboxes.kernel_state import KERNEL_STATE
from codex_server.sandboxes.seccomp.compiler import docker_profile
from codex_server.sandboxes.seccomp.server_profile import SERVER
from codex_server.settings import ENV_PREFIX, Settings, is_size

ROOT = Path(__file__).parent.parent
HELP_WIDTH = 100
IMPORTANT = (
    "host", "port", "api_token", "state_dir", "min_isolation", "rate_limit", "max_timeout", "max_memory",
    "max_concurrency", "pool_sizes", "public_url",
)  # fmt: skip
SETTINGS_MARKS = ("<!-- settings: from the code, by `make docs` -->", "<!-- end of settings -->")
STATE_MARKS = ("<!-- kernel state: from the code, by `make docs` -->", "<!-- end of kernel state -->")
SHOWN_DEFAULTS = {
    "default_timeout": "`10`",
    "max_file_size": "`64MiB`",
    "state_dir": "`~/.local/state/codex-server`",
    "session_idle_seconds": "`900`",
    "sessions_memory": "half of the memory",
    "max_concurrency": "twice the number of CPUs, at least 4",
}
"""Defaults that depend on the machine, in words."""
WRITTEN = "This page is written by `make docs` from the code; a test compares them.\n"


def pages() -> dict[Path, str]:
    """Every generated file with the content it should have."""
    return {
        ROOT / "docs" / "cli.md": cli_page(),
        ROOT / "docs" / "settings.md": settings_page(),
        ROOT / "docs" / "problems.md": as_markdown(),
        ROOT / "seccomp.json": seccomp_profile(),
        ROOT / "README.md": with_block("README.md", SETTINGS_MARKS, settings_table(IMPORTANT)),
        ROOT / "SECURITY.md": with_block("SECURITY.md", STATE_MARKS, kernel_state_table()),
    }


def cli_page() -> str:
    """The ``--help`` page of every command."""
    sections = [f"## `{name}`\n\n```text\n{text}\n```\n" for name, text in help_pages(get_command(app), "codex-server")]
    return "\n".join(["# The command line\n", WRITTEN, *sections])


def help_pages(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """``(path, help)`` of ``command`` and of all below it, as a terminal of ``HELP_WIDTH`` columns shows it.

    A child's context has its ``parent``, as on the command line: it takes over what that one is set to.
    """
    context = command.make_context(
        name, [], parent, resilient_parsing=True, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH
    )
    yield context.command_path, command.get_help(context).strip()
    for child_name, child in getattr(command, "commands", {}).items():
        yield from help_pages(child, child_name, context)


def settings_page() -> str:
    """One row for each setting."""
    return f"""# Settings

{WRITTEN}
A flag wins over the environment, the environment over `codex.toml` in the folder where the server is started, and that
over the default. The most used have flags of their own (`codex-server serve --help`); `--set NAME=VALUE` sets any.
`codex-server config` shows the values in force and where each comes from. A wrong value stops the start with one
message that names every wrong one by the flag, variable or key that it comes from. Sizes are written `64MiB`, `1GiB`,
`500kB` (decimal) or as a number of bytes. Whoever raises `max_timeout` raises `max_cpu_seconds` with it: a program that
computes is stopped by whichever comes first.

{settings_table(tuple(Settings.model_fields))}

The same in `codex.toml`:

```toml
port = 9000
min_isolation = "full"
max_memory = "1GiB"
pool_sizes = {{ python = 8, python-data = 2, javascript = 2 }}
```
"""


def settings_table(names: tuple[str, ...]) -> str:
    """A Markdown table of the settings ``names``."""
    rows = [
        f"| `{name}` | `{ENV_PREFIX}{name.upper()}` | {show_default(name, field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
        if name in names
    ]
    return "\n".join(["| setting | variable | default | meaning |", "| --- | --- | --- | --- |", *rows])


def show_default(name: str, field: FieldInfo) -> str:
    """The default as a person would write it; sizes with a unit."""
    if name in SHOWN_DEFAULTS:
        return SHOWN_DEFAULTS[name]
    value = field.get_default(call_default_factory=True)
    if value in (None, ""):
        return "none"
    return f"`{show_size(value) if is_size(field) else show_value(value)}`"


def seccomp_profile() -> str:
    """The profile of the server's own container, one entry a line, as container engines read it."""
    profile = docker_profile(SERVER)
    entries = ",\n".join(f"  {json.dumps(entry)}" for entry in profile.pop("syscalls"))
    return f'{json.dumps(profile)[:-1]},\n "syscalls": [\n{entries}\n ]}}\n'


def kernel_state_table() -> str:
    """A Markdown table of what a guest can touch of the kernel."""
    rows = [
        f"| {state.kind} | {state.owner.value} | {state.bound} | {state.reset} | "
        f"{' '.join(f'`{name}`' for name in state.tests) or 'not promised'} |"
        for state in KERNEL_STATE
    ]
    return "\n".join(
        ["| what | owner | bounded by | for the next guest | tests |", "| --- | --- | --- | --- | --- |", *rows]
    )


def with_block(name: str, marks: tuple[str, str], table: str) -> str:
    """The page ``name`` of the top folder with ``table`` between the two marks."""
    begin, end = marks
    before, found_begin, rest = (ROOT / name).read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        sys.exit(f"{name} has lost its marks {begin} and {end}; put them back around the table")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def refresh(*, only_check: bool) -> int:
    """Write each page that is out of date, or only name it; the exit code."""
    stale = {path: text for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        if not only_check:
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{'out of date' if only_check else 'written'}: {path.relative_to(ROOT)}\n")
    if stale and only_check:
        sys.stderr.write("run `make docs` and commit the result\n")
        return 1
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    return refresh(only_check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
