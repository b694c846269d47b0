"""A guest in a terminal reaches that one alone, takes few, types into none, and leaves none."""

import pytest

from codex_server.model import Stdio, Terminal

pytestmark = [pytest.mark.levels("full", "namespaces")]
TERMINAL = Stdio(terminal=Terminal(rows=24, columns=80))
LOOK = """
    tell([sorted(os.listdir("/dev/pts")), [os.isatty(n) for n in range(3)], attempt(open, "/dev/tty", "w")])
"""


def test_a_guest_finds_no_terminal_but_its_own(harness):
    assert harness.python(LOOK, stdio=TERMINAL).told == [["0", "ptmx"], [True] * 3, "done"]
    seen = harness.together(
        "input(); print(os.ttyname(0))", "input(); print(os.ttyname(0))", stdio=TERMINAL, stdin=b"\n"
    )
    assert [each.stdout for each in seen] == ["\r\n/dev/pts/0\r\n"] * 2


@pytest.mark.embedded
def test_nothing_of_a_terminal_is_there_for_the_next_guest(harness):
    before = harness.python(LOOK).told
    assert before == [[], [False] * 3, "ENXIO"]
    harness.python("kept = os.openpty(); print(os.ttyname(kept[1]), flush=True); os._exit(0)", stdio=TERMINAL)
    with_terminal = harness.last_slot
    assert harness.python(LOOK).told == before
    assert harness.last_slot is not with_terminal


def test_a_guest_without_a_terminal_has_none_to_take(harness):
    assert harness.python("tell(attempt(open, '/dev/tty'))").told == "ENXIO"


@pytest.mark.embedded
def test_a_guest_takes_few_terminals(harness):
    seen = harness.python(
        """
        taken = 0
        while attempt(os.openpty) == "done": taken += 1
        tell([taken, attempt(os.openpty)])
        """,
        stdio=TERMINAL,
    )
    assert seen.told == [15, "ENOSPC"]


def test_a_guest_types_into_no_terminal_and_changes_nothing_about_what_it_is(harness):
    seen = harness.python(
        """
        import fcntl
        requests = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "TIOCCONS": 0x541D, "TIOCSETD": 0x5423, "TIOCEXCL": 0x540C}
        tell({name: attempt(fcntl.ioctl, 0, number, b"x") for name, number in requests.items()})
        """,
        stdio=TERMINAL,
    )
    assert set(seen.told.values()) <= {"EPERM", "ENOTTY"}
    assert seen.told["TIOCSTI"] == "EPERM"


def test_ends_that_a_guest_keeps_open_do_not_keep_its_execution(harness):
    seen = harness.python(
        """
        import subprocess
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print("over", flush=True)
        os._exit(0)
        """,
        stdio=TERMINAL,
    )
    assert (seen.stdout, seen.ending.exit_code) == ("over\r\n", 0)
