"""A client that sends what it likes, as slowly as it likes, and what it may send."""

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager

TOKEN = "codex_" + "t" * 43


class Wire:
    """One connection to the server."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def response(self):
        """Status and body of the next response; None when the server closed without one."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return int(lines[0].split()[1]), fields, body

    async def rest(self):
        """Everything that comes until the server sends no more."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def closed(self):
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(10):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionResetError:
                pass

    async def gone(self):
        """Send on until the server takes no more: it has closed its side that reads, too."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while True:
                    await self.send(b"x")
                    await asyncio.sleep(0)

    def send_no_more(self):
        """Half-close the connection, as `nc -N` does."""
        self.writer.write_eof()

    def leave(self):
        self.writer.transport.abort()


class Memory(asyncio.Transport):
    """A client that has sent its bytes; keeps what it is sent."""

    def __init__(self):
        super().__init__()
        self.sent, self.closed, self.ended = b"", False, False

    def write(self, data):
        assert not self.ended
        self.sent += data

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.ended = True

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = "at once"

    def is_closing(self):
        return bool(self.closed)

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def request(body, *, length=None, more="", token=TOKEN, version="1.1"):
    head = f"POST /execute HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return f"{head}{more}\r\n".encode() + body


def script(code):
    return json.dumps({"code": code}).encode()


@asynccontextmanager
async def dripping(wire, data):
    """Go on sending ``data``, until the server hangs up or the block ends."""

    async def drip():
        with contextlib.suppress(ConnectionError):
            while True:
                await wire.send(data)
                await asyncio.sleep(0)

    task = asyncio.ensure_future(drip())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
