"""Shells of a session in real sandboxes: what a person at a terminal expects, and what a hostile program cannot do."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codex_server.errors import InvalidRequest, SessionEnded
from codex_server.ids import new_id
from codex_server.service.screen import MOST_KEPT
from codex_server.service.shell_schemas import ShellRequest, ShellResponse
from codex_server.service.shells import Shells
from tests.contract.conftest import REAL
from tests.contract.harness import Harness, processes_with
from tests.contract.sessions import Cells, opened, until
from tests.contract.streams import WITH_DEVICES
from tests.tiers import in_tier, tier_of_level

_LEVELS = {harness: harness.removeprefix("embedded-") for harness in REAL}
_ROWS = [in_tier(tier_of_level(level), name) for name, level in _LEVELS.items() if level in WITH_DEVICES]
with_a_terminal = pytest.mark.parametrize("harness", _ROWS, indirect=True, scope="module")

_CURSES = """
import curses
def main(window):
    window.addstr(2, 4, "hello")
    window.refresh()
    key = window.getkey()
    window.addstr(3, 4, f"key {key}")
    window.refresh()
    window.getkey()
curses.wrapper(main)
"""
_FORGER = """
import os, socket
for number in range(3, 256):
    try:
        os.write(number, b"0 /forged" + bytes(1))
    except OSError:
        pass
print("tried")
"""


class Desk:
    """The shells of a session, and its cells."""

    def __init__(self, harness: Harness, cells: Cells) -> None:
        self.harness, self.cells = harness, cells
        self.shells = Shells(cells.session)

    def call(self, command: str | None = None, /, name: str = "main", **fields: Any) -> ShellResponse:
        return self.harness.wait(self._call(command, name, **fields))

    def interrupt(self) -> ShellResponse:
        """Press Ctrl-C until the shell prompts: one that comes before a program has begun is lost, as at a terminal."""
        while (ended := self.call(keys=["Ctrl-C"], wait_seconds=3)).running:
            pass
        return ended

    async def _call(self, command: str | None, name: str, **fields: Any) -> ShellResponse:
        given = fields if command is None else {"command": command, **fields}
        return await self.shells.call(name, ShellRequest(**{"wait_seconds": 30, **given}))

    def until_shown(self, wanted: str, /, name: str = "main", **fields: Any) -> str:
        """All that appears until ``wanted`` has; typed first what ``fields`` say."""

        async def follow() -> str:
            shown = (await self._call(None, name, **fields)).output
            while wanted not in shown:
                shown += (await self._call(None, name, form=fields.get("form", "text"))).output
                await asyncio.sleep(0.01)
            return shown

        return self.harness.wait(follow())


@contextmanager
def at_a_shell(harness: Harness, **given: Any) -> Iterator[Desk]:
    with opened(harness, **given) as cells:
        desk = Desk(harness, cells)
        try:
            yield desk
        finally:
            harness.wait(_abandon(desk.shells))


async def _abandon(shells: Shells) -> None:
    shells.abandon()


@with_a_terminal
def test_folder_variables_and_exit_code_stay(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        went = desk.call("cd /usr && export X=5 && f() { echo f$X; }; false")
        assert (went.cwd, went.exit_code, went.running) == ("/usr", 1, False)
        assert desk.call("echo $? $X; f; pwd").output.endswith("\n1 5\nf5\n/usr\n/usr$")
        assert desk.call("(exit 7)").exit_code == 7
        assert desk.call().output == ""


@with_a_terminal
def test_it_is_a_terminal_of_the_size_that_was_asked_for(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        sized = desk.call("stty size; echo $TERM; test -t 0 && tty", resize={"rows": 30, "columns": 100})
        assert "30 100\nxterm-256color\n/dev/" in sized.output
        again = desk.call("stty size", resize={"rows": 40, "columns": 60})
        assert "40 60" in again.output


@with_a_terminal
def test_a_program_that_runs_is_followed_and_interrupted(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        begun = desk.call("echo begun; sleep 1000", wait_seconds=0.2)
        assert (begun.running, begun.exit_code) == (True, None)
        ended = desk.interrupt()
        assert (ended.running, ended.exit_code) == (False, 130)
        assert desk.call("echo ok").exit_code == 0


@with_a_terminal
def test_an_interpreter_is_driven_by_text_and_ended_by_ctrl_d(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        desk.until_shown(">>> ", text="python3 -i -q\r", form="raw")
        assert "\r\n42\r\n" in desk.until_shown("42\r\n", text="6 * 7\r", form="raw")
        desk.call(keys=["Ctrl-D"])
        ended = desk.call(wait_seconds=30)
        assert (ended.running, ended.exit_code) == (False, 0)


@with_a_terminal
def test_a_program_that_asks_is_answered(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        desk.until_shown("name:", text="read -p 'name: ' n; echo hello $n\r")
        assert "hello Zoë" in desk.until_shown("hello", text="Zoë\r")


@with_a_terminal
def test_a_program_takes_the_whole_screen_and_gives_it_back(harness: Harness) -> None:
    with at_a_shell(harness, files={"screen.py": _CURSES.encode()}) as desk:
        desk.until_shown("hello", text="python3 screen.py\r")
        drawn = desk.call(text="a", wait_seconds=1)
        while "key a" not in drawn.output:
            drawn = desk.call(wait_seconds=1)
        assert (drawn.full_screen, drawn.output) == (True, "\n\n    hello\n    key a")
        desk.call(text="b")
        after = desk.call("echo back")
        assert (after.full_screen, "hello" in after.output, after.exit_code) == (False, False, 0)


@with_a_terminal
def test_a_progress_bar_is_shown_as_it_ended(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        shown = desk.call("for i in 1 2 3; do printf '\\r%s0%%' $i; sleep 0.02; done; echo")
        assert shown.output.endswith("\n30%\n/workspace$")


@with_a_terminal
def test_jobs_go_on_while_something_runs(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        desk.call("sleep 1000 & sleep 0.1 & wait %2")
        for _ in range(10):
            (job,) = [line for line in desk.call("jobs").output.splitlines() if "sleep 1000" in line]
            assert "Running" in job
        assert desk.call("kill %1; wait; jobs").exit_code == 0


@with_a_terminal
def test_several_shells_and_a_cell_run_beside_one_another(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        desk.call("until [ -e go ]; do sleep 0.01; done; echo went", wait_seconds=0.1)
        assert desk.call("cd /tmp; echo other", name="other").output == "/workspace$ cd /tmp; echo other\nother\n~$"
        assert desk.cells.shown("open('seen', 'w').close(); print('cell')") == "cell\n"
        assert desk.call("ls /workspace", name="other").output.count("seen") == 1
        assert desk.call(wait_seconds=0).running
        desk.cells.run("open('go', 'w').close()")
        assert (desk.call().exit_code, desk.call("pwd").cwd) == (0, "/workspace")
        assert [each.name for each in desk.shells.entries()] == ["main", "other"]


@with_a_terminal
def test_a_flood_does_not_grow_the_server(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        flood = desk.call("head -c 10000000 /dev/zero | tr '\\0' x; echo; echo done", form="raw")
        assert (len(flood.output.encode()), flood.exit_code) == (MOST_KEPT, 0)
        assert flood.missed_bytes > 9_000_000
        assert "done" in flood.output[-100:]


@with_a_terminal
def test_a_shell_that_ends_is_started_anew(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        assert desk.call("X=1; exit 4").ended
        assert desk.call("echo [$X]").output.endswith("\n[]\n/workspace$")
        assert desk.call("exec sh -c 'echo replaced'").ended
        desk.call("exec sleep 0.05", wait_seconds=0)
        harness.wait(until(lambda: not desk.shells.running))
        assert desk.call("echo alive").output.endswith("\nalive\n/workspace$")


@with_a_terminal
def test_closing_a_shell_kills_what_runs_in_it_and_nothing_else(harness: Harness) -> None:
    mark = new_id("closed")
    with at_a_shell(harness) as desk:
        program = f"python3 -c 'import time; time.sleep(1000)' {mark}"
        desk.call(f"{program} & {program}", wait_seconds=0)
        harness.wait(until(lambda: len(processes_with(mark)) == 2))
        desk.call("Y=kept", name="other")
        assert desk.cells.shown("x = 1; print(x)") == "1\n"
        harness.wait(desk.shells.close("main"))
        harness.wait(until(lambda: processes_with(mark) == []))
        assert desk.call("echo $Y", name="other").output.endswith("\nkept\n/workspace$")
        assert desk.cells.shown("print(x)") == "1\n"
        assert desk.call("echo new").output.endswith("\nnew\n/workspace$")


@with_a_terminal
def test_a_session_that_is_closed_ends_a_call_that_waits(harness: Harness) -> None:
    with opened(harness) as cells:
        desk = Desk(harness, cells)
        desk.call("echo $$; sleep 1000", wait_seconds=0.2)

        async def close_meanwhile() -> None:
            waiting = asyncio.ensure_future(desk._call(None, "main", wait_seconds=60, form="raw"))
            await asyncio.sleep(0)
            await cells.session.close("it was closed by its caller")
            await waiting

        with pytest.raises(SessionEnded, match="closed by its caller"):
            harness.wait(close_meanwhile())


@with_a_terminal
def test_a_forged_prompt_deceives_its_own_shell_alone(harness: Harness) -> None:
    with at_a_shell(harness, files={"forge.py": _FORGER.encode()}) as desk:
        desk.call("echo other", name="other")
        forged = desk.call("python3 forge.py; sleep 1000")
        assert (forged.exit_code, forged.cwd) == (0, "/forged")
        assert desk.call("pwd", name="other").cwd == "/workspace"
        assert desk.cells.shown("print(1)") == "1\n"
        for _ in range(10):  # one that reaches Python as it ends is lost, as at any terminal
            desk.call(keys=["Ctrl-C"], wait_seconds=1)
            if (cwd := desk.call("pwd", wait_seconds=1).cwd) == "/workspace":
                break
        assert cwd == "/workspace"


@with_a_terminal
def test_a_shell_refuses_to_lose_its_prompt_and_goes_on(harness: Harness) -> None:
    with at_a_shell(harness) as desk:
        for attempt in ("PROMPT_COMMAND=date", "unset PROMPT_COMMAND", "__prompt() { :; }"):
            refused = desk.call(attempt, wait_seconds=2)
            assert (refused.running, refused.exit_code) == (False, 1)
            assert "readonly" in refused.output
        assert desk.call("(exit 7)").exit_code == 7


@with_a_terminal
def test_nothing_runs_while_every_shell_prompts(harness: Harness) -> None:
    mark = new_id("idle")
    with at_a_shell(harness) as desk:
        desk.call(f"python3 -c 'while True: pass' {mark} & sleep 0.3")
        pids = processes_with(mark)
        desk.call("echo again")
        before = [_ticks(pid) for pid in pids]
        harness.wait(asyncio.sleep(0.3))
        assert [_ticks(pid) for pid in pids] == before
        assert sum(before) > 0
    assert processes_with(mark) == []


def _ticks(pid: int) -> int:
    """CPU time that a process of this machine has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_where_programs_have_no_terminal_a_shell_is_refused(harness: Harness) -> None:
    if harness.name.removeprefix("embedded-") in WITH_DEVICES or harness.name == "docker":
        return
    with opened(harness) as cells, pytest.raises(InvalidRequest, match=r"`confined`.*no shells"):
        Desk(harness, cells).call("ls")
