"""SIGTERM under load: whoever was accepted is answered, whoever comes later is refused, and nothing is left."""

import asyncio
import signal

import httpx2
import pytest

from tests.faults.running_server import ECHOES, Heard, running_server

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

CLIENTS = 16


async def test_under_load_every_accepted_request_is_answered_and_the_exit_code_is_0(level: str):
    async with running_server(level) as here:
        heard: list[Heard] = []
        draining = asyncio.Event()

        async def client(language: str) -> None:
            """Ask again and again, until told that the server is stopping."""
            while True:
                try:
                    answer = await here.echo(language, pause=0.1)
                except httpx2.ConnectError:
                    return  # refused before anything was accepted: it listens no more
                heard.append(answer)
                if not answer.right:
                    return
                if len(heard) >= 2 * CLIENTS:
                    draining.set()

        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(client(sorted(ECHOES)[number % len(ECHOES)]))
            await draining.wait()
            code = await here.stop(signal.SIGTERM)

        assert code == 0
        assert {answer.problem for answer in heard if not answer.right} <= {"draining"}
        assert all(answer.answer.headers["connection"] == "close" for answer in heard if not answer.right)
        assert sum(answer.right for answer in heard) >= 2 * CLIENTS
        assert here.defects() == []


async def test_what_waits_for_a_place_when_the_signal_comes_is_run_too(level: str):
    async with running_server(level, CODEX_MAX_CONCURRENCY="1") as here:
        # The first holds the place until the others have come, on a busy machine too.
        asking = [asyncio.ensure_future(here.echo("python", pause=4.0))]
        await here.busy("running", 1)
        asking += [asyncio.ensure_future(here.echo("python")) for _ in range(5)]
        await here.busy("queued", 5)
        code = await here.stop(signal.SIGTERM)
        answers = await asyncio.gather(*asking)
        assert [heard.right for heard in answers] == [True] * 6
        assert [heard.answer.headers["connection"] for heard in answers] == ["close"] * 6
        assert code == 0
