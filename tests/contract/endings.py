"""Every way to end, told by the kernel: the status, the exit code, the signal."""

from codex_server.model import Status
from tests.contract.case import Case, only

_SHORT = {"wall_seconds": 1.0}
_SPIN = {
    "python": "while True: pass",
    "javascript": "for (;;);",
    "bash": "while :; do :; done",
    "perl": "1 while 1;",
    "fake": "cpu 2",
}

CASES = [
    Case(
        "succeeds",
        {
            "python": "print('hello')",
            "javascript": "console.log('hello')",
            "typescript": "const word: string = 'hello'; console.log(word)",
            "bash": "echo hello",
            "perl": 'print "hello\\n";',
            "fake": "print hello",
        },
        stdout="hello\n",
    ),
    Case(
        "fails_with_its_own_code",
        {
            "python": "import sys; print('so far'); sys.exit(3)",
            "javascript": "console.log('so far'); process.exit(3)",
            "typescript": "console.log('so far'); process.exitCode = 3 as number",
            "bash": "echo so far; exit 3",
            "perl": 'print "so far\\n"; exit 3;',
            "fake": "print so far\nexit 3",
        },
        Status.FAILED,
        3,
        stdout="so far\n",
    ),
    *(
        Case(
            f"exit_code_{code}_is_only_a_number",
            {
                "python": f"import os; os._exit({code})",
                "javascript": f"process.exit({code})",
                "bash": f"exit {code}",
                "perl": f"exit {code};",
                "fake": f"exit {code}",
            },
            Status.FAILED,
            code,
        )
        for code in (1, 124, 137, 139, 255)
    ),
    Case(
        "succeeds_without_a_word",
        {"python": "pass", "javascript": ";", "bash": "true", "perl": "1;", "fake": "# nothing"},
        stdout="",
    ),
    *(
        Case(
            f"ends_by_{name}_of_its_own",
            {
                "python": f"import os; os.kill(os.getpid(), {number})",
                "bash": f"kill -{number} $$",
                "perl": f"kill {number}, $$; sleep 5;",
                "fake": f"signal {number}",
            },
            Status.SIGNALLED,
            128 + number,
            name,
        )
        for name, number in (("SIGKILL", 9), ("SIGSEGV", 11), ("SIGABRT", 6), ("SIGTERM", 15))
    ),
    Case(
        "kills_itself_in_javascript",
        only("javascript", "process.kill(process.pid, 'SIGKILL'); setTimeout(() => {}, 5000)"),
        Status.SIGNALLED,
        137,
        "SIGKILL",
    ),
    Case(
        "runs_out_of_wall_time_and_keeps_its_output",
        {
            "python": "import time\nprint('so far', flush=True)\ntime.sleep(60)",
            "javascript": "console.log('so far'); setTimeout(() => {}, 60000)",
            "typescript": "console.log('so far'); setTimeout((): void => {}, 60000)",
            "bash": "echo so far; sleep 60",
            "perl": '$| = 1; print "so far\\n"; sleep 60;',
            "fake": "print so far\nwait forever",
        },
        Status.TIMED_OUT,
        137,
        "SIGKILL",
        stdout="so far\n",
        limits=_SHORT,
    ),
    Case(
        "ignores_every_signal_and_runs_out_of_wall_time_all_the_same",
        {
            "python": """
                import signal, time
                for number in set(range(1, 65)) - {9, 19, 32, 33}:
                    signal.signal(number, signal.SIG_IGN)
                while True:
                    time.sleep(60)
                """,
            "bash": "trap '' HUP INT TERM QUIT; while :; do sleep 60; done",
        },
        Status.TIMED_OUT,
        137,
        "SIGKILL",
        limits=_SHORT,
    ),
    Case(
        "stops_itself_and_runs_out_of_wall_time",
        {"python": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "bash": "kill -STOP $$"},
        Status.TIMED_OUT,
        137,
        "SIGKILL",
        limits=_SHORT,
    ),
    Case(
        "runs_out_of_processor_time",
        _SPIN,
        Status.TIMED_OUT,
        137,
        "SIGXCPU|SIGKILL",
        limits={"cpu_seconds": 1.0, "wall_seconds": 20.0},
    ),
    Case(
        "runs_out_of_processor_time_in_a_chain_of_children",
        only("bash", "spin() { for ((i = 0; i < 60000; i++)); do :; done; }; while :; do (spin); done"),
        Status.TIMED_OUT,
        137,
        "SIGXCPU|SIGKILL",
        limits={"cpu_seconds": 1.0, "wall_seconds": 30.0},
    ),
    Case(
        "runs_out_of_memory",
        {
            "python": "kept = [b'x' * 2**20 for _ in range(512)]",
            "bash": "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done",
            "perl": "my @kept; push @kept, 'x' x 1048576 while @kept < 512;",
            "fake": "oom",
        },
        Status.MEMORY_EXCEEDED,
        137,
        "SIGKILL",
        limits={"memory_bytes": 96 * 2**20},
        levels=("full",),
    ),
    Case(
        "runs_out_of_memory_that_no_single_process_is_charged_for",
        only(
            "python",
            """
            import mmap, os, time
            for _ in range(4):
                if os.fork() == 0:
                    kept = mmap.mmap(-1, 64 * 2**20)
                    kept.write(b"x" * len(kept))
                    time.sleep(60)
            time.sleep(60)
            """,
        ),
        Status.MEMORY_EXCEEDED,
        137,
        "SIGKILL",
        limits={"memory_bytes": 96 * 2**20},
        levels=("namespaces", "confined"),
    ),
    Case(
        "runs_out_of_memory_in_javascript",
        only("javascript", "const kept = []; for (let i = 0; i < 1024; i++) kept.push(Buffer.alloc(2 ** 20, 1))"),
        Status.MEMORY_EXCEEDED,
        137,
        "SIGKILL",
        limits={"memory_bytes": 256 * 2**20},
    ),
    Case(
        "fills_the_workspace_and_is_told_so",
        only(
            "python",
            """
            import errno
            try:
                for number in range(100):
                    with open(f"/tmp/{number}", "wb") as file:
                        file.write(bytes(2**20) * 8)
            except OSError as error:
                print(errno.errorcode[error.errno])
            """,
        ),
        stdout="ENOSPC\n",
        levels=("full", "namespaces"),
    ),
    Case(
        "prints_more_than_is_kept_and_does_not_notice",
        {
            "python": "import sys; sys.stdout.write('x' * 10**6); sys.stdout.flush()",
            "javascript": "process.stdout.write('x'.repeat(1e6))",
            "bash": "head -c 1000000 /dev/zero | tr '\\0' x",
            "perl": "print 'x' x 1000000;",
            "fake": "flood 1000000",
        },
        stdout="x" * 500 + "\n[... 999,000 bytes left out ...]\n" + "x" * 500,
        truncated=True,
        limits={"output_bytes": 1000},
    ),
    Case(
        "floods_and_is_stopped",
        {
            "python": "import sys\nwhile True: sys.stdout.write('x' * 65536)",
            "javascript": "for (;;) require('fs').writeSync(1, 'x'.repeat(65536))",
            "bash": "yes",
            "perl": "print 'x' x 65536 while 1;",
            "fake": "flood 100000000",
        },
        Status.OUTPUT_EXCEEDED,
        137,
        "SIGKILL",
        truncated=True,
    ),
]
