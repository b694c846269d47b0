"""A server at an address, for ``codex-server run --url``: programs are streamed from it (``POST /execute/stream``)."""

import json
import re
import sys
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from codex_server import __version__
from codex_server.cli.program import Ended, Program, Sink
from codex_server.errors import InvalidRequest, StartupError
from codex_server.model import Status, Stream
from codex_server.tokentext import bare_token

_SILENCE_SECONDS = 300.0
"""A server says every 15 s that it lives, once a program has begun; before, a program may wait for a place."""
_MOST_PROBLEM_BYTES = 2**16
_ADDRESS = re.compile(r"https?://[^\s/?#@]+[^\s?#@]*")
_UNKNOWN = "what became of the program is unknown, and it is not run again"
_BY_ITSELF = frozenset({Status.SUCCEEDED, Status.FAILED})


class ServerProblem(StartupError):
    """The server refused the program, or cannot be reached, or nobody knows what became of the program.

    For the terminal alone: no client of a server of ours gets it.
    """

    slug = "server-problem"
    title = "The server did not run it"


class Server:
    """Runs programs on the server at ``url``. Closing the connection, as Ctrl-C does, cancels them there."""

    def __init__(self, url: str, token: str | None) -> None:
        if not _ADDRESS.fullmatch(url):
            raise InvalidRequest(f"--url {url} is not an address; write it as https://code.example.org")
        self._address = url.rstrip("/")
        self._token = bare_token(token) if token else None
        self._opener = build_opener(_NoRedirects)

    def run(self, program: Program, output: Sink) -> Ended:
        """As ``Place.run``. Raises ``ServerProblem``."""
        try:
            with self._opener.open(self._request(program), timeout=_SILENCE_SECONDS) as response:
                return _follow(response, output)
        except HTTPError as error:
            with error:
                raise ServerProblem(_refusal(error)) from None
        except URLError as error:
            raise ServerProblem(
                f"{self._address} cannot be reached ({error.reason}), so nothing was run; is a server running there?"
            ) from None
        except (OSError, HTTPException) as error:
            raise ServerProblem(f"the connection broke ({error or type(error).__name__}); {_UNKNOWN}") from None

    def _request(self, program: Program) -> Request:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/x-ndjson",
            "User-Agent": f"codex-server-run/{__version__}",
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return Request(f"{self._address}/execute/stream", json.dumps(_body(program)).encode(), headers)  # noqa: S310 - checked above


class _NoRedirects(HTTPRedirectHandler):
    """INVARIANT: the token goes to the address that was given and to no other."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow none: each is an error."""


def _body(program: Program) -> dict[str, Any]:
    body: dict[str, Any] = {"code": program.code, "language": program.language, "args": program.args}
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


def _follow(response: HTTPResponse, output: Sink) -> Ended:
    for event in _events(response):
        match event:
            case {"type": "stdout" | "stderr" as name, "text": str(text)}:
                if not output(Stream(name), text.encode(errors="replace")):
                    return Ended(0)
            case {"type": "gap", "stream": stream, "bytes": size}:
                print(f"codex-server: {size} bytes of {stream} are missing: this end read too slowly", file=sys.stderr)
            case {"type": "finished", "exit_code": int(code), "status": str(status)}:
                return Ended(code, _why_ended(status, event))
            case {"type": "problem"}:
                raise ServerProblem(str(event.get("detail")))
            case _:  # started, file, ping, and what later versions add
                continue
    raise ServerProblem(f"the connection ended before the program did; {_UNKNOWN}")


def _events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    try:
        for line in response:
            yield json.loads(line)
    except ValueError:
        raise ServerProblem("the response is not that of a Codex Server; look at --url") from None


def _why_ended(status: str, finished: dict[str, Any]) -> str | None:
    """Why the program did not end by itself; the server's ``error`` begins with the reason."""
    if status in _BY_ITSELF:
        return None
    if status == Status.SIGNALLED:
        return f"ended by {finished.get('signal')}"
    reason, *_ = str(finished.get("error") or status.replace("_", " ")).splitlines()
    return f"stopped: {reason[:1].lower()}{reason[1:]}"


def _refusal(error: HTTPError) -> str:
    """What the problem says, or the number where the response is none."""
    if 300 <= error.code < 400:
        return f"the server sends to {error.headers.get('Location')}; give that address with --url if you trust it"
    try:
        detail = json.loads(error.read(_MOST_PROBLEM_BYTES))["detail"]
    except (ValueError, LookupError, TypeError, OSError, HTTPException):
        return f"the response is {error.code} {error.reason} and not that of a Codex Server; look at --url"
    hint = "; give one with --token or CODEX_TOKEN" if error.code == 401 else ""
    return f"{detail}{hint}"
