"""``codex-server run`` as a process of its own, in a real sandbox."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unprivileged

COMMAND = [sys.executable, "-m", "codex_server", "run", "--min-isolation", "confined"]
SECONDS = 60


def run(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_exit_code_and_both_streams_are_the_programs():
    result = run("-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    assert (result.returncode, result.stdout, result.stderr) == (7, b"out\n", b"err\n")


def test_output_is_passed_on_as_bytes():
    result = run("-c", r"import sys; sys.stdout.buffer.write(b'\xff\x00\xfe')")
    assert result.stdout == b"\xff\x00\xfe"


@pytest.mark.tier("change")
def test_output_comes_while_the_program_runs():
    program = "import sys; print('first', flush=True); import time; time.sleep(60)"
    with subprocess.Popen([*COMMAND, "--timeout", "30", "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 128 + signal.SIGTERM


@pytest.mark.tier("change")
def test_what_is_piped_in_is_the_programs_input_and_the_words_are_its_arguments():
    result = run("-c", "import sys; print(sys.argv[1:], sys.stdin.read())", "--", "-a", "--b", stdin="é".encode())
    assert result.stdout.decode() == "['-a', '--b'] é\n"


@pytest.mark.tier("change")
def test_a_file_runs_in_the_language_of_its_name(tmp_path: Path):
    file = tmp_path / "hello.sh"
    file.write_text('echo "$# $1"; exit 3')
    result = run(str(file), "one", "two")
    assert (result.returncode, result.stdout) == (3, b"2 one\n")


def test_the_code_can_come_from_standard_input():
    result = run("-l", "bash", "-", stdin=b"echo hello")
    assert result.stdout == b"hello\n"


def test_javascript_runs_too():
    assert run("-l", "js", "-c", "console.log(6 * 7)").stdout == b"42\n"


def test_a_program_that_a_signal_ends_exits_as_in_a_shell():
    result = run("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert result.returncode == 137
    assert result.stderr == b"codex-server: ended by SIGKILL\n"


@pytest.mark.tier("change")
def test_a_time_out_exits_137_and_says_why():
    result = run("--timeout", "1", "-c", "while True: pass")
    assert result.returncode == 137
    assert b"it took longer than 1 s; --timeout gives it more" in result.stderr


def test_a_reader_that_leaves_ends_the_program():
    program = "import itertools\nfor number in itertools.count(): print(number)"
    with subprocess.Popen([*COMMAND, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.wait(SECONDS) == 128 + signal.SIGPIPE


def test_an_unknown_language_is_refused_with_those_that_there_are():
    result = run("-l", "pyton", "-c", "1")
    assert result.returncode == 125
    assert b"Did you mean 'python'?" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["/nonexistent/hello.py"], ["--timeout", "1000", "-c", "1"]])
def test_what_cannot_be_run_is_one_line_without_a_traceback(arguments: list[str]):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (125, b"")
    assert result.stderr.startswith(b"codex-server: ")
    assert result.stderr.count(b"\n") == 1
