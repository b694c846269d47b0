"""What an execution is given: standard input, arguments, environment, files; and what it gives back."""

import hashlib

from codex_server.model import Status
from tests.contract.case import Case, only

_LARGE = b"0123456789abcdef" * 65536 * 5
_EVERY_BYTE = bytes(range(256))
_HASH_STDIN = {
    "python": "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())",
    "javascript": """
        const hash = require('crypto').createHash('sha256');
        process.stdin.on('data', (chunk) => hash.update(chunk)).on('end', () => console.log(hash.digest('hex')));
        """,
    "bash": "sha256sum | cut -d' ' -f1",
    "perl": "use Digest::SHA; my $h = Digest::SHA->new(256); $h->addfile(*STDIN); print $h->hexdigest, qq(\\n);",
}

CASES = [
    Case(
        "reads_standard_input",
        {
            "python": "print(input()); print(input())",
            "javascript": "process.stdout.write(require('fs').readFileSync(0))",
            "bash": "cat",
            "perl": "print while <STDIN>;",
            "fake": "stdin",
        },
        stdin="grüße\nzwei\n".encode(),
        stdout="grüße\nzwei\n",
    ),
    Case(
        "sees_the_end_of_an_empty_standard_input",
        {
            "python": "import sys; print(repr(sys.stdin.read()))",
            "javascript": "console.log(\"'\" + require('fs').readFileSync(0) + \"'\")",
            "bash": "echo \"'$(cat)'\"",
        },
        stdout="''\n",
    ),
    Case(
        "reads_every_byte_of_a_large_input", _HASH_STDIN, stdin=_LARGE, stdout=hashlib.sha256(_LARGE).hexdigest() + "\n"
    ),
    Case(
        "reads_bytes_that_are_no_text",
        _HASH_STDIN,
        stdin=_EVERY_BYTE,
        stdout=hashlib.sha256(_EVERY_BYTE).hexdigest() + "\n",
    ),
    Case(
        "leaves_fifty_megabytes_of_input_unread",
        {"python": "print('done')", "javascript": "console.log('done')", "bash": "echo done", "fake": "print done"},
        stdin=bytes(50 * 2**20),
        stdout="done\n",
    ),
    Case(
        "gets_its_arguments_as_they_are",
        {
            "python": "import json, sys; print(json.dumps(sys.argv[1:]))",
            "javascript": """
                const parts = process.argv.slice(2).map((part) => JSON.stringify(part).replace('é', '\\\\u00e9'));
                console.log(`[${parts.join(', ')}]`);
                """,
            "fake": "args",
        },
        args=("one", "two words", "", "é", "*", "--flag", "-c"),
        stdout='["one", "two words", "", "\\u00e9", "*", "--flag", "-c"]\n',
    ),
    Case(
        "gets_its_arguments_in_a_shell",
        {"bash": 'printf "<%s>" "$@"; echo " $#"', "perl": 'print "<$_>" for @ARGV; print " ", scalar @ARGV, "\\n";'},
        args=("one", "two words", "", "*", "--flag"),
        stdout="<one><two words><><*><--flag> 5\n",
    ),
    Case(
        "gets_the_environment_it_was_given",
        {
            "python": "import os; print(os.environ['GREETING'], os.environ['EMPTY'] == '')",
            "javascript": "console.log(process.env.GREETING, process.env.EMPTY === '' ? 'True' : 'False')",
            "bash": 'echo "$GREETING" $([ "${EMPTY+set}" = set ] && echo True)',
        },
        env={"GREETING": "grüße = 1", "EMPTY": ""},
        stdout="grüße = 1 True\n",
    ),
    Case(
        "gets_the_environment_of_the_fake",
        only("fake", "env"),
        env={"B": "2", "A": "1"},
        stdout='{"A": "1", "B": "2"}\n',
    ),
    Case(
        "may_be_given_another_path_and_home",
        {
            "python": "import os; print(os.environ['HOME'], os.environ['PATH'])",
            "bash": 'echo "$HOME $PATH"',
            "javascript": "console.log(process.env.HOME, process.env.PATH)",
        },
        env={"HOME": "/tmp/elsewhere", "PATH": "/usr/bin:/nowhere"},
        stdout="/tmp/elsewhere /usr/bin:/nowhere\n",
    ),
    Case(
        "reads_the_files_it_was_given_and_does_not_hand_them_back",
        {
            "python": "print(open('a.txt').read() + open('deep/er/b.txt').read())",
            "javascript": """
                const fs = require('fs');
                console.log(['a.txt', 'deep/er/b.txt'].map((name) => fs.readFileSync(name, 'utf8')).join(''));
                """,
            "bash": "cat a.txt deep/er/b.txt; echo",
            "perl": "local @ARGV = ('a.txt', 'deep/er/b.txt'); print <>; print qq(\\n);",
            "fake": "cat a.txt\ncat deep/er/b.txt\nprint",
        },
        files={"a.txt": b"one ", "deep/er/b.txt": b"two"},
        stdout="one two\n",
    ),
    Case(
        "hands_back_what_it_made_and_changed",
        {
            "python": """
                import os
                open("changed", "a").write(" after")
                open("made", "wb").write(bytes([0, 255]))
                os.makedirs("in/side")
                open("in/side/empty", "w").close()
                """,
            "javascript": """
                const fs = require('fs');
                fs.appendFileSync('changed', ' after');
                fs.writeFileSync('made', Buffer.from([0, 255]));
                fs.mkdirSync('in/side', { recursive: true });
                fs.writeFileSync('in/side/empty', '');
                """,
            "bash": "printf ' after' >> changed; printf '\\0\\377' > made; mkdir -p in/side; : > in/side/empty",
        },
        files={"changed": b"before", "kept": b"kept"},
        left={"changed": b"before after", "made": b"\x00\xff", "in/side/empty": b""},
    ),
    Case(
        "hands_back_the_files_of_the_fake",
        only("fake", "write a.txt some text\nskip link a symbolic link"),
        left={"a.txt": b"some text"},
        skipped=("link",),
    ),
    Case(
        "hands_back_files_when_it_fails",
        {
            "python": "open('made', 'w').write('x'); raise SystemExit(2)",
            "bash": "printf x > made; exit 2",
            "fake": "write made x\nexit 2",
        },
        Status.FAILED,
        2,
        left={"made": b"x"},
    ),
    Case(
        "hands_back_files_when_it_is_killed",
        {"python": "import time; open('made', 'w').write('x'); time.sleep(60)", "bash": "printf x > made; sleep 60"},
        Status.TIMED_OUT,
        137,
        "SIGKILL",
        left={"made": b"x"},
        limits={"wall_seconds": 1.0},
    ),
    Case(
        "hands_back_files_with_odd_names",
        only(
            "python",
            """
            for name in ("with space", "grüße", "-rf", ".hidden", "quote'\\"", "日本"):
                open(name, "w").write(name)
            """,
        ),
        left={name: name.encode() for name in ("with space", "grüße", "-rf", ".hidden", "quote'\"", "日本")},
    ),
    Case(
        "does_not_hand_back_what_is_no_plain_file",
        only(
            "python",
            """
            import os
            os.symlink("/etc/passwd", "link")
            os.symlink("/etc", "linked-folder")
            os.symlink("nowhere", "dangling")
            os.mkfifo("pipe")
            os.makedirs("/".join(["d"] * 60))
            open("/".join(["d"] * 60) + "/deep", "w").close()
            open("plain", "w").write("plain")
            """,
        ),
        left={"plain": b"plain"},
        skipped=("link", "linked-folder", "dangling", "pipe"),
    ),
    Case(
        "does_not_hand_back_a_socket",
        only("python", "import socket; socket.socket(socket.AF_UNIX).bind('socket')"),
        skipped=("socket",),
        levels=("full", "namespaces"),
    ),
    Case(
        "does_not_hand_back_files_it_took_away_or_locked",
        only(
            "python",
            """
            import os
            os.remove("given")
            open("locked", "w").write("x")
            os.chmod("locked", 0)
            os.mkdir("folder", 0)
            """,
        ),
        files={"given": b"given"},
        left={"locked": b"x"},
        levels=("full",),
    ),
    Case(
        "survives_names_that_are_no_text",
        only(
            "python",
            """
            import os
            open(b"bad\\xff", "w").close()
            open("new\\nline", "w").close()
            open("plain", "w").write("plain")
            print(len(os.listdir(b".")) >= 3)
            """,
        ),
        stdout="True\n",
        left=None,  # how such names are told is the wire's affair; see its test
    ),
]
