"""An interpreter of Bash that stays: a shell whose variables, folder, functions, options and jobs go on."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codex_server.interpreters import find_interpreter
from tests.runners.comparison import RUNNERS
from tests.runners.live_interpreter import LiveInterpreter, Reply, started

BASH = find_interpreter("bash").path


def start(folder: Path) -> LiveInterpreter:
    return started([BASH, "--noprofile", "--norc", RUNNERS / "bash" / "session.bash"], folder)


@pytest.fixture
def bash(tmp_path) -> Iterator[LiveInterpreter]:
    interpreter = start(tmp_path)
    yield interpreter
    interpreter.close()


def sleeps(bash: LiveInterpreter) -> Callable[[], bool]:
    """Whether the shell's child has become `sleep`: before, it would lose the signal, as in any shell."""

    def asleep() -> bool:
        children = Path(f"/proc/{bash.pid}/task/{bash.pid}/children").read_text().split()
        return any(Path(f"/proc/{child}/comm").read_text() == "sleep\n" for child in children)

    return asleep


SHAPES = {
    "variables": (["x=5; a=(1 '2 3')", 'echo "$x ${a[1]}"'], "5 2 3\n"),
    "exported variables": (["export V=1", "env | grep ^V="], "V=1\n"),
    "folder": (["mkdir -p a/b; cd a/b", 'basename "$PWD"; cd - >/dev/null; ls'], "b\na\n"),
    "functions": (['f() { echo "f $1"; }', "f 1"], "f 1\n"),
    "aliases": (["alias say='echo said'", "say it"], "said it\n"),
    "options": (["shopt -s nullglob; set -f", "echo *; set +f; echo *.none"], "*\n\n"),
    "background jobs": (
        ["/bin/true; sleep 60 &", "/bin/true; jobs | tr -s ' '; kill %1; wait; jobs"],
        "[1]+ Running sleep 60 &\n",
    ),
    "positional parameters": (["set -- a 'b c'", 'echo "$# $2"'], "2 b c\n"),
    "status of the cell before": (["(exit 7) || true; false || true", "echo $?"], "0\n"),
    "here document": (["cat <<END\n$((1 + 1))\nEND"], "2\n"),
    "here document after set -e": (["set -e", "cat <<END\nx\nEND"], "x\n"),
    "several lines": (["for i in 1 2; do\n  echo $i\ndone \\\n  | cat"], "1\n2\n"),
    "redirected standard output": (
        ["exec 5>&1 >out.txt; echo kept", "echo more", "exec >&5 5>&-; cat out.txt"],
        "kept\nmore\n",
    ),
    "closed standard output": (["exec >&-; exec 2>&-", "echo back"], "back\n"),
    "break": (["break; continue", "echo next"], "next\n"),
    "return": (["echo a; return 3; echo b", "echo c"], "c\n"),
    "names of the shell": (['echo "$0 $#"; dirname "${BASH_SOURCE[0]}"'], "bash 0\n.\n"),
    "no program inherits a descriptor of ours": (["ls /proc/self/fd | wc -l"], "4\n"),
    "nor a variable": (["env | grep -e __session -e PROMPT; true"], ""),
    "PROMPT_COMMAND": (["PROMPT_COMMAND='echo prompt'", "echo $((1 + 1))"], "2\n"),
    "long code": ([f"echo {'x' * 10_000} | wc -c"], "10001\n"),
    "long code that ends as a part of it does": ([f"echo {'x' * (4096 - 5)}; "[:4096], "echo 1"], "1\n"),
    "letters of all kinds": (["echo 'äλ🐍'"], "äλ🐍\n"),
    "options of a cell that leak into ours": (
        ["set -euxo pipefail; set -a; set -T", "set +x; echo $-$((2 * 2))"],
        "aehuBHTs",
    ),
    "a trap of DEBUG": (["trap 'n=$((n + 1))' DEBUG", "trap - DEBUG; ((n > 0)) && echo counted"], "counted\n"),
    "functions named like builtins": (["read() { :; }; printf() { :; }; eval() { :; }; cd() { :; }", "echo 1"], "1\n"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_of_a_shell_session(name, bash):
    cells, stdout = SHAPES[name]
    for cell in cells[:-1]:
        bash.run(cell)
    reply = bash.run(cells[-1])
    if "leak" in name:
        reply = Reply(reply.code, "".join(c for c in stdout if c in reply.stdout), "")
    assert reply == Reply(0, stdout, "")


CODES = {
    "status of the last command": ("true; (exit 7)", 7, ""),
    "pipeline": ("set -o pipefail; (exit 3) | cat", 3, ""),
    "command that is not there": ("no-such-command", 127, "bash: no-such-command: command not found\n"),
    "syntax error": ("echo (", 2, "syntax error near unexpected token"),
    "open quote": ("echo '", 2, "unexpected EOF while looking for matching"),
    "unset variable": ("set -u; echo $unset; echo no", 1, "bash: unset: unbound variable\n"),
    "parameter that must be there": ("echo ${unset:?is missing}; echo no", 1, "bash: unset: is missing\n"),
    "set -e at the end of a list": ("set -e; false || [[ a == b ]] && echo no", 1, ""),
    "killed child": ("sh -c 'kill -9 $$'", 137, ""),
    "child that was interrupted by itself": ("sh -c 'kill -INT $$'", 130, ""),
}


@pytest.mark.parametrize("name", CODES)
def test_exit_code_is_the_last_command_s_and_the_shell_lives(name, bash):
    code, status, stderr = CODES[name]
    reply = bash.run(code)
    assert (reply.code, reply.stdout) == (status, "")
    assert stderr in reply.stderr
    assert str(RUNNERS) not in reply.stderr
    assert bash.run("set +eu; true").code == 0


def test_line_of_a_syntax_error_is_the_cell_s(bash):
    assert "line 3" in bash.run("echo 1\necho 2\necho )\n").stderr


def test_status_is_what_the_next_cell_asks_for(bash):
    bash.run("(exit 7)")
    assert bash.run("echo $?").stdout == "7\n"
    bash.run("return 9")
    assert bash.run("echo $?").stdout == "9\n"


INTERRUPTED = {
    "sleep": "sleep 60; echo no",
    "sleep in a function in a loop": "f() { while :; do sleep 60; done; }; f; echo no",
    "sleep of a subshell": "(sleep 60; echo no); echo no",
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupt_kills_the_foreground_command_and_drops_the_cell(name, bash):
    bash.run("kept=1; mkdir sub; cd sub")
    when = sleeps(bash) if "subshell" not in name else None
    reply = bash.run(INTERRUPTED[name], interrupt_when=when or (lambda: _grandchild_sleeps(bash.pid)))
    assert (reply.code, reply.stdout) == (130, "")
    assert bash.run('echo "$? $kept $(basename "$PWD")"') == Reply(0, "130 1 sub\n", "")


def _grandchild_sleeps(pid: int) -> bool:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    below = [Path(f"/proc/{child}/task/{child}/children").read_text().split() for child in children]
    return any(Path(f"/proc/{one}/comm").read_text() == "sleep\n" for ones in below for one in ones)


@pytest.mark.parametrize("loop", ["while :; do :; done", "for ((;;)); do x=$((x + 1)); done", "read x"])
def test_interrupt_reaches_the_shell_itself(loop, bash, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    reply = bash.run(f"echo go; {loop}; echo no", stdin=str(tmp_path / "pipe"), interrupt_at="go")
    os.close(writer)
    assert (reply.code, reply.stdout) == (130, "go\n")
    assert bash.run("echo next").stdout == "next\n"


def test_trap_of_the_program_decides_what_an_interrupt_does(bash):
    reply = bash.run("trap 'echo trapped' INT; sleep 60; echo after", interrupt_when=sleeps(bash))
    assert (reply.code, reply.stdout) == (0, "trapped\nafter\n")


def test_interrupt_between_cells_does_nothing(bash):
    bash.interrupt()
    assert bash.run("x=1; cd /; PROMPT_COMMAND=other").code == 0
    bash.run(":")
    bash.interrupt()
    assert bash.run("echo $x $PWD").stdout == "1 /\n"


def test_interrupt_leaves_background_jobs_alone(bash):
    bash.run("sleep 60 & job=$!")
    bash.run("echo go; while :; do :; done", interrupt_at="go")
    assert bash.run("kill $job && echo alive; wait").stdout == "alive\n"


def test_input_is_the_cell_s_own(bash, tmp_path):
    assert bash.feed('read -r x; echo "<$x>"', "one \\n\ntwo\n", tmp_path).stdout == "<one \\n>\n"
    assert bash.feed("cat", "three\nfour", tmp_path).stdout == "three\nfour"
    assert bash.run("read x; echo $?").stdout == "1\n"


def test_arguments_and_variables(bash):
    arguments = ["a b", '"\\/\n\t', "é🐍", "", "$(exit)", "\\u0041"]
    bash.run("IFS=,")
    reply = bash.run('printf "<%s>" "$@"; printf %s "$A"', args=arguments, env={"A": 'x"[{]}', "not a name": "1"})
    assert reply == Reply(0, "".join(f"<{one}>" for one in arguments) + 'x"[{]}', "")
    assert bash.run("env | grep ^A=").stdout == 'A=x"[{]}\n'


ENDINGS = {
    "exit": ("echo bye; exit 3", 3, "bye\n"),
    "exit with a trap": ("trap 'echo trapped' EXIT; exit 4", 4, "trapped\n"),
    "set -e": ("set -e; echo a; false; echo b", 1, "a\n"),
    "exec of a program": ("exec sh -c 'echo other; exit 5'", 5, "other\n"),
    "signal": ("kill -9 $$", -signal.SIGKILL, ""),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_shell_that_ends_ends_the_interpreter(name, tmp_path):
    code, status, stdout = ENDINGS[name]
    bash = start(tmp_path)
    assert bash.run(code) == Reply(None, stdout, "")
    assert bash.close() == status


def test_end_of_the_channel_ends_the_shell_with_its_trap(tmp_path):
    bash = start(tmp_path)
    bash.run("trap 'touch ended' EXIT")
    assert (bash.close(), (tmp_path / "ended").exists()) == (0, True)
