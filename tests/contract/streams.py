"""What the standard streams of a program are, where they are not three pipes."""

from codex_server.model import Status, Stdio
from tests.contract.case import Case

_MERGED = Stdio(merged=True)

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
]
