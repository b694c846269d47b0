"""A program in a terminal that is written to while it runs; and where no program can have one."""

from collections.abc import Sequence

import pytest

from codex_server.errors import InvalidRequest
from codex_server.execution.events import Output
from codex_server.model import Outcome, Status, Stdio, Terminal
from tests.contract.conftest import REAL
from tests.contract.harness import Harness
from tests.contract.streams import WITH_DEVICES
from tests.tiers import in_tier, tier_of_level

CTRL_C = b"\x03"
_TERMINAL = Stdio(terminal=Terminal(rows=30, columns=100))
_LEVELS = {harness: harness.removeprefix("embedded-") for harness in REAL}
_ROWS = [in_tier(tier_of_level(level), name) for name, level in _LEVELS.items() if level in (*WITH_DEVICES, "docker")]

with_a_terminal = pytest.mark.parametrize("harness", _ROWS, indirect=True, scope="module")


def typed(harness: Harness, language: str, code: str, keys: Sequence[tuple[str, bytes | None]]) -> Outcome:
    """What comes of a program for which something is typed each time that it has printed a word; None is the end."""

    async def follow() -> Outcome:
        execution = harness.execution(language, code, keep_stdin_open=True, stdio=_TERMINAL)
        run = harness.executor.submit(execution)
        text, left = "", list(keys)
        async for event in run.events():
            text += event.fact.text if isinstance(event.fact, Output) else ""
            while left and left[0][0] in text:
                key = left.pop(0)[1]
                run.stdin.close() if key is None else run.write(key)
        outcome = await run.outcome()
        assert not left, outcome
        return outcome

    return harness.wait(follow())


@with_a_terminal
def test_a_prompt_is_shown_before_it_is_answered(harness: Harness) -> None:
    outcome = typed(harness, "python", "print('hello', input('name? '))", [("name? ", b"Ada\n")])
    assert outcome.stdout.text == "name? Ada\r\nhello Ada\r\n"
    outcome = typed(harness, "bash", "read -p 'name? ' name; echo hello $name; tput cols", [("name? ", b"Ada\n")])
    assert outcome.stdout.text == "name? Ada\r\nhello Ada\r\n100\r\n"


@with_a_terminal
def test_ctrl_c_interrupts_a_program(harness: Harness) -> None:
    code = """
import time
try:
    print("begun")
    time.sleep(60)
except KeyboardInterrupt:
    print(" interrupted")
"""
    outcome = typed(harness, "python", code, [("begun", CTRL_C)])
    assert (outcome.stdout.text, outcome.status) == ("begun\r\n^C interrupted\r\n", Status.SUCCEEDED)


@with_a_terminal
def test_a_program_that_does_not_catch_ctrl_c_ends_by_its_signal(harness: Harness) -> None:
    outcome = typed(harness, "bash", "echo begun; sleep 60", [("begun", CTRL_C)])
    assert (outcome.status, outcome.signal) == (Status.SIGNALLED, "SIGINT")


@with_a_terminal
def test_the_end_of_the_input_is_sent_while_a_program_runs(harness: Harness) -> None:
    code = "read one; echo first $one; read two || echo over"
    outcome = typed(harness, "bash", "echo begun; " + code, [("begun", b"typed\n"), ("first", None)])
    assert outcome.stdout.text == "begun\r\ntyped\r\nfirst typed\r\nover\r\n"


@with_a_terminal
def test_a_password_is_not_shown(harness: Harness) -> None:
    code = "import getpass; print(len(getpass.getpass('password: ')))"
    outcome = typed(harness, "python", code, [("password: ", b"secret\n")])
    assert outcome.stdout.text == "password: \r\n6\r\n"


@pytest.mark.parametrize("harness", [in_tier(tier_of_level("confined"), "embedded-confined")], indirect=True)
def test_a_terminal_is_refused_where_programs_have_no_devices_of_their_own(harness: Harness) -> None:
    with pytest.raises(InvalidRequest, match="leave `terminal` out") as refused:
        harness.executor.submit(harness.execution("python", "print(1)", stdio=_TERMINAL))
    assert refused.value.pointer == "/terminal"
