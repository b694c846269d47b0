"""A server at an address, for ``codex-server run --url``: programs are streamed from it (``POST /execute/stream``)."""

import json
import sys
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

from codex_server.cli.connection import NOT_OURS, UNKNOWN, Connection, ServerProblem
from codex_server.cli.program import Ended, Program, Sink
from codex_server.errors import InvalidRequest
from codex_server.model import Status, Stream
from codex_server.units import format_size

__all__ = ["Server", "ServerProblem"]

_MOST_FILES = 20
_BY_ITSELF = frozenset({Status.SUCCEEDED, Status.FAILED})


class Server:
    """Runs programs on the server at ``url``. Closing the connection, as Ctrl-C does, cancels them there.

    With ``session`` they run in the session with that id.
    """

    def __init__(self, url: str, token: str | None, session: str | None = None) -> None:
        self._connection = Connection(url, token)
        self._session = session

    def run(self, program: Program, output: Sink) -> Ended:
        """As ``Place.run``. Raises ``ServerProblem``."""
        body = _body(program)
        if self._session is not None:
            body["session"] = self._session
        with self._connection.open("POST", "/execute/stream", body, "application/x-ndjson") as response:
            return _follow(response, output, self._connection.address)


def _body(program: Program) -> dict[str, Any]:
    body: dict[str, Any] = {"code": program.code, "language": program.language, "args": program.args}
    body["max_inline_bytes"] = 0  # each file is a link, which is shown: its content has no place on a terminal
    try:
        body["stdin"] = program.stdin.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"standard input is not UTF-8 text (byte {error.start} is wrong), and a server takes only text; "
            "encode it, for example with base64"
        ) from None
    if program.timeout is not None:
        body["timeout"] = program.timeout
    return body


def _follow(response: HTTPResponse, output: Sink, address: str) -> Ended:
    for event in _events(response):
        match event:
            case {"type": "stdout" | "stderr" as name, "text": str(text)}:
                if not output(Stream(name), text.encode(errors="replace")):
                    return Ended(0)
            case {"type": "gap", "stream": stream, "bytes": size}:
                print(f"codex-server: {size} bytes of {stream} are missing: this end read too slowly", file=sys.stderr)
            case {"type": "finished", "exit_code": int(code), "status": str(status)}:
                return Ended(code, _why_ended(status, event), _result(event), tuple(_files(event, address)))
            case {"type": "problem"}:
                raise ServerProblem(str(event.get("detail")))
            case _:  # started, file, ping, and what later versions add
                continue
    raise ServerProblem(f"the connection ended before the program did; {UNKNOWN}")


def _events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    try:
        for line in response:
            yield json.loads(line)
    except ValueError:
        raise ServerProblem(NOT_OURS) from None


def _result(finished: dict[str, Any]) -> str | None:
    """The value of a cell's last expression, as text."""
    match finished.get("result"):
        case {"text/plain": str(text)}:
            return text
        case _:
            return None


def _why_ended(status: str, finished: dict[str, Any]) -> str | None:
    """Why the program did not end by itself; the server's ``error`` begins with the reason."""
    if status in _BY_ITSELF:
        return None
    if status == Status.SIGNALLED:
        return f"ended by {finished.get('signal')}"
    reason, *_ = str(finished.get("error") or status.replace("_", " ")).splitlines()
    return f"stopped: {reason[:1].lower()}{reason[1:]}"


def _files(finished: dict[str, Any], address: str) -> Iterator[str]:
    """What became of the files that the program left, a line for each of the first ones."""
    left, lost = finished.get("files") or [], finished.get("skipped_files") or []
    lines = [*(_left(file, address) for file in left), *(_lost(file) for file in lost)]
    yield from lines[:_MOST_FILES]
    if len(lines) > _MOST_FILES:
        yield f"and {len(lines) - _MOST_FILES} files more, which are not listed here"


def _left(file: dict[str, Any], address: str) -> str:
    name, size = _shown(file.get("path")), format_size(int(file.get("size") or 0))
    if not (url := file.get("url")):
        return f"the program left {name} ({size}), which is not saved here; print what matters of it"
    link = f"{address}{url}" if str(url).startswith("/") else url
    return f"the program left {name} ({size}), until {_shown(file.get('expires_at'))} at {_shown(link)}"


def _lost(file: dict[str, Any]) -> str:
    return f"{_shown(file.get('path'))} of the program is lost: {_shown(file.get('reason'))}"


def _shown(text: object) -> str:
    """What the program named is not to steer the terminal."""
    return "".join(each if each.isprintable() else "?" for each in str(text))
