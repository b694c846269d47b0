"""Reading the files of a session, which its own guest lists and hands over: nothing of it is believed unchecked."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from codex_server.errors import IllegalPath, InvalidRequest, SandboxFault
from codex_server.execution.session import Session
from codex_server.model import InputFile
from codex_server.paths import MAX_ENTRIES, checked_path
from codex_server.sandboxes.stdin import StandardInput
from codex_server.units import format_size

_MOST_DETAIL = 200
_GONE = "not-found"
_PAGE = 1000
_MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A regular file of a session's workspace, as the guest lists it."""

    path: str
    size: int


class SessionFiles:
    """Reads the workspace of ``session``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def listed(self, wanted: Callable[[str], bool]) -> list[SessionFile]:
        """The regular files whose paths are ``wanted``, in order. Raises ``InvalidRequest`` for a name that is none."""
        found: list[SessionFile] = []
        request: dict[str, object] = {"operation": "tree", "most": _PAGE}
        for _ in range(_MOST_PAGES):
            reply = _outcome(await self._ask(request))
            found += await asyncio.to_thread(_files, _entries(reply), wanted)  # many long paths take a while
            following = reply.get("next")
            if not isinstance(following, str) or len(found) > MAX_ENTRIES:
                break
            request["after"] = following
        return sorted(found, key=lambda file: file.path)

    async def read(self, path: str, most: int) -> InputFile | None:
        """The file, of at most ``most`` bytes; None when there is none any more. Raises ``InvalidRequest``."""
        content = bytearray()

        def take(chunk: bytes) -> bool:
            content.extend(chunk)
            return len(content) <= most

        reply = await self._ask({"operation": "read", "path": path}, take)
        if _code(reply) == _GONE:
            return None
        found = _outcome(reply)
        if len(content) > most:
            raise InvalidRequest(f"{path} is larger than the {format_size(most)} that are left for it; keep less")
        if found.get("size") != len(content):
            raise _no_sense()
        return InputFile(path, bytes(content))

    async def _ask(
        self, request: Mapping[str, object], output: Callable[[bytes], bool] = lambda _: True
    ) -> Mapping[str, object]:
        return await self._session.operate(request, StandardInput(), output)


def _entries(reply: Mapping[str, object]) -> list[Mapping[str, object]]:
    entries = reply.get("entries")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _no_sense()
    return entries


def _files(entries: list[Mapping[str, object]], wanted: Callable[[str], bool]) -> list[SessionFile]:
    return [file for entry in entries if (file := _file(entry, wanted))]


def _file(entry: Mapping[str, object], wanted: Callable[[str], bool]) -> SessionFile | None:
    match entry:
        case {"type": "file", "path": str(path), "size": int(size)}:
            return SessionFile(_checked(path), size) if wanted(path) else None
        case {"type": "file"}:
            raise _no_sense()
        case _:
            return None


def _checked(path: str) -> str:
    try:
        return checked_path(path)
    except IllegalPath as error:
        raise InvalidRequest(f"a file of the session cannot be kept: {error.detail}") from None


def _outcome(reply: Mapping[str, object]) -> Mapping[str, object]:
    """What an operation returned. Raises ``InvalidRequest`` with what it says was wrong."""
    match reply:
        case {"ok": dict(found)}:
            return found
        case {"error": {"detail": str(detail)}}:
            raise InvalidRequest(detail[:_MOST_DETAIL].encode("utf-8", "replace").decode())
        case _:
            raise _no_sense()


def _code(reply: Mapping[str, object]) -> object:
    error = reply.get("error")
    return error.get("code") if isinstance(error, dict) else None


def _no_sense() -> SandboxFault:
    return SandboxFault("the reply of a session to an operation on its files makes no sense")
