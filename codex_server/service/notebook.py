"""What is added to ``error`` where a program was written for a notebook or a person at a terminal.

Nothing was shown, a line is no Python, or a question had no reply.

Judged from the text alone, a few kilobytes of it, with patterns that never go back: the server parses no guest's code.
"""

import re

from codex_server.model import Execution, Outcome, Status

_TAIL = 2_000
"""Characters of the code, and of the error, that are looked at from their end."""
_FAILURES = (
    (
        re.compile(r"^[ \t]*[!%]", re.MULTILINE),
        "SyntaxError",
        "Hint: this is plain Python, not a notebook: lines that begin with ! or % do not work. Packages cannot be "
        "installed here; import what is there. Shell commands need subprocess.run([...]) or the language bash.",
    ),
    (
        re.compile(r"^[ \t]*(?:pip3?|python3? -m pip) install\b", re.MULTILINE),
        "SyntaxError",
        "Hint: packages cannot be installed here; import what is there. Shell commands need the language bash.",
    ),
    (
        re.compile(r"\bdisplay\("),
        "NameError: name 'display' is not defined",
        "Hint: display() belongs to notebooks. Use print(...); figures of matplotlib come back by plt.show().",
    ),
    (
        re.compile(r"\binput\("),
        "EOFError: EOF when reading a line",
        "Hint: there was no line of input left. Send all of it in `stdin`, or set `keep_stdin_open` and "
        "`wait_seconds`, and send each line by POST /executions/{execution_id}/input.",
    ),
    (
        re.compile(r"\bget_ipython\("),
        "NameError: name 'get_ipython' is not defined",
        "Hint: this is plain Python, not a notebook: get_ipython() is not there.",
    ),
)
_STATEMENT = re.compile(
    r"(?:import|from|def|class|if|for|while|with|try|except|finally|else|elif|return|pass|del|assert|raise|global|nonlocal"
    r"|async|match|case|print)\b|[@#)\]}\"']"
)
_ASSIGNMENT = re.compile(r"[^=(]*?[^=!<>(]=(?!=)|[^=(\"']*:\s")
_PROCEDURE = re.compile(
    r"(?:\w+\.)*(?:main|run|exit|quit|sleep|start|join|close|wait|append|extend|add|update|remove|write|writelines|flush"
    r"|save|savefig|show|to_\w+|dump|makedirs|mkdir|seed|sort|set\w*|shutdown|register|kill|_exit|system|exec)\("
)


def hint_for_notebook(execution: Execution, outcome: Outcome) -> str | None:
    """The hint for this program, None for nearly all."""
    if execution.language != "python":
        return None
    if outcome.status is Status.FAILED:
        stderr = outcome.stderr.text[-_TAIL:]
        return next((text for code, error, text in _FAILURES if error in stderr and code.search(execution.code)), None)
    if outcome.ending.cell or outcome.status is not Status.SUCCEEDED:  # a session shows values
        return None
    if outcome.stdout.text or outcome.stderr.text or outcome.ending.files:
        return None
    last = _last_expression(execution.code[-_TAIL:])
    return f"Hint: nothing was printed. The value of the last line is not shown: print({last})" if last else None


def _last_expression(code: str) -> str | None:
    """The last line of ``code`` if it is an expression of one line whose value is lost; it stands at the margin."""
    last = (code.rstrip().splitlines() or [""])[-1].rsplit(";", 1)[-1].strip()
    whole = bool(last) and not code.rstrip().splitlines()[-1][0].isspace() and len(last) < _TAIL // 2
    if not whole or any(pattern.match(last) for pattern in (_STATEMENT, _ASSIGNMENT, _PROCEDURE)):
        return None
    return last if last.count("(") == last.count(")") and last.isprintable() else None
