"""What the standard streams of a program are, where they are not three pipes."""

from codex_server.model import Status, Stdio, Terminal
from tests.contract.case import Case

WITH_DEVICES = ("full", "namespaces")
"""The levels at which a program can have a terminal."""
_MERGED = Stdio(merged=True)
_TERMINAL = Stdio(terminal=Terminal(rows=30, columns=100))

CASES = [
    Case(
        "writes_both_streams_into_one_in_exact_order",
        {
            "python": """
                import sys
                for n in range(100):
                    print(n, flush=True)
                    print("error", n, file=sys.stderr, flush=True)
                """,
            "javascript": "for (let n = 0; n < 100; n++) { console.log(n); console.error('error', n); }",
            "bash": "for n in {0..99}; do echo $n; echo error $n >&2; done",
            "fake": "\n".join(f"print {n}\nerror error {n}" for n in range(100)),
        },
        stdout="".join(f"{n}\nerror {n}\n" for n in range(100)),
        stdio=_MERGED,
    ),
    Case(
        "reads_its_input_with_its_streams_merged",
        {
            "python": "import sys; print(input()); sys.stdout.flush(); sys.exit(input())",
            "javascript": """
                const [one, two] = require('fs').readFileSync(0, 'utf8').split('\\n');
                console.log(one);
                console.error(two);
                process.exitCode = 1;
                """,
            "bash": "read one; read two; echo $one; echo $two >&2; exit 1",
        },
        Status.FAILED,
        1,
        stdin=b"one\ntwo\n",
        stdout="one\ntwo\n",
        stdio=_MERGED,
    ),
    Case(
        "finds_a_terminal_of_the_size_that_was_asked_for",
        {
            "python": """
                import os, sys
                assert all(map(os.isatty, range(3)))
                print(*os.get_terminal_size(), os.environ["TERM"])
                print("error", file=sys.stderr)
                """,
            "javascript": """
                const { stdin, stdout, stderr } = process;
                if (!stdin.isTTY || !stdout.isTTY || !stderr.isTTY) process.exit(1);
                stdout.write(`${stdout.columns} ${stdout.rows} ${process.env.TERM}\\n`);
                stderr.write('error\\n');
                """,
            "bash": """
                [ -t 0 ] && [ -t 1 ] && [ -t 2 ] || exit 1
                read rows columns < <(stty size < /dev/tty)
                echo $columns $rows $TERM
                echo error >&2
                """,
        },
        stdout="100 30 xterm-256color\r\nerror\r\n",
        stdio=_TERMINAL,
        levels=WITH_DEVICES,
    ),
    Case(
        "finds_the_end_of_its_input_at_a_terminal",
        {
            "python": "import sys; print(len(sys.stdin.read()))",
            "javascript": """
                let length = 0;
                process.stdin.on('data', (chunk) => length += chunk.length);
                process.stdin.on('end', () => process.stdout.write(`${length}\\n`));
                """,
            "bash": "cat | wc -c",
        },
        stdin=b"one\ntwo",
        stdout="one\r\ntwo7\r\n",  # a terminal shows what is typed
        stdio=_TERMINAL,
        levels=WITH_DEVICES,
    ),
    Case(
        "writes_much_to_a_terminal_and_ends_at_once",
        {
            "python": "import os; print('x' * 50_000, flush=True); os.write(1, b'end'); os._exit(0)",
            "javascript": "require('fs').writeSync(1, 'x'.repeat(50_000) + '\\nend')",
            "bash": "printf 'x%.0s' {1..50000}; echo; printf end",
        },
        stdout="x" * 50_000 + "\r\nend",
        stdio=_TERMINAL,
        levels=WITH_DEVICES,
    ),
]
