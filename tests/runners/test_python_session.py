"""An interpreter of Python that stays: what its cells find, what they claim, and what none of them can break."""

import base64
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_server.interpreters import find_interpreter
from tests.runners.live_interpreter import Forking, LiveInterpreter, Reply

PYTHON = Path(os.environ.get("CODEX_TEST_PYTHON") or find_interpreter("python").path)


@pytest.fixture(scope="module")
def forking() -> Iterator[Forking]:
    forking = Forking(PYTHON)
    yield forking
    forking.close()


@pytest.fixture
def python(forking, tmp_path) -> Iterator[LiveInterpreter]:
    interpreter = forking.fork(tmp_path)
    yield interpreter
    interpreter.close()


def last(python: LiveInterpreter, *cells: str) -> Reply:
    """The reply to the last of ``cells``; the ones before must succeed."""
    *before, cell = cells
    for earlier in before:
        reply = python.run(earlier)
        assert reply.code == 0, reply.stderr
    return python.run(cell)


VALUES = {
    "last expression": (["x = 20", "x += 1", "x * 2"], "42"),
    "no value of a statement": (["x = 1"], None),
    "no value where it is None": (["print"], "<built-in function print>"),
    "no value after a semicolon": (["5;"], None),
    "no value after a semicolon and a comment": (["5 ;  # quiet"], None),
    "semicolon in a text": (["';'"], "';'"),
    "value in parentheses": (["(1,\n 2)"], "(1, 2)"),
    "value after what is not ASCII": (["ä = 'é'; ä"], "'é'"),
    "previous value": (["6 * 7", "None", "_ + 1"], "43"),
    "a byte order mark and the line ends of Windows": (["\ufeffx = 1\r\nx + 1\r\n"], "2"),
    "value that awaits": (["import asyncio", "await asyncio.sleep(0, 'slept')"], "'slept'"),
    "task made and awaited in one cell": (
        ["import asyncio\nt = asyncio.create_task(asyncio.sleep(0, 5))\nawait t"],
        "5",
    ),
    "run after await": (["import asyncio\nawait asyncio.sleep(0)", "asyncio.run(asyncio.sleep(0, 5))"], "5"),
    "await after run": (["import asyncio\nasyncio.run(asyncio.sleep(0))", "await asyncio.sleep(0, 5)"], "5"),
    "the loop of old programs after run": (
        [
            "import asyncio\nasyncio.run(asyncio.sleep(0))",
            "asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 5))",
        ],
        "5",
    ),
    "task that goes on in a later cell": (
        [
            "import asyncio\nasync def later():\n    await asyncio.sleep(0)\n    return 7",
            "t = asyncio.create_task(later()) if await asyncio.sleep(0) is None else 0",
            "await t",
        ],
        "7",
    ),
    "async for and async with": (
        ["async def two():\n    yield 1\n    yield 2", "[x async for x in two()]"],
        "[1, 2]",
    ),
    "future imports stay": (
        ["from __future__ import annotations", "def f(a: Zork): 0\nf.__annotations__"],
        "{'a': 'Zork'}",
    ),
    "pickled object of the program's own class": (
        ["import pickle\nclass P:\n    def __eq__(self, other): return True", "pickle.loads(pickle.dumps(P())) == P()"],
        "True",
    ),
    "data class": (["from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int", "D(3)"], "D(x=3)"),
    "source of a function": (
        ["import inspect\ndef f():\n    return 1\n", "inspect.getsource(f)"],
        "'def f():\\n    return 1\\n'",
    ),
    "main": (["import sys", "__name__, sys.modules['__main__'].__dict__ is globals()"], "('__main__', True)"),
    "processes that share the program": (
        [
            "import multiprocessing\ndef f(x): return x * x",
            "with multiprocessing.get_context('fork').Pool(1) as p: r = p.map(f, [3])",
            "r",
        ],
        "[9]",
    ),
    "modules beside the program": (["open('beside.py', 'w').write('x = 5')", "import beside", "beside.x"], "5"),
    "nothing of the agent's in the namespace": (
        ["sorted(name for name in globals() if not name.startswith('__'))"],
        "[]",
    ),
    "text that is too long": (["'x' * 200_000"], "'" + "x" * 99_998 + "…"),
    "list that is too long": (["[0] * 10_000_000"], ("[" + "0, " * 40_000)[:99_999] + "…"),
    "list that holds itself": (["a = []; a.append(a); a"], "[[...]]"),
    "value whose repr fails": (
        ["class B:\n    def __repr__(self): raise ValueError('no')", "B()"],
        "<B object, whose repr failed: ValueError: no>",
    ),
    "value whose repr never ends": (
        ["class B:\n    def __repr__(self): return repr(self)", "B()"],
        "<B object, whose repr failed: RecursionError: ",
    ),
    "flag of the interpreter": (["import sys; sys.setrecursionlimit(5000)", "sys.getrecursionlimit()"], "5000"),
    "random numbers from a seed": (
        ["import random; random.seed(1)", "a = random.random(); random.seed(1)", "a == random.random()"],
        "True",
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_value_of_a_cell(name, python):
    cells, text = VALUES[name]
    reply = last(python, *cells)
    assert (reply.code, reply.stderr) == (0, "")
    assert reply.text == text or (text and text.endswith("RecursionError: ") and reply.text.startswith(text))


FAILURES = {
    "exception": (
        ["def f():\n    return 1 / 0", "f()"],
        'Traceback (most recent call last):\n  File "<cell 2>", line 1, in <module>\n    f()\n'
        '  File "<cell 1>", line 2, in f\n    return 1 / 0\n           ~~^~~\nZeroDivisionError: division by zero\n',
    ),
    "exception where the cell awaits": (
        ["async def f():\n    raise ValueError('no')", "await f()"],
        'Traceback (most recent call last):\n  File "<cell 2>", line 1, in <module>\n    await f()\n'
        "  File \"<cell 1>\", line 2, in f\n    raise ValueError('no')\nValueError: no\n",
    ),
    "syntax error": (
        ["x = (1,\ny = 2"],
        "  File \"<cell 1>\", line 1\n    x = (1,\n        ^\nSyntaxError: '(' was never closed\n",
    ),
    "no input": (
        ["input()"],
        'Traceback (most recent call last):\n  File "<cell 1>", line 1, in <module>\n    input()\n'
        "EOFError: EOF when reading a line\n",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_is_shown_as_python_shows_it(name, python):
    cells, shown = FAILURES[name]
    reply = last(python, *cells)
    assert (reply.code, reply.result) == (1, None)
    if python.run("import sys\nprint(*sys.version_info[:2])").stdout == "3 11\n":
        assert reply.stderr == shown
    assert reply.stderr.splitlines()[-1] == shown.splitlines()[-1]


def test_a_failure_leaves_what_the_cell_did_before(python):
    assert python.run("x = 1\nraise ValueError").code == 1
    assert python.run("x").text == "1"


def test_cells_of_one_file_name_keep_their_own_lines(python):
    python.run("import inspect, sys\n\ndef f():\n    return 1 / 0", file="main.py")
    failed = python.run("f()  # the first line", file="main.py")
    assert '  File "<cell 1>", line 4, in f\n    return 1 / 0\n' in failed.stderr
    shown = python.run("inspect.getsource(f), sys.argv", file="main.py", args=["x"])
    assert shown.text == "('def f():\\n    return 1 / 0\\n', ['main.py', 'x'])"


def test_exception_of_a_thread_shows_the_lines_of_its_cell(python):
    reply = python.run("import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start(); t.join()")
    assert (reply.code, "target=lambda: 1 / 0" in reply.stderr) == (0, True)


def test_same_warning_of_the_same_line_is_shown_in_each_cell(python):
    cell = "import warnings\nwarnings.warn('careful')"
    first, second = python.run(cell, file="main.py"), python.run(cell, file="main.py")
    said = "<cell {}>:2: UserWarning: careful\n  warnings.warn('careful')\n"
    assert (first.stderr, second.stderr) == (said.format(1), said.format(2))


def test_arguments_and_variables_are_the_cell_s_and_the_variables_stay(python):
    assert (
        python.run("import sys, os\nsys.argv[1:], os.environ['A']", args=["x y"], env={"A": "1"}).text
        == "(['x y'], '1')"
    )
    assert python.run("sys.argv[1:], os.environ['A']").text == "([], '1')"


INTERRUPTED = {
    "busy loop": "while True: pass",
    "sleep": "import time; time.sleep(60)",
    "await": "import asyncio; await asyncio.sleep(60)",
    "busy loop of a cell that awaits": "import asyncio; await asyncio.sleep(0)\nwhile True: pass",
    "busy loop in an event loop": "import asyncio\nasync def f():\n    while True: pass\nasyncio.run(f())",
    "subprocess": "import subprocess; subprocess.run(['sleep', '60'])",
    "lock": "import threading; l = threading.Lock(); l.acquire(); l.acquire()",
    "repr": "class R:\n    def __repr__(self):\n        while True: pass\nR()",
    "handler of the cell before": "while True: pass",
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupt_ends_a_cell_and_nothing_else(name, python):
    python.run("import signal; kept = 1; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    cell = INTERRUPTED[name]
    reply = python.run(f"print('go')\n{cell}", interrupt_at="go")
    assert (reply.code, reply.result, reply.stderr.splitlines()[-1]) == (130, None, "KeyboardInterrupt")
    assert str(Path(__file__).parents[2]) not in reply.stderr
    assert python.run("kept").text == "1"


def test_interrupt_ends_a_task_that_computes(python):
    cell = "import asyncio\nasync def f():\n    print('go')\n    while True: pass\nasyncio.run(f())"
    assert python.run(cell, interrupt_at="go").code == 130


def test_interrupt_where_a_cell_waits_for_input(python, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    reply = python.run("print('go'); input()", stdin=str(tmp_path / "pipe"), interrupt_at="go")
    os.close(writer)
    assert (reply.code, reply.stderr.splitlines()[-1]) == (130, "KeyboardInterrupt")


def test_cell_that_catches_the_interrupt_goes_on(python):
    cell = "try:\n    print('go')\n    while True: pass\nexcept KeyboardInterrupt: print('caught')"
    reply = python.run(cell, interrupt_at="go")
    assert (reply.code, reply.stdout) == (0, "go\ncaught\n")


def test_interrupt_between_cells_does_nothing(python):
    python.interrupt()
    python.run("x = 1")
    python.interrupt()
    assert python.run("x").text == "1"


def test_input_is_the_cell_s_own(python, tmp_path):
    assert python.feed("input()", "one\ntwo\nthree\n", tmp_path).text == "'one'"
    assert python.feed("import sys\ninput(), sys.stdin.read()", "four\nfive\n", tmp_path).text == "('four', 'five\\n')"
    assert python.feed("[line for line in sys.stdin]", "six\nseven", tmp_path).text == "['six\\n', 'seven']"
    assert python.feed("open(0).read()", "eight", tmp_path).text == "'eight'"
    assert python.feed("input()", "nine\n", tmp_path).text == "'nine'"
    assert python.run("sys.stdin.read()").text == "''"


BREAKING = {
    "closes standard output": "import sys; sys.stdout.close()",
    "detaches it": "import sys; sys.stdout.detach(); sys.stderr.detach()",
    "closes the descriptors": "import os; os.close(0); os.close(1); os.close(2)",
    "redirects the descriptors": "import os; n = os.open('/dev/null', os.O_RDWR); [os.dup2(n, i) for i in (0, 1, 2)]",
    "replaces the streams": "import io, sys; sys.stdout = sys.stderr = sys.stdin = io.StringIO()",
    "has no streams": "import sys; sys.stdout = sys.stderr = sys.stdin = None",
    "deletes the streams": "import sys; del sys.stdout, sys.stderr, sys.stdin",
    "replaces main": "import sys, types; sys.modules['__main__'] = types.ModuleType('other')",
    "replaces builtins": "import builtins; builtins.repr = builtins.open = None",
    "replaces json": "import json; json.dumps = json.loads = None",
    "replaces os": "import os; os.read = os.write = os.dup2 = None",
    "breaks the hook": "import sys\ndef sys_hook(*a): raise ValueError\nsys.excepthook = sys_hook\n",
    "deletes the hook": "import sys; del sys.excepthook",
    "leaves a tracer": "import sys; sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
    "fails to be flushed": "import sys\nclass S:\n    def flush(self): raise OSError\nsys.stdout = S()",
    "clears linecache": "import linecache; linecache.clearcache()",
    "clears its namespace": "globals().clear()",
    "changes the folder": "import os; os.makedirs('deep/er'); os.chdir('deep/er')",
    "forks": "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)",
    "forks a child that fails": "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nelse: 1 / 0",
    "leaves a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=[3600], daemon=True).start()",
    "closes the event loop": "import asyncio; asyncio.get_event_loop_policy().get_event_loop().close()",
    "ignores SIGINT": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
}


@pytest.mark.parametrize("name", BREAKING)
def test_no_cell_breaks_the_next(name, python, tmp_path):
    python.run(BREAKING[name])
    reply = python.feed("import sys; print(input()); print('error', file=sys.stderr); 42", "in\n", tmp_path)
    assert reply == Reply(0, "in\n", "error\n", {"text/plain": "42"})
    reply = python.run("import asyncio\nawait asyncio.sleep(0, 'slept')")
    assert reply.text == "'slept'"
    assert python.run("1 / 0").code == 1


def test_a_child_neither_replies_nor_holds_the_channel(python):
    reply = python.run(
        "import os, sys\npid = os.fork()\nif pid == 0:\n    print('child')\nelse:\n    print(os.waitpid(pid, 0)[1])"
    )
    assert (reply.code, sorted(reply.stdout.split())) == (0, ["0", "child"])
    assert python.run("1").text == "1"


def test_the_program_meets_no_descriptor_of_ours_among_the_lowest(python):
    assert python.run("f = open('/dev/null'); f.fileno()").text == "3"


def test_a_program_that_is_executed_inherits_no_descriptor(python):
    code = "import subprocess; subprocess.run(['ls', '/proc/self/fd'], close_fds=False, capture_output=True).stdout"
    assert python.run(code).text == r"b'0\n1\n2\n3\n'"


def test_files_that_a_cell_leaves_open_are_written(python, tmp_path):
    python.run(
        "import csv\nf = open('a.txt', 'w'); f.write('abc')\nw = csv.writer(open('b.csv', 'w')); _ = w.writerow([1, 2])"
    )
    assert ((tmp_path / "a.txt").read_text(), (tmp_path / "b.csv").read_text()) == ("abc", "1,2\n")


def test_what_c_has_printed_belongs_to_the_cell(python):
    assert python.run("import ctypes; c = ctypes.CDLL(None); c.printf(b'from c'); None").stdout == "from c"


ENDINGS = {
    "exit()": ("exit()", 0, ""),
    "exit with a code": ("import sys; sys.exit(3)", 3, ""),
    "exit with a text": ("raise SystemExit('enough')", 1, "enough\n"),
    "exit of a cell that awaits": ("import asyncio\nawait asyncio.sleep(0)\nexit(4)", 4, ""),
    "os._exit": ("import os; print('lost?', flush=True); os._exit(5)", 5, ""),
    "signal": ("import os; os.kill(os.getpid(), 9)", -9, ""),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_program_that_ends_ends_the_interpreter(name, forking, tmp_path):
    code, status, stderr = ENDINGS[name]
    python = forking.fork(tmp_path)
    reply = python.run(code)
    assert (reply.code, reply.stderr, python.close()) == (None, stderr, status)


def test_what_is_to_be_done_at_exit_is_done_at_the_interpreter_s(forking, tmp_path):
    python = forking.fork(tmp_path)
    code = "import atexit\natexit.register(print, 'bye')\nclass D:\n    def __del__(self): print('gone')\nd = D()"
    assert python.run(code).stdout == ""
    assert python.run("f = open('a.txt', 'w'); print('cell'); f.write('abc'); exit(2)").stdout == "cell\nbye\ngone\n"
    assert (python.close(), (tmp_path / "a.txt").read_text()) == (2, "abc")


def test_end_of_the_channel_ends_the_interpreter(forking, tmp_path):
    python = forking.fork(tmp_path)
    python.run("import atexit, asyncio, pathlib\natexit.register(pathlib.Path('ended').touch)")
    python.run("t = asyncio.create_task(asyncio.sleep(60)) if await asyncio.sleep(0) is None else 0")
    assert (python.close(), (tmp_path / "ended").exists()) == (0, True)


def test_traceback_of_an_error_in_a_library_begins_with_the_cell_s_line(python):
    lines = python.run("import sys, textwrap\ntextwrap.wrap(5)", file="main.py").stderr.splitlines()
    assert lines[1:3] == ['  File "<cell 1>", line 2, in <module>', "    textwrap.wrap(5)"]


# --- forms of a value ---


def shows(python: LiveInterpreter, body: str) -> Reply:
    indented = body.replace("\n", "\n    ")
    return python.run(f"class Shown:\n    def __repr__(self): return 'shown'\n    {indented}\nShown()")


FORMS = {
    "_repr_html_": ("'<b>'", "text/html", "<b>"),
    "_repr_markdown_": ("'*'", "text/markdown", "*"),
    "_repr_svg_": ("'<svg/>'", "image/svg+xml", "<svg/>"),
    "_repr_latex_": ("'$x$'", "text/latex", "$x$"),
    "_repr_json_": ("{'a': [1]}", "application/json", {"a": [1]}),
    "_repr_png_": ("b'png'", "image/png", base64.b64encode(b"png").decode()),
    "_repr_jpeg_": ("(b'jpeg', {'width': 3})", "image/jpeg", base64.b64encode(b"jpeg").decode()),
}


@pytest.mark.parametrize("method", FORMS)
def test_each_form_that_a_value_offers_is_in_its_result(method, python):
    returned, kind, form = FORMS[method]
    reply = shows(python, f"def {method}(self): return {returned}")
    assert reply == Reply(0, "", "", {"text/plain": "shown", kind: form})


def test_a_bundle_may_come_with_metadata_and_goes_before_single_forms(python):
    body = (
        "def _repr_mimebundle_(self, include=None, exclude=None): return {'text/html': 1 and '<i>', 'x/y': b'z'}, {}\n"
    )
    reply = shows(python, f"{body}def _repr_html_(self): return '<b>'")
    assert reply.result == {"text/plain": "shown", "text/html": "<i>", "x/y": "eg=="}


@pytest.mark.parametrize(
    "body",
    [
        "def _repr_html_(self): raise ValueError('no')",
        "def _repr_json_(self): return float('nan')",
        "def _repr_json_(self): return self",
        "def _repr_mimebundle_(self): return 5",
    ],
)
def test_form_that_fails_is_left_out_and_said(body, python):
    reply = shows(python, body)
    assert (reply.code, reply.result) == (0, {"text/plain": "shown"})
    assert reply.stderr.startswith("Shown._repr_")


def test_class_shows_no_form_of_its_objects(python):
    assert python.run("class A:\n    def _repr_html_(self): return ''\nA").result == {
        "text/plain": "<class '__main__.A'>"
    }


def test_object_with_every_attribute_shows_only_its_text(python):
    assert set(python.run("from unittest.mock import MagicMock\nMagicMock()").result) == {"text/plain"}


@pytest.fixture
def showing(python) -> LiveInterpreter:
    python.run("class A(str):\n    def _repr_html_(self): return f'<{self}>'")
    return python


def test_display_prints_the_text_and_the_last_richer_forms_are_the_result(showing):
    reply = showing.run("display(A('a'), A('b'), 5)")
    assert (reply.stdout, reply.result) == ("'a'\n'b'\n5\n", {"text/html": "<b>"})


def test_value_of_a_cell_goes_before_what_it_displayed(showing):
    assert showing.run("display(A('a'))\n7").result == {"text/plain": "7"}


def test_what_one_cell_displayed_is_not_the_result_of_the_next(showing):
    showing.run("display(A('a'))\n7")
    assert showing.run("b = 8").result is None


def test_cell_that_failed_has_what_it_displayed_before(showing):
    reply = showing.run("display(A('a'))\n1 / 0")
    assert (reply.code, reply.result) == (1, {"text/html": "<a>"})


def test_reply_is_kept_short_by_leaving_out_the_largest_forms(python):
    body = "def _repr_html_(self): return 'h' * 1_500_000\ndef _repr_png_(self): return b'p' * 3_000_000\n"
    reply = shows(python, body)
    assert set(reply.result) == {"text/plain", "text/html"}
    assert reply.stderr == "a form image/png of 4,000,002 bytes is left out: the result would be too large\n"


def test_texts_alone_never_make_the_reply_too_long(python):
    python.run(
        "class A:\n    def __repr__(self): return '\U0001f40d' * 200_000\n    def _repr_html_(self): return '<a>'"
    )
    reply = python.run("for _ in range(20): display(A())\nA()")
    assert (reply.code, len(reply.text), reply.result["text/html"]) == (0, 100_000, "<a>")


def test_text_that_is_no_unicode_does_not_break_the_reply(python):
    assert python.run("class A:\n    def __repr__(self): return 'a\\udc80\\0b'\nA()").text == "a?\0b"


def test_process_that_was_interrupted_is_still_the_one_that_was_started(python):
    before = python.run("import os; os.getpid()").text
    assert int(before) == python.pid
    os.kill(python.pid, signal.SIGINT)
    assert python.run("os.getpid()").text == before
