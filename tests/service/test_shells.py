"""``service/shells.py`` before a fake shell: what is typed, what is waited for, what each caller is shown."""

import asyncio

import pytest

from codex_server.errors import InputRefused, InvalidRequest, SessionEnded, UnknownShell
from codex_server.execution.session import Session
from codex_server.limits import Limits
from codex_server.sandboxes.session import SessionPlan
from codex_server.sandboxes.testing.fake_session import FakeSession
from codex_server.service import shells as module
from codex_server.service.shell_schemas import ShellRequest
from codex_server.service.shells import MOST_SHELLS, Shells

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Desk:
    """A session with shells, and the events that its commands wait for."""

    def __init__(self):
        self.events = {}
        self.sandbox = FakeSession(SessionPlan("ses_1", Limits()), self.event, [])
        self.session = Session(self.sandbox.plan, self.sandbox)
        self.shells = Shells(self.session)

    def event(self, name):
        return self.events.setdefault(name, asyncio.Event())

    async def call(self, name="main", **fields):
        return await self.shells.call(name, ShellRequest(**fields))

    def begin(self, name="main", **fields):
        return asyncio.ensure_future(self.call(name, **fields))

    async def until_typed(self, text, name="main"):
        while name not in self.sandbox.shells or text not in self.sandbox.shells[name].typed:
            await asyncio.sleep(0)


@pytest.fixture
async def desk():
    desk = Desk()
    yield desk
    desk.shells.abandon()
    await desk.session.close("the test is over")


async def test_each_call_returns_what_is_new_and_how_the_last_command_ended(desk):
    first = await desk.call(command="print hello")
    assert first.output == "$ print hello\nhello\n$"
    assert (first.running, first.running_for_seconds, first.exit_code, first.ended) == (False, None, 0, False)
    second = await desk.call(command="fail 3")
    assert (second.output, second.exit_code) == ("fail 3\n$", 3)
    assert (await desk.call(command="cd /usr")).cwd == "/usr"
    last = await desk.call()
    assert (last.output, last.exit_code, last.cwd, last.next) == ("", 0, "/usr", second.next + len("cd /usr\r\n$ "))


async def test_before_the_first_command_there_is_no_exit_code(desk):
    opened = await desk.call()
    assert (opened.output, opened.exit_code, opened.cwd, opened.running) == ("$", None, "/workspace", False)


async def test_a_command_that_goes_on_is_running_until_its_prompt(desk):
    begun = await desk.call(command="wait go", wait_seconds=0)
    assert (begun.running, begun.exit_code) == (True, None)
    assert begun.running_for_seconds >= 0
    assert desk.shells.running
    assert [each.running for each in desk.shells.entries()] == [True]
    waiting = desk.begin(wait_seconds=30)
    desk.event("go").set()
    assert (await waiting).exit_code == 0
    assert not desk.shells.running


async def test_a_reader_who_waits_holds_up_nobody_who_types(desk):
    await desk.call(command="wait go", wait_seconds=0)
    reader = desk.begin(wait_seconds=60)
    interrupted = await desk.call(keys=["Ctrl-C"], wait_seconds=30)
    assert (interrupted.exit_code, "^C" in interrupted.output) == (130, True)
    assert (await reader).running is False


async def test_keys_are_answered_once_nothing_more_appears(desk, monkeypatch):
    monkeypatch.setitem(module._QUIET_SECONDS, "text", 0.01)
    typed = await desk.call(text="pri", wait_seconds=60)
    assert (typed.output, typed.running) == ("$ pri", True)
    assert (await desk.call(text="nt x\r", wait_seconds=60)).output.startswith("nt x\nx\n")


async def test_a_second_reader_follows_everything_and_takes_nothing(desk):
    await desk.call(command="print one")
    follower = await desk.call(form="raw", since=0)
    assert follower.output == "$ print one\r\none\r\n$ "
    following = desk.begin(form="raw", since=follower.next, wait_seconds=60)
    typed = await desk.call(command="print two")
    assert typed.output == "print two\ntwo\n$"
    seen = await following
    assert "print two\r\ntwo\r\n$ ".startswith(seen.output)
    assert seen.next == follower.next + len(seen.output)


async def test_a_follower_of_a_shell_where_nothing_happens_waits(desk):
    opened = await desk.call(form="raw", since=0)
    nothing = await desk.call(form="raw", since=opened.next, wait_seconds=0.01)
    assert (nothing.output, nothing.next) == ("", opened.next)


async def test_a_shell_that_ended_is_started_anew(desk):
    ended = await desk.call(command="exit")
    assert (ended.ended, ended.exit_code, ended.running) == (True, None, False)
    assert desk.shells.entries() == []
    assert (await desk.call(command="print again")).output == "$ print again\nagain\n$"


async def test_what_a_shell_showed_last_comes_first_in_the_next_one(desk):
    await desk.call(command="wait go", wait_seconds=0)
    await desk.call(text="exit\r", wait_seconds=0)
    while desk.shells.running:
        await asyncio.sleep(0)
    assert desk.shells.entries() == []
    desk.event("go").set()
    later = await desk.call(command="print new")
    assert (later.ended, later.output.endswith("print new\nnew\n$")) == (False, True)


async def test_a_reader_learns_that_a_shell_has_ended_meanwhile(desk):
    await desk.call()
    await desk.call(text="exit\r", wait_seconds=0)
    assert (await desk.call()).ended


async def test_the_size_of_the_window_is_that_of_the_last_request(desk):
    assert "30 100" in (await desk.call(command="size", resize={"rows": 30, "columns": 100})).output
    assert "30 100" in (await desk.call(command="size")).output
    assert "40 90" in (await desk.call(command="size", resize={"rows": 40, "columns": 90})).output


async def test_there_are_so_many_shells_and_not_more(desk):
    for number in range(MOST_SHELLS):
        await desk.call(f"shell-{number}")
    with pytest.raises(InvalidRequest, match="8 shells"):
        await desk.call("one-more")
    await desk.call("shell-3", text="exit\r", wait_seconds=0)
    assert (await desk.call("one-more")).output == "$"
    await desk.shells.close("shell-4")
    assert (await desk.call("another")).output == "$"
    assert {each.name for each in desk.shells.entries()} == {
        *(f"shell-{number}" for number in range(MOST_SHELLS) if number not in (3, 4)), "one-more", "another"
    }  # fmt: skip


async def test_a_closed_shell_is_gone_and_whoever_waited_learns_it(desk):
    waiting = desk.begin(command="wait go", wait_seconds=60)
    await desk.until_typed(b"\r")
    await desk.shells.close("main")
    closed = await waiting
    assert (closed.ended, closed.exit_code) == (True, None)
    assert desk.sandbox.shells["main"].closed
    with pytest.raises(UnknownShell, match="no shell 'main'"):
        await desk.shells.close("main")


async def test_whoever_waits_learns_that_the_session_was_closed(desk):
    waiting = desk.begin(command="wait go", wait_seconds=60)
    await desk.until_typed(b"\r")
    desk.shells.abandon()
    await desk.session.close("it was closed by its caller")
    with pytest.raises(SessionEnded, match="closed by its caller"):
        await waiting
    with pytest.raises(SessionEnded):
        await desk.call()


async def test_when_the_server_stops_whoever_waits_has_what_is_new_at_once(desk):
    waiting = desk.begin(command="wait go", wait_seconds=60)
    await desk.until_typed(b"\r")
    following = desk.begin(form="raw", since=2**53, wait_seconds=60)
    desk.shells.end_waits()
    ended = await waiting
    assert (ended.output, ended.running, ended.exit_code) == ("$ wait go\n", True, None)
    assert (await following).running
    assert (await desk.call(wait_seconds=60)).running


async def test_a_session_is_in_use_while_its_shell_is_called(desk):
    before = desk.session.last_used
    waiting = desk.begin(command="wait go", wait_seconds=60)
    await desk.until_typed(b"\r")
    assert desk.session.busy
    desk.event("go").set()
    await waiting
    assert not desk.session.busy
    assert desk.session.last_used > before


async def test_a_shell_that_does_not_read_says_so(desk, monkeypatch):
    await desk.call()

    async def refuse(data):
        raise InputRefused("1048576 bytes wait")

    monkeypatch.setattr(desk.sandbox.shells["main"], "type", refuse)
    with pytest.raises(InputRefused, match="bytes wait"):
        await desk.call(command="print x")
    assert (await desk.call()).running is False
