"""Whoever sends or prints much does not hold up the others: small answers come while a large one is under way.

What is counted is progress, not time: how many large executions end before so many small requests are answered.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.load.site import BEARER, Site, request_bytes, site

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

MIB = 2**20
LOOKS = 100
"""``GET /livez`` that are answered meanwhile."""
EXECUTIONS = 5
"""Small executions that are answered meanwhile."""
MOST_LARGE = LOOKS // 4
"""So many large ones may end meanwhile: each leaves room for four looks at the least, as a rule for dozens."""

LARGE: dict[str, dict[str, Any]] = {
    "stdin": {"code": "import sys; print(len(sys.stdin.read()))", "stdin": "x" * 15 * MIB},
    "code": {"code": "text = '" + "z" * (MIB - 100) + "'; print(len(text))"},
    "one file in": {
        "language": "bash",
        "code": "wc -c < large",
        "files": [{"path": "large", "content": base64.b64encode(bytes(11 * MIB)).decode(), "encoding": "base64"}],
    },
    "many files in": {
        "language": "bash",
        "code": "ls | wc -l",
        "files": [{"path": f"f{number}", "content": "x" * 15_000} for number in range(1000)],
    },
    "one file out": {"code": "open('large', 'wb').write(bytes(32_000_000))"},
    "many files out": {"code": "for n in range(2000): open(f'{n}', 'wb').write(bytes([n % 256]) * 9000)"},
    "output": {"language": "bash", "code": "head -c 60000000 /dev/zero; head -c 60000 /dev/zero >&2"},
    "flood": {"language": "bash", "code": "yes"},
    "very many small values": {"code": "1", "args": [1] * 5 * MIB},
    "half a character": {"code": "1", "stdin": "x" * 15 * MIB + "\ud800"},
}
WANTED = {
    "flood": "output_exceeded",
    "very many small values": "invalid-request",
    "half a character": "invalid-request",
}


@contextlib.asynccontextmanager
async def again_and_again(here: Site, body: bytes, wanted: str) -> AsyncIterator[list[str]]:
    """Send ``body`` again as soon as it is answered, while the block lasts; what became of each so far."""
    ended: list[str] = []

    async def send() -> None:
        while True:
            headers = BEARER | {"Content-Type": "application/json"}
            answer = (await here.client.post("/execute", content=body, headers=headers)).json()
            ended.append(answer["code"] if "code" in answer else answer["status"])
            assert ended[-1] == wanted, answer

    sending = asyncio.ensure_future(send())
    try:
        yield ended
        assert not sending.done(), sending.result()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("kind", LARGE)
async def test_small_requests_are_answered_while_a_large_one_is_under_way(level: str, clean_host: Path, kind: str):
    body = json.dumps(LARGE[kind]).encode()
    async with site(level, clean_host, max_flood=64 * MIB) as here:
        async with again_and_again(here, body, WANTED.get(kind, "succeeded")) as ended:
            for _ in range(LOOKS):
                assert (await here.client.get("/livez")).status_code == 200
            looked = len(ended)
            for number in range(EXECUTIONS):
                assert (await here.outcome(code=f"print({number})"))["stdout"] == f"{number}\n"
        assert looked <= MOST_LARGE
        await here.ready()


async def test_a_body_that_comes_slowly_holds_up_nobody(level: str, clean_host: Path):
    async with site(level, clean_host) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        for piece in request_bytes(code="import sys; print(len(sys.stdin.read()))", stdin="x" * MIB):
            writer.write(piece)
            await writer.drain()
            assert (await here.client.get("/livez")).status_code == 200
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        assert head.startswith(b"HTTP/1.1 200 ")
        await here.ready()
