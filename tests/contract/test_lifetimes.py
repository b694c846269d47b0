"""What no single program can show: that it leaves nothing, inherits nothing, and dies when nobody waits for it."""

import asyncio

import pytest

from codex_server.execution.events import EventReader, Output
from codex_server.model import Execution, Outcome, Status
from tests.contract.harness import Harness, processes_with
from tests.levels import out_of_reach
from tests.waiting import until

_PATIENCE_SECONDS = 20.0
_RANDOM = {
    "python": """
import os, random, secrets, tempfile, uuid
print(random.random(), uuid.uuid4(), os.urandom(8).hex(), secrets.token_hex(8), tempfile.mktemp())
""",
    "javascript": "console.log(Math.random(), crypto.randomUUID(), require('crypto').randomBytes(8).toString('hex'))",
    "bash": "echo $RANDOM$RANDOM$RANDOM $(mktemp -u)",
}
_HOMES = {"python": "import os; print(os.getcwd())", "javascript": "console.log(process.cwd())", "bash": "pwd"}
_SLEEPER = (
    "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', {mark!r}])\n"
)


async def begun(mark: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not processes_with(mark):
            await asyncio.sleep(0.01)


def mark_of(execution: Execution) -> str:
    return f"mark-of-{execution.id}"


def long_execution(harness: Harness, ending: str = "time.sleep(300)") -> Execution:
    """A program that starts a child which bears its mark, and waits."""
    empty = harness.execution("python", "")
    code = _SLEEPER.format(mark=mark_of(empty)) + "print('begun', flush=True)\n" + ending
    return Execution(empty.id, "python", code, empty.limits)


def test_a_cancelled_caller_takes_the_whole_tree_along(harness: Harness) -> None:
    execution = long_execution(harness)

    async def leave() -> None:
        task = asyncio.create_task(harness.executor.execute(execution))
        await begun(mark_of(execution))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    harness.wait(leave())
    assert until(lambda: not processes_with(mark_of(execution)), _PATIENCE_SECONDS)
    assert harness.run("python", "print('next')").stdout.text == "next\n"


def test_a_drain_ends_what_is_left_and_tells_its_output(harness: Harness) -> None:
    execution = long_execution(harness)

    async def drain() -> Outcome:
        executor = harness.new_executor()
        await executor.start()
        task = asyncio.create_task(executor.execute(execution))
        await begun(mark_of(execution))
        await executor.drain(1.0)
        outcome = await task
        await executor.close()
        return outcome

    outcome = harness.wait(drain())
    assert (outcome.status, outcome.exit_code, outcome.signal) == (Status.CANCELLED, 137, "SIGKILL")
    assert outcome.stdout.text == "begun\n"
    assert until(lambda: not processes_with(mark_of(execution)), _PATIENCE_SECONDS)


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "import os; os._exit(0)", "import os; os.abort()"])
def test_children_do_not_outlive_the_program(harness: Harness, ending: str) -> None:
    execution = long_execution(harness, ending)
    outcome = harness.wait(harness.executor.execute(execution))
    assert outcome.stdout.text == "begun\n"
    assert until(lambda: not processes_with(mark_of(execution)), _PATIENCE_SECONDS)


def test_a_daemon_that_left_its_session_is_dead_when_the_answer_is_given(harness: Harness) -> None:
    execution = harness.execution("bash", "")
    mark = mark_of(execution)
    code = (
        f"(setsid setsid bash -c 'trap \"\" HUP TERM INT; while :; do sleep 300; done' {mark} <&- >&- 2>&- &) ; echo ok"
    )
    outcome = harness.wait(harness.executor.execute(Execution(execution.id, "bash", code, execution.limits)))
    assert (outcome.status, outcome.stdout.text) == (Status.SUCCEEDED, "ok\n")
    assert until(lambda: not processes_with(mark), _PATIENCE_SECONDS)


def test_a_child_that_keeps_the_output_open_does_not_hold_the_answer_up(harness: Harness) -> None:
    outcome = harness.run("bash", "sleep 300 & echo done")
    assert (outcome.status, outcome.stdout.text) == (Status.SUCCEEDED, "done\n")
    assert outcome.ending.wall_seconds < 15


@pytest.mark.parametrize("language", sorted(_RANDOM))
def test_no_two_runs_share_their_luck(harness: Harness, language: str) -> None:
    values = [harness.run(language, _RANDOM[language]).stdout.text.split() for _ in range(4)]
    for column in zip(*values, strict=True):
        assert len(set(column)) == len(column), values


def test_nothing_of_a_run_is_seen_by_the_next(harness: Harness) -> None:
    soil = """
import builtins, json, os, sys, tempfile
builtins.left = json.left = "left"
os.environ["LEFT"] = "left"
sys.modules["left"] = sys
json.dumps = None
for folder in (".", tempfile.gettempdir()):
    open(os.path.join(folder, "left"), "w").close()
os.chdir("/")
"""
    look = """
import builtins, json, os, sys, tempfile
print(hasattr(builtins, "left"), hasattr(json, "left"), "LEFT" in os.environ, "left" in sys.modules)
print(json.dumps([1]), os.listdir("."), "left" in os.listdir(tempfile.gettempdir()))
"""
    for _ in range(3):  # whatever is armed already, and what is armed later
        assert harness.run("python", soil).status is Status.SUCCEEDED
        outcome = harness.run("python", look)
        assert outcome.stdout.text == "False False False False\n[1] ['main.py'] False\n", outcome.stderr.text


@pytest.mark.parametrize("language", ["python", "javascript", "bash"])
def test_the_environment_has_nothing_of_the_server_s(harness: Harness, language: str) -> None:
    tell = {
        "python": "import os; print('\\n'.join(os.environ))",
        "javascript": "console.log(Object.keys(process.env).join('\\n'))",
        "bash": "compgen -e",
    }
    names = set(harness.run(language, tell[language], env={"MINE": "1"}).stdout.text.split())
    assert "MINE" in names
    shell = {"PWD", "SHLVL", "OLDPWD", "_"}
    ours = {"HOME", "LANG", "LOGNAME", "PATH", "PYTHONDONTWRITEBYTECODE", "SHELL", "TERM", "TMPDIR", "USER"}
    assert names - shell <= {"MINE", *ours}, names


def test_a_javascript_program_that_exits_at_once_has_written_all(harness: Harness) -> None:
    outcome = harness.run("javascript", "console.log('x'.repeat(300_000)); process.exit(3)")
    assert (outcome.exit_code, outcome.stdout.total_bytes) == (3, 300_001)


@pytest.mark.parametrize("language", ["python", "javascript", "bash", "perl"])
def test_the_interpreter_is_the_one_that_was_promised(harness: Harness, language: str) -> None:
    """Its shared library too: a program that is found with another one's library is neither."""
    if not any(known.name == language and known.available for known in harness.languages):
        out_of_reach("languages", f"{language} is not on this machine")
    tell = {
        "python": "import platform; print(platform.python_version())",
        "javascript": "console.log(process.versions.node)",
        "bash": 'echo "$BASH_VERSION"',
        "perl": 'printf "%vd\\n", $^V;',
    }
    assert harness.run(language, tell[language]).stdout.text.startswith(f"{harness.languages.find(language).version}")


@pytest.mark.parametrize("language", sorted(_HOMES))
def test_the_program_stands_in_a_workspace_without_a_name_of_the_host(harness: Harness, language: str) -> None:
    folders = {harness.run(language, _HOMES[language]).stdout.text.strip() for _ in range(3)}
    if harness.name != "embedded-confined":
        assert folders == {"/workspace"}


@pytest.mark.parametrize("harness", ["embedded-namespaces", "embedded-confined"], indirect=True)
def test_without_cgroups_one_greedy_process_is_killed_or_told_that_there_is_no_more(harness: Harness) -> None:
    code = "kept = [b'x' * 2**20 for _ in range(512)]"
    outcome = harness.run("python", code, limits={"memory_bytes": 96 * 2**20})
    if outcome.status is not Status.MEMORY_EXCEEDED:
        assert (outcome.status, outcome.exit_code) == (Status.FAILED, 1)
        assert "MemoryError" in outcome.stderr.text


def test_forty_executions_at_once_do_not_mix(harness: Harness) -> None:
    languages = {"python": "print({})", "javascript": "console.log({})", "bash": "echo {}"}

    async def all_of_them() -> list[Outcome]:
        runs = []
        for number in range(39):
            language = list(languages)[number % 3]
            execution = harness.execution(language, languages[language].format(number))
            runs.append(harness.executor.execute(execution))
        return list(await asyncio.gather(*runs))

    outcomes = harness.wait(all_of_them())
    assert [outcome.stdout.text for outcome in outcomes] == [f"{number}\n" for number in range(39)]


def test_each_level_says_what_it_is(harness: Harness) -> None:
    isolation = harness.backend.isolation
    if harness.name == "docker":
        assert (str(isolation.level), isolation.shortfall) == ("full", ())
    else:
        assert f"embedded-{isolation.level}" == harness.name
    if harness.name == "embedded-full":
        assert isolation.shortfall == ()
    harness.wait(_until_ready(harness))


async def _until_ready(harness: Harness) -> None:
    """The pools fill in the background: ready is what it becomes, not what it is at once."""
    async with asyncio.timeout(60):
        while harness.executor.not_ready():
            await asyncio.sleep(0.01)


_QUESTIONS = {
    "python": "for number in range(3):\n    print('got', input(f'{number}? '), flush=True)\nprint(repr(input()))\n",
    "javascript": (
        "const lines = require('readline').createInterface({ input: process.stdin })\n"
        "lines.on('line', line => console.log('got', line))\nlines.on('close', () => console.log('end'))\n"
    ),
    "bash": "while read -r line; do echo got $line; done; echo end",
    "fake": "read\nread\nread\nstdin\nprint end",
}


def test_a_program_is_sent_input_while_it_runs(harness: Harness) -> None:
    for language in ["fake"] if harness.name == "fake" else ["python", "javascript", "bash"]:
        assert_it_is_sent_input(harness, language)


def assert_it_is_sent_input(harness: Harness, language: str) -> None:
    execution = harness.execution(language, _QUESTIONS[language], keep_stdin_open=True)

    async def converse() -> Outcome:
        run = harness.executor.submit(execution)
        events = run.events()
        for answer in ("one", "two", "three"):
            run.write(f"{answer}\n".encode())
            await _printed(events, answer)
        run.stdin.close()
        return await run.outcome()

    outcome = harness.wait(converse())
    last = "EOFError" if language == "python" else "end"
    assert last in outcome.stderr.text + outcome.stdout.text
    assert outcome.status is (Status.FAILED if language == "python" else Status.SUCCEEDED)


async def _printed(events: EventReader, text: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        async for event in events:
            if isinstance(event.fact, Output) and text in event.fact.text:
                return
