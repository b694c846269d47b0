"""A connection to a server at an address, for the commands that are its clients."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from codex_server import __version__
from codex_server.errors import InvalidRequest, StartupError
from codex_server.tokentext import bare_token

SILENCE_SECONDS = 300.0
"""A server says every 15 s that it lives, once a program has begun; before, a program may wait for a place."""
UNKNOWN = "what became of the program is unknown, and it is not run again"
NOT_OURS = "the response is not that of a Codex Server; look at --url"
_MOST_PROBLEM_BYTES = 2**16
_ADDRESS = re.compile(r"https?://[^\s/?#@]+[^\s?#@]*")


class ServerProblem(StartupError):
    """The server refused the program, or cannot be reached, or nobody knows what became of the program.

    For the terminal alone: no client of a server of ours gets it.
    """

    slug = "server-problem"
    title = "The server did not run it"


class Connection:
    """Sends requests to the server at ``url``, with ``token`` where there is one. Closing a response cancels there."""

    def __init__(self, url: str, token: str | None) -> None:
        if not _ADDRESS.fullmatch(url):
            raise InvalidRequest(f"--url {url} is not an address; write it as https://code.example.org")
        self.address = url.rstrip("/")
        self._token = bare_token(token) if token else None
        self._opener = build_opener(_NoRedirects)

    @contextmanager
    def open(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, accept: str = "application/json"
    ) -> Iterator[HTTPResponse]:
        """The response to a request. Raises ``ServerProblem``, also while it is read."""
        try:
            with self._opener.open(self._request(method, path, body, accept), timeout=SILENCE_SECONDS) as response:
                yield response
        except HTTPError as error:
            with error:
                raise ServerProblem(_refusal(error)) from None
        except URLError as error:
            raise ServerProblem(
                f"{self.address} cannot be reached ({error.reason}), so nothing was run; is a server running there?"
            ) from None
        except (OSError, HTTPException) as error:
            raise ServerProblem(f"the connection broke ({error or type(error).__name__}); {UNKNOWN}") from None

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that the server returns; an empty one where it returns nothing."""
        with self.open(method, path, body) as response:
            content = response.read()
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            raise ServerProblem(NOT_OURS) from None
        if not isinstance(found, dict):
            raise ServerProblem(NOT_OURS)
        return found

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, accept: str) -> Request:
        headers = {"Accept": accept, "User-Agent": f"codex-server-run/{__version__}"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        return Request(f"{self.address}{path}", content, headers, method=method)  # noqa: S310 - checked above


class _NoRedirects(HTTPRedirectHandler):
    """INVARIANT: the token goes to the address that was given and to no other."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow none: each is an error."""


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
