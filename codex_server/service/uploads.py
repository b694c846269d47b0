"""Uploads: files that a caller sends once, and gives to many executions by their ids."""

import asyncio
import codecs
import errno
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from codex_server.errors import Busy, InvalidRequest, StorageFull, TooLarge, UnknownFile
from codex_server.ids import made_at
from codex_server.mediatypes import media_type
from codex_server.service.cursors import Cursors
from codex_server.service.fields import FieldError, FieldsInvalid
from codex_server.service.kept_files import FileFacts, KeptFile, KeptFiles
from codex_server.service.schemas import RequestFile
from codex_server.store.base import since_epoch
from codex_server.units import format_seconds, format_size, format_sizes

PREFIX = "fil"
MOST_AT_ONCE = 16
"""Files that are received at once, of all callers."""
_RETRY_SECONDS = 5
_MOST_NAME = 255


class SentFile(Protocol):
    """A file while it comes."""

    async def open(self) -> str:
        """Its name, as soon as it is known."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Its content, in small parts."""
        ...


class Uploads:
    """The files that callers have sent, among ``files``. INVARIANT: a file of another caller is unknown.

    A few are received at once; the others wait unread for ``patience`` seconds. So uploads take the memory of a few
    parts, however many and large they are.
    """

    def __init__(self, files: KeptFiles, cursors: Cursors, max_bytes: int, patience: float = 20.0) -> None:
        self._files, self._cursors, self.max_bytes, self._patience = files, cursors, max_bytes, patience
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def take(self, owner: str, sent: SentFile, announced: int | None) -> KeptFile:
        """Keep the file, at most ``announced`` bytes. Nothing is read of one that cannot be kept.

        Raises ``TooLarge``, ``StorageFull``, ``Busy``, ``InvalidRequest`` for its name.
        """
        if announced is not None and announced > self.max_bytes:
            raise self._too_large()
        size = self.max_bytes if announced is None else announced
        async with self._turn():
            with _disk_full_as_storage_full():
                return await self._receive(owner, sent, size)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            raise Busy(
                f"{MOST_AT_ONCE} files are being received, and none was finished within "
                f"{format_seconds(self._patience)}; nothing was read, send it again in {_RETRY_SECONDS} s",
                retry_after=_RETRY_SECONDS,
            ) from None
        try:
            yield
        finally:
            self._turns.release()

    async def _receive(self, owner: str, sent: SentFile, size: int) -> KeptFile:
        """Keep what comes, at most ``size`` bytes."""
        text = _TextCheck()
        async with self._files.receive(PREFIX, owner, FileFacts("", size, "")) as target:
            name = _checked_name(await sent.open())
            async for part in sent:
                if target.size + len(part) > size:
                    raise self._too_large()
                text.feed(part)
                await target.write(part)
            is_text = text.end()
            target.describe(FileFacts(name, target.size, media_type(name, text=is_text), is_text))
        return target.kept

    async def find(self, file_id: str, owner: str) -> KeptFile:
        """The file of ``owner`` with that id. Raises ``UnknownFile``."""
        found = await self._files.find(file_id) if file_id.startswith(f"{PREFIX}_") else None
        if found is None or found.owner != owner:
            raise UnknownFile(self._why_unknown(file_id))
        return found

    async def page(self, owner: str, cursor: str | None, limit: int) -> tuple[list[KeptFile], str | None]:
        """The files of ``owner``, the newest first, and the next page's cursor. Raises ``InvalidRequest``."""
        found, following = await self._files.page(PREFIX, owner, await self._cursors.open(cursor, owner), limit)
        return found, await self._cursors.seal(following, owner)

    async def remove(self, file_id: str, owner: str) -> None:
        """Remove it. Raises ``UnknownFile``."""
        await self._files.remove(await self.find(file_id, owner))

    async def contents(self, files: Sequence[RequestFile], owner: str, max_bytes: int) -> Mapping[str, bytes]:
        """The content of each file that a request names by its id, all of them at most ``max_bytes``.

        Raises ``FieldsInvalid`` for what is unknown or has expired, ``InvalidRequest`` when it is too much.
        """
        found: dict[str, KeptFile] = {}
        errors = []
        for index, file in enumerate(files):
            if names_upload(file) and file.file_id not in found:
                try:
                    found[file.file_id] = await self.find(file.file_id, owner)
                except UnknownFile as error:
                    errors.append(FieldError(f"/files/{index}/file_id", error.detail))
        if errors:
            raise FieldsInvalid(errors)
        total = sum(found[file.file_id].facts.size for file in files if names_upload(file))
        if total > max_bytes:
            shown, room = format_sizes(total, max_bytes)
            raise InvalidRequest(f"the files are {shown} together, and the workspace holds {room}; send less", "/files")
        return {name: await asyncio.to_thread(kept.path.read_bytes) for name, kept in found.items()}

    def _why_unknown(self, file_id: str) -> str:
        seconds = self._files.quotas.seconds
        made = made_at(file_id) if file_id.startswith(f"{PREFIX}_") else None
        if made is not None and made + seconds <= since_epoch():
            return f"the file has expired: each is kept for {format_seconds(seconds)}; upload it again with POST /files"
        return f"no file of yours has the id {file_id[:80]!r}; upload it with POST /files (GET /files lists yours)"

    def _too_large(self) -> TooLarge:
        shown = format_size(self.max_bytes)
        return TooLarge(f"the file is above this server's cap of {shown} (CODEX_MAX_UPLOAD); send a smaller one")


def names_upload(file: RequestFile) -> bool:
    """Whether its content is an uploaded file's: it has a ``file_id``, be it empty, and no ``content``."""
    return file.model_fields_set & {"content", "file_id"} == {"file_id"}


@contextmanager
def _disk_full_as_storage_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull("the server's disk is full; send the file again later, or remove files of yours") from error


class _TextCheck:
    """Whether all that it is fed with is UTF-8 without NUL."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_text = True

    def feed(self, chunk: bytes) -> None:
        self._decode(chunk, final=False)

    def end(self) -> bool:
        self._decode(b"", final=True)
        return self._is_text

    def _decode(self, chunk: bytes, *, final: bool) -> None:
        if not self._is_text:
            return
        try:
            self._decoder.decode(chunk, final)
            self._is_text = b"\0" not in chunk
        except UnicodeDecodeError:
            self._is_text = False


def _checked_name(name: str) -> str:
    """``name`` without folders. It is for people and for the media type, and never part of a path."""
    last = name.replace("\\", "/").rpartition("/")[2].strip()
    if not last or len(last) > _MOST_NAME or not last.isprintable():
        raise InvalidRequest(
            f"send the file's name in the address: POST /files?name=data.csv, at most {_MOST_NAME} characters", "/name"
        )
    return last
