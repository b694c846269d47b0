"""Sessions in containers of a real engine: what the suite for every backend cannot know of them."""

import asyncio
import contextlib
from typing import Any

import pytest

from codex_server.errors import SandboxFault, SandboxUnavailable, SessionEnded
from codex_server.execution.run import Run
from codex_server.model import Status, Terminal
from codex_server.sandboxes.docker.container import INSTANCE_LABEL
from codex_server.sandboxes.stdin import StandardInput
from tests.contract.harness import Harness
from tests.contract.sessions import Cells, facts, opened, until

pytestmark = [
    pytest.mark.tier("change"),
    pytest.mark.parametrize("harness", [pytest.param("docker", marks=pytest.mark.tier("change"))], indirect=True),
]


def session_of(cells: Cells) -> Any:
    """The backend's own object of a session."""
    return cells.session._sandbox


def living(harness: Harness) -> set[str]:
    """The containers of this server."""
    backend: Any = harness.backend
    labels = [f"{INSTANCE_LABEL}={backend._ownership.instance}"]
    return {name for name, _ in harness.wait(backend._engine.containers(labels))}


def test_a_session_is_one_container_which_goes_with_it(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("x = 1")
        container = session_of(cells)._container.id
        assert container in living(harness)
    assert container not in living(harness)


def test_each_language_has_its_interpreter_in_the_one_container(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("open('note.txt', 'w').write('from python') and None")
        script = "const text = require('fs').readFileSync('note.txt', 'utf8'); console.log(text)"
        assert cells.shown(script, "javascript") == "from python\n"
        assert facts(cells.run("text.length", "javascript")).result["text/plain"] == "11"
        assert cells.run("select 40 + 2 as n", "sql").status is Status.SUCCEEDED


def test_a_language_without_an_interpreter_for_sessions_is_refused(harness: Harness) -> None:
    with opened(harness) as cells:
        with pytest.raises(SandboxUnavailable, match="no interpreter for sessions; run it with POST /execute"):
            cells.run("print 1", "perl")
        assert cells.shown("print(2)") == "2\n"


def test_operations_on_files_run_in_the_container_and_their_content_is_not_a_cells_output(harness: Harness) -> None:
    with opened(harness, files={"a.bin": bytes(300_000)}) as cells:
        given = StandardInput(keep_open=True)
        received: list[bytes] = []

        def take(chunk: bytes) -> bool:
            received.append(chunk)
            return True

        async def write_and_read() -> tuple[Any, Any]:
            sandbox = session_of(cells)
            writing = asyncio.ensure_future(
                sandbox.operate({"operation": "write", "path": "b.bin", "most": 2**20}, given, take)
            )
            await given.feed(b"z" * 200_000)
            given.close()
            return await writing, await sandbox.operate({"operation": "read", "path": "b.bin"}, StandardInput(), take)

        replies = harness.wait(write_and_read())
        assert b"".join(received) == b"z" * 200_000, replies
        assert cells.shown("import os; print(os.path.getsize('b.bin'))") == "200000\n"


def test_a_container_that_is_killed_ends_its_session(harness: Harness) -> None:
    with opened(harness) as cells:

        async def kill(run: Run) -> None:
            sandbox = session_of(cells)
            await sandbox._engine.kill(sandbox._container.id)

        with pytest.raises(SandboxFault):
            cells.while_running(lambda: cells.submit("import time; time.sleep(60)"), kill)
        harness.wait(until(lambda: cells.session.end is not None))
        with pytest.raises(SessionEnded, match="its sandbox was lost"):
            cells.run("x")


def test_a_container_whose_server_is_gone_ends_by_itself(harness: Harness) -> None:
    with opened(harness) as cells:
        cells.run("import subprocess; subprocess.Popen(['sleep', '1000'])")
        sandbox = session_of(cells)
        sandbox._attachment.close()  # as the kernel does for a server that was killed

        async def ended() -> None:
            while (await sandbox._engine.end_state(sandbox._container.id)).running:
                await asyncio.sleep(0.05)

        harness.wait(asyncio.wait_for(ended(), 30))


def test_a_shell_runs_at_a_terminal_in_the_container(harness: Harness) -> None:
    seen = bytearray()

    def show(chunk: bytes) -> bool:
        seen.extend(chunk)
        return True

    async def typed(shell: Any, keys: bytes) -> Any:
        await shell.type(keys)
        return await asyncio.wait_for(shell.wait_for_prompt(), 30)

    async def interrupted(shell: Any) -> Any:
        while True:  # Ctrl-C that comes before `sleep` has begun is lost, as at any terminal
            await shell.type(b"\x03")
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(shell.wait_for_prompt(), 3)

    with opened(harness, files={"note.txt": b"here"}) as cells:
        shell = harness.wait(session_of(cells).open_shell("main", Terminal(24, 80), show))
        prompt = harness.wait(typed(shell, b"cat note.txt; cd /tmp; x=41; tty; false\r"))
        assert (prompt.exit_code, prompt.folder) == (1, "/tmp"), bytes(seen)
        assert b"here" in seen and b"/dev/pts/" in seen
        shell.resize(30, 90)
        assert harness.wait(typed(shell, b"stty size; echo $((x + 1))\r")).exit_code == 0
        assert b"30 90\r\n42\r\n" in seen
        assert cells.shown("print('a cell')") == "a cell\n"
        harness.wait(shell.type(b"sleep 1000\r"))
        assert harness.wait(interrupted(shell)).exit_code == 130
        assert harness.wait(typed(shell, b"exit\r")) is None
        assert harness.wait(session_of(cells).open_shell("main", Terminal(24, 80), show)).running is False
