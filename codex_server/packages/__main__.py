"""``python -m codex_server.packages WHAT LOG ARGUMENT...``: install the server's own packages with pip.

The Makefile calls it in a new environment, which has only the standard library. Progress is one line.
"""

import sys
from pathlib import Path

from codex_server.packages.pip import Steps, explain_pip, is_unreachable, last_error
from codex_server.packages.process import CommandFailed, ProgressCallback, quote_end, run_command
from codex_server.packages.progress import Progress

_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--progress-bar", "off")


def install(what: str, log: Path, arguments: list[str]) -> None:
    """Run pip in this environment; on failure print the cause, the remedy and the end of pip's log, and exit with 1."""
    steps, title = Steps(), what[:1].upper() + what[1:]
    begin = f"Installing {what} into {Path(sys.prefix).name} (once; this takes a minute or two)"
    try:
        with Progress(begin, title) as progress, log.open("w", encoding="utf-8") as file:
            run_command([sys.executable, *_PIP, *arguments], ProgressCallback(progress, file), steps, folder=Path.cwd())
            progress.done(f"{steps.packages} installed" if steps.packages else "all installed already")
    except CommandFailed as failure:
        lines = failure.lines
        cause = explain_pip(lines) if is_unreachable(lines) else f"pip said: {last_error(lines)}"
        sys.exit(f"make: {what} could not be installed: {cause}.\n{quote_end(log)}")
    except OSError as error:
        sys.exit(f"make: {what} could not be installed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    install(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
