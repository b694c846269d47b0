"""Sessions: what stays between cells, what a cell's ending says, and what becomes of a session in trouble."""

import asyncio
import os
import signal

import pytest

from codex_server.errors import InvalidRequest, SandboxFault, SessionBusy, SessionEnded
from codex_server.execution.events import Output
from codex_server.execution.run import Run
from codex_server.model import Status, Stop
from tests.contract.harness import Harness, processes_with
from tests.contract.sessions import facts, opened, until

_FOR_EVER = "while True: pass"
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
_IN_C = "sum(range(10**15))"


def test_variables_stay_and_the_last_expression_is_the_result(harness: Harness) -> None:
    with opened(harness) as cells:
        first = cells.run("x = 20\ndef twice(n): return 2 * n")
        assert (first.status, facts(first).execution_count, facts(first).result) == (Status.SUCCEEDED, 1, None)
        second = cells.run("print('shown'); twice(x) + 2")
        assert second.stdout.text == "shown\n"
        assert facts(second).result["text/plain"] == "42"
        assert (facts(second).execution_count, facts(second).interpreter_restarted) == (2, False)


def test_a_result_has_the_forms_that_its_object_offers(harness: Harness) -> None:
    value = "def _repr_mimebundle_(self): return {'application/vnd.plot+json': {'a': [1]}, 'text/html': '<i>'}"
    with opened(harness) as cells:
        result = facts(cells.run(f"class Value:\n    {value}\nValue()")).result
        assert result is not None
        assert (result["application/vnd.plot+json"], result["text/html"]) == ({"a": [1]}, "<i>")


def test_a_failing_cell_keeps_what_came_before_its_error(harness: Harness) -> None:
    with opened(harness) as cells:
        failed = cells.run("y = 1\nraise ValueError('no')\ny = 2")
        assert (failed.status, failed.exit_code) == (Status.FAILED, 1)
        assert "ValueError: no" in failed.stderr.text
        assert facts(failed).claimed
        assert cells.shown("print(y)") == "1\n"


def test_a_traceback_shows_the_lines_of_the_cell_that_defined_a_function(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("def f():\n    raise ValueError('no')")
        failed = cells.run("a = 1\nf()  # the second line of another cell")
        assert "File \"<cell 1>\", line 2, in f\n    raise ValueError('no')\n" in failed.stderr.text


def test_only_what_a_cell_has_changed_is_returned(harness: Harness) -> None:
    with opened(harness, files={"data/in.csv": b"1,2"}) as cells:
        made = cells.run("open('out.txt', 'w').write(open('data/in.csv').read())")
        assert {file.path: file.content for file in made.ending.files} == {"out.txt": b"1,2"}
        assert cells.run("open('out.txt').read()").ending.files == ()
        again = cells.run("open('out.txt', 'a').write(',3')", files={"more.txt": b"input"})
        assert {file.path: file.content for file in again.ending.files} == {"out.txt": b"1,2,3"}
        assert cells.shown("import os; print(sorted(os.listdir()))") == "['data', 'more.txt', 'out.txt']\n"


def test_a_large_file_is_returned_and_stays(harness: Harness) -> None:
    with opened(harness) as cells:
        made = cells.run("open('large.bin', 'wb').write(bytes(1_000_000)) and None")
        assert [len(file.content) for file in made.ending.files] == [1_000_000]
        assert cells.shown("import os; print(os.path.getsize('large.bin'))") == "1000000\n"


def test_input_files_replace_those_that_are_there(harness: Harness) -> None:
    with opened(harness, files={"a.txt": b"old"}) as cells:
        kept = cells.shown("kept = open('a.txt'); print(open('a.txt').read())", files={"a.txt": b"new"})
        assert kept == "new\n"
        assert cells.shown("print(kept.read(), open('a.txt').read())", files={"a.txt": b"newest"}) == "new newest\n"


@pytest.mark.parametrize(
    ("made", "path"),
    [
        ("os.mkdir('taken')", "taken"),
        ("os.symlink(tempfile.gettempdir(), 'way')", "way/out.txt"),
        ("open('plain', 'w').close()", "plain/below.txt"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_and_nothing_runs(harness: Harness, made: str, path: str) -> None:
    with opened(harness) as cells:
        cells.run(f"import os, tempfile; {made}")
        with pytest.raises(InvalidRequest, match="nothing was run"):
            cells.run("open('proof', 'w').close()", files={path: b"content"})
        assert "proof" not in cells.shown("print(os.listdir('.'), os.listdir(tempfile.gettempdir()))")


def test_each_cell_has_a_standard_input_of_its_own(harness: Harness) -> None:
    with opened(harness) as cells:
        assert cells.shown("print(input(), input())", stdin=b"one\ntwo\nthree\n") == "one two\n"
        assert cells.shown("import sys; print(repr(sys.stdin.read()))", stdin=b"four\n") == "'four\\n'\n"
        assert "EOFError" in cells.run("input()").stderr.text


def test_a_cell_that_asks_is_answered_piece_by_piece(harness: Harness) -> None:
    with opened(harness) as cells:

        async def answer(run: Run) -> None:
            run.write(b"Ada\n")
            run.write(b"rest")
            run.stdin.close()

        code = "import sys\nprint('hello', input('name? '))\nprint(sys.stdin.read())"
        outcome = cells.while_running(lambda: cells.submit(code, keep_stdin_open=True), answer)
        assert outcome.stdout.text == "name? hello Ada\nrest\n"


def test_a_cell_beyond_its_time_is_interrupted_and_its_variables_stay(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("x = 1")
        late = cells.run(_FOR_EVER, limits={"wall_seconds": 1})
        assert (late.status, late.ending.stop) == (Status.TIMED_OUT, Stop.WALL_TIME)
        assert facts(late).claimed
        assert not facts(late).interpreter_restarted
        assert cells.shown("print(x)") == "1\n"


@pytest.mark.parametrize("code", [_DEAF, _IN_C], ids=["handler", "C"])
def test_an_interpreter_that_ignores_the_interrupt_is_replaced_and_files_stay(harness: Harness, code: str) -> None:
    with opened(harness) as cells:
        cells.run("x = 1; open('kept.txt', 'w').write('still here')")
        late = cells.run(code, limits={"wall_seconds": 1})
        assert (late.status, late.signal, facts(late).interpreter_restarted) == (Status.TIMED_OUT, "SIGKILL", True)
        assert cells.shown("print('x' in globals(), open('kept.txt').read())") == "False still here\n"


def test_a_program_that_exits_ends_its_interpreter_alone(harness: Harness) -> None:
    with opened(harness) as cells:
        left = cells.run("x = 1; print('bye'); exit(3)")
        assert (left.exit_code, left.stdout.text) == (3, "bye\n")
        assert (facts(left).interpreter_restarted, facts(left).claimed) == (True, False)
        assert cells.shown("print('x' in globals())") == "False\n"


def test_a_program_that_is_killed_is_reported_with_its_signal(harness: Harness) -> None:
    with opened(harness) as cells:
        killed = cells.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        assert (killed.status, killed.signal, facts(killed).interpreter_restarted) == (
            Status.SIGNALLED,
            "SIGSEGV",
            True,
        )
        assert cells.shown("print(1)") == "1\n"


def test_memory_beyond_the_limit_ends_the_interpreter_and_not_the_session(harness: Harness) -> None:
    with opened(harness, memory_bytes=128 * 2**20) as cells:
        cells.run("open('kept.txt', 'w').write('x')")
        greedy = cells.run("a = bytearray(300 * 2**20)", limits={"memory_bytes": 128 * 2**20})
        assert greedy.status in (Status.MEMORY_EXCEEDED, Status.FAILED), greedy  # or MemoryError, by RLIMIT_DATA
        assert cells.shown("print(open('kept.txt').read())") == "x\n"


def test_cpu_time_beyond_the_limit_ends_the_interpreter(harness: Harness) -> None:
    with opened(harness) as cells:
        hungry = cells.run(_FOR_EVER, limits={"cpu_seconds": 1})
        assert (hungry.status, hungry.ending.stop) == (Status.TIMED_OUT, Stop.CPU_TIME)
        assert cells.shown("print(1)") == "1\n"


def test_a_cell_that_floods_is_interrupted(harness: Harness) -> None:
    with opened(harness) as cells:
        flood = cells.run("while True: print('x' * 10_000)")
        assert flood.status is Status.OUTPUT_EXCEEDED
        assert cells.shown("print(1)") == "1\n"


def test_nothing_runs_between_cells_and_what_a_thread_prints_stays_with_the_cell_that_runs(harness: Harness) -> None:
    thread = """
import threading, time
seen = []
def work():
    while True:
        seen.append(time.monotonic()); print("tick", flush=True); time.sleep(0.01)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
"""
    with opened(harness) as cells:
        first = cells.run(thread)
        assert "tick" in first.stdout.text
        cells.harness.wait(asyncio.sleep(0.5))
        second = cells.run("time.sleep(0.05)")
        assert 0 < second.stdout.text.count("tick") < 30, "half a second would be 50"
        counted = cells.run("import sys; sys.stderr.write(str(len(seen)))")
        printed = sum(outcome.stdout.text.count("tick") for outcome in (first, second, counted))
        assert printed >= int(counted.stderr.text) - 1, "every line is in the cell during which it was printed"


def test_a_process_that_a_cell_leaves_goes_on_with_the_next_and_ends_with_the_session(harness: Harness) -> None:
    mark = f"sleep 98{os.getpid() % 1000:03}"
    with opened(harness) as cells:
        cells.run(f"import subprocess; child = subprocess.Popen({mark!r}.split())")
        assert cells.shown("print(child.poll())") == "None\n"
        assert processes_with("\0".join(mark.split()))
    assert not processes_with("\0".join(mark.split()))


def test_a_cell_that_is_cancelled_is_interrupted(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("x = 1")

        async def cancel(run: Run) -> None:
            run.cancel()

        outcome = cells.while_running(lambda: cells.submit("import time; time.sleep(60)"), cancel)
        assert (outcome.status, outcome.exit_code, outcome.signal) == (Status.CANCELLED, 130, None)
        assert (facts(outcome).execution_count, facts(outcome).interpreter_restarted) == (2, False)
        assert "KeyboardInterrupt" in outcome.stderr.text
        assert cells.shown("print(x)") == "1\n"


def test_a_caller_that_is_gone_while_an_interpreter_starts_leaves_the_session_well(harness: Harness) -> None:
    with opened(harness) as cells:

        async def give_up() -> None:
            sandbox = cells.session._sandbox
            asked = asyncio.create_task(sandbox.prepare(harness.languages.find("python")))
            await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

        harness.wait(give_up())
        assert cells.shown("print('well')") == "well\n"


def test_an_interrupt_ends_the_cell_that_runs(harness: Harness) -> None:
    with opened(harness) as cells:
        assert not cells.session.interrupt()

        async def interrupt(run: Run) -> None:
            async for event in run.events():
                if isinstance(event.fact, Output):
                    break
            assert cells.session.interrupt()

        outcome = cells.while_running(
            lambda: cells.submit("import time; print('begun', flush=True); time.sleep(60)"), interrupt
        )
        assert (outcome.status, outcome.exit_code) == (Status.FAILED, 130)
        assert "KeyboardInterrupt" in outcome.stderr.text
        assert facts(outcome).interrupted
        assert not facts(cells.run("1")).interrupted


def test_cells_run_one_at_a_time(harness: Harness) -> None:
    with opened(harness) as cells:

        async def play() -> list[str]:
            first = cells.submit("import time; time.sleep(0.4); order = ['first']")
            await first.admitted()
            with pytest.raises(SessionBusy):
                await cells.submit("order.append('rejected')", wait=False).outcome()
            with pytest.raises(SessionBusy):
                await cells.submit("order.append('late')", limits={"wall_seconds": 0.05}).outcome()
            second = cells.submit("order.append('second'); print(order)")
            return [(await run.outcome()).stdout.text for run in (first, second)]

        assert harness.wait(play()) == ["", "['first', 'second']\n"]


def test_a_session_that_was_closed_takes_nothing_more(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("x = 1")
    with pytest.raises(SessionEnded, match="the test is over"):
        cells.run("x")


def test_a_cell_that_runs_when_its_session_is_closed_is_cancelled(harness: Harness) -> None:
    with opened(harness) as cells:

        async def close(run: Run) -> None:
            await cells.session.close("it was closed in the middle")

        outcome = cells.while_running(lambda: cells.submit("import time; time.sleep(60)"), close)
        assert outcome.status is Status.CANCELLED
        assert facts(outcome).session_lost


def test_languages_share_files_and_not_variables(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("open('note.txt', 'w').write('from python')")
        assert cells.shown("name=bash; cat note.txt", "bash") == "from python"
        assert cells.shown("echo $name", "bash") == "bash\n"
        read = "const fs = require('fs'); console.log(fs.readFileSync('note.txt', 'utf8'))"
        assert cells.shown(read, "javascript") == "from python\n"
        assert facts(cells.run("1 + 1", "javascript")).result["text/plain"] == "2"
        assert facts(cells.run("let n: number = 4; n", "typescript")).result["text/plain"] == "4"
        assert cells.shown("print('name' in globals())") == "False\n"


def test_the_end_of_one_interpreter_leaves_the_others(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("x = 1")
        cells.run("y=2", "bash")
        assert facts(cells.run("exit 4", "bash")).interpreter_restarted
        assert cells.shown("print(x)") == "1\n"
        cells.run(_DEAF, limits={"wall_seconds": 1})
        assert cells.shown("echo alive", "bash") == "alive\n"


def test_a_session_whose_sandbox_dies_has_ended(harness: Harness) -> None:
    if not harness.name.startswith("embedded"):
        pytest.skip("which process it is is for the backend to know")
    with opened(harness) as cells:

        async def kill(run: Run) -> None:
            signal.pidfd_send_signal(cells.session._sandbox._slot.pidfd, signal.SIGKILL)

        with pytest.raises(SandboxFault):
            cells.while_running(lambda: cells.submit("import time; time.sleep(60)"), kill)
        harness.wait(until(lambda: cells.session.end is not None))
        with pytest.raises(SessionEnded, match="its sandbox was lost"):
            cells.run("x")


def test_sessions_leave_no_descriptor(harness: Harness) -> None:
    def play() -> int:
        with opened(harness) as cells:
            cells.run("x = 1")
            cells.run("y=1", "bash")
        return len(os.listdir("/proc/self/fd"))

    before = play()
    assert max(play() for _ in range(3)) <= before  # a client of an engine may close a connection that it kept


def test_an_interpreter_that_was_begun_at_the_opening_serves_the_first_cell(harness: Harness) -> None:
    with opened(harness, begin=("python",)) as cells:
        harness.wait(until(lambda: "python" in cells.session.interpreters))
        first = cells.run("1")
        assert (facts(first).result, facts(first).interpreter_restarted) == ({"text/plain": "1"}, False)
        cells.run("exit()")
        assert "python" not in cells.session.interpreters
