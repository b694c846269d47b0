"""Files that the server keeps for a while on disk: one file each in a folder of its own, their index in the store.

INVARIANT: a name on disk is an id of the server's; nothing that a caller or a program says is part of a path.
"""

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path

from codex_server.errors import StorageFull, StoreUnusable
from codex_server.ids import new_id
from codex_server.service.storage_quota import KeepingQuotas, StorageQuota
from codex_server.store.base import Record, Store, since_epoch
from codex_server.store.folder import RIGHTS
from codex_server.units import format_seconds

TABLES = {"art": "artifacts", "fil": "uploads", "chk": "checkpoints"}
"""The table of the store that is the index of the files whose ids begin so."""
_PAGE = 500
_SWEEP_SECONDS = 60.0
_GRACE_SECONDS = 60.0
"""How long a file stays on disk after its time: a response that has begun to open it finds it."""
_CHUNK = 2**20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a kept file: ``name`` is for people, without folders."""

    name: str
    size: int
    media_type: str
    text: bool = False


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A kept file; times are seconds since the epoch."""

    id: str
    owner: str
    facts: FileFacts
    created_at: float
    expires_at: float
    path: Path


class Incoming:
    """A file that is being written; ``kept`` is what is known of it, and ``size`` what has come."""

    def __init__(self, kept: KeptFile, descriptor: int) -> None:
        self.kept, self.size = kept, 0
        self._descriptor = descriptor

    async def write(self, content: bytes) -> None:
        """Append ``content``, in a thread."""
        # A thread that was begun writes on when its caller is cancelled: it has a descriptor of its own.
        descriptor = os.dup(self._descriptor)
        writing = asyncio.get_running_loop().run_in_executor(None, _write_and_close, descriptor, content)
        await asyncio.shield(writing)
        self.size += len(content)

    def describe(self, facts: FileFacts) -> None:
        """Put what is known of the file now in the place of what was expected."""
        self.kept = replace(self.kept, facts=facts)


class KeptFiles:
    """Keeps files in ``folder`` within ``quotas``; it is made when the first one is kept.

    The quotas count what this process keeps and what it found when it began.
    """

    def __init__(
        self, folder: Path, store: Store, quotas: KeepingQuotas, clock: Callable[[], float] = since_epoch
    ) -> None:
        self.quotas = quotas
        self._folder, self._store, self._clock = folder, store, clock
        self._places = StorageQuota(quotas)
        self._hidden: set[str] = set()  # ids that may stand in the index without a file: not for callers
        self._discarding: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Find what a server before this one kept; remove what has expired, is too much, in no index or not whole.

        Raises ``StoreUnusable``.
        """
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.get_running_loop().create_task(self._open())
        await asyncio.shield(self._opening)

    async def open_if_used(self) -> None:
        """The same, where there is anything: a server that keeps no files does not open its store for this."""
        if self._folder.is_dir():
            await self.open()

    async def close(self) -> None:
        """End the sweeping, and finish the removal of what was broken off; the files stay."""
        for task in (self._opening, self._sweeping):
            if task:
                task.cancel()
                await asyncio.wait([task])
        await asyncio.gather(*self._discarding)

    async def keep(self, prefix: str, owner: str, facts: FileFacts, content: bytes) -> KeptFile:
        """Keep ``content``. Raises ``StorageFull`` when it does not fit, ``OSError`` when the disk fails."""
        async with self.receive(prefix, owner, facts) as target:
            await target.write(content)
        return target.kept

    @asynccontextmanager
    async def receive(
        self, prefix: str, owner: str, facts: FileFacts, seconds: float | None = None
    ) -> AsyncIterator["Incoming"]:
        """A file to be written within the context; it takes ``facts.size`` of the quotas until it is left.

        It is kept for ``seconds``, by default as long as the quotas say.

        Raises as ``keep`` does. Nothing is kept when the context is left by an exception, and nobody finds or lists the
        file before it is left.
        """
        await self.open()
        kept = await self._reserve(prefix, owner, facts, self.quotas.seconds if seconds is None else seconds)
        try:
            descriptor = await _opened(kept.path)
            try:
                incoming = Incoming(kept, descriptor)
                yield incoming
                # INVARIANT: a file is locked until the index has it, and whole by then: one in no index that nobody has
                # locked is what a killed server left.
                await self._add(incoming.kept)
            finally:
                os.close(descriptor)
        except BaseException:
            await self._discard_to_the_end(kept.id)
            raise

    async def find(self, file_id: str) -> KeptFile | None:
        """The file with that id, unless it has expired, was removed or is still being written."""
        if file_id in self._hidden:
            return None
        table = TABLES.get(file_id.partition("_")[0])
        record = await self._store.get(table, file_id) if table else None
        kept = self._kept(record) if record else None
        return kept if kept and kept.path.is_file() else None

    async def page(self, prefix: str, owner: str, before: int | None, limit: int) -> tuple[list[KeptFile], int | None]:
        """The files of ``owner`` whose ids begin with ``prefix``, the newest first, and the next page's cursor."""
        page = await self._store.page(TABLES[prefix], owner=owner, before=before, limit=limit)
        return [self._kept(record) for record in page.records if record.key not in self._hidden], page.before

    async def remove(self, kept: KeptFile) -> None:
        """Remove it before its time. Raises ``StoreUnusable``."""
        await self._store.delete(_table(kept.id), kept.id)
        await self._unlink(kept.id)

    async def sweep(self) -> None:
        """Remove what has expired."""
        now = self._clock()
        await self._discard(self._places.expired(now - _GRACE_SECONDS))

    async def _reserve(self, prefix: str, owner: str, facts: FileFacts, seconds: float) -> KeptFile:
        """A place within the quotas for a file that is to come. Raises ``StorageFull``."""
        if self._places.refusal(owner, facts.size):
            await self.sweep()
        if refusal := self._places.refusal(owner, facts.size):
            raise StorageFull(refusal)
        now, file_id = self._clock(), new_id(prefix)
        expires_at = now + seconds
        self._places.take(file_id, owner, facts.size, expires_at)
        return KeptFile(file_id, owner, facts, now, expires_at, self._folder / file_id)

    async def _add(self, kept: KeptFile) -> None:
        """Put a whole file into the index. Raises ``StorageFull`` when it was swept meanwhile."""
        if kept.id not in self._places:
            raise StorageFull(
                f"its time was over before all of it had come: each file is kept for "
                f"{format_seconds(self.quotas.seconds)}; send it again, faster"
            )
        self._places.take(kept.id, kept.owner, kept.facts.size, kept.expires_at)
        value = json.dumps(asdict(kept.facts)).encode()
        await self._store.put(_table(kept.id), kept.id, value, owner=kept.owner, expires_at=kept.expires_at)

    async def _open(self) -> None:
        present = await asyncio.to_thread(_names, self._folder)
        for table in TABLES.values():
            await self._load(table)
        for name in present:
            if name not in self._places:
                await self._remove_orphan(name)
        await self._discard(list(self._places.above_total()))
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep_on())

    async def _load(self, table: str) -> None:
        """Count what is in the index; remove what has no file, or one that a failing disk cut."""
        after = 0
        while records := await self._store.follow(table, after=after, limit=_PAGE):
            found = [self._kept(record) for record in records]
            whole = await asyncio.to_thread(_are_whole, found)
            for kept in compress(found, whole):
                self._places.take(kept.id, kept.owner, kept.facts.size, kept.expires_at)
            await self._discard([kept.id for kept in found if kept.id not in self._places])
            after = records[-1].sequence

    async def _remove_orphan(self, name: str) -> None:
        """Remove a file that was in no index, unless another server on this folder is writing it."""
        with await asyncio.to_thread(_Hold, self._folder / name) as is_ours:
            if not is_ours:
                return
            if record := await self._store.get(_table(name), name):  # it was finished since we looked at the index
                kept = self._kept(record)
                self._places.take(kept.id, kept.owner, kept.facts.size, kept.expires_at)
            else:
                await self._discard([name])

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self.sweep()
            except Exception:  # the next round tries again
                _log.exception("kept files cannot be removed")

    async def _discard_to_the_end(self, name: str) -> None:
        """Remove it, also when the caller is cancelled (again) meanwhile."""
        task = asyncio.get_running_loop().create_task(self._discard([name]))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)
        await asyncio.shield(task)

    async def _discard(self, names: list[str]) -> None:
        """Remove files that nobody may see any more, and go on after an error.

        The file is first: on a full disk the store cannot write before there is room.
        """
        for name in names:
            self._hidden.add(name)
            await self._unlink(name)
            try:
                await self._store.delete(_table(name), name)
            except StoreUnusable as error:  # it stays hidden; its record expires, or the next start finds no file
                _log.error("the record of a kept file cannot be removed", extra={"cause": str(error)})
            else:
                self._hidden.discard(name)

    async def _unlink(self, name: str) -> None:
        try:
            await asyncio.to_thread(_delete, self._folder / name)
        except OSError as error:  # its place stays: the sweep after its time tries again
            _log.error("a kept file cannot be removed", extra={"cause": str(error)})
        else:
            self._places.release(name)

    def _kept(self, record: Record) -> KeptFile:
        expires_at = record.expires_at or 0.0
        return KeptFile(
            record.key, record.owner, _facts(record), record.created_at, expires_at, self._folder / record.key
        )


def _facts(record: Record) -> FileFacts:
    return FileFacts(**json.loads(record.value))


def _are_whole(files: Iterable[KeptFile]) -> list[bool]:
    """Whether each is on disk with its size."""
    return [_size(kept.path) == kept.facts.size for kept in files]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be read ({error.strerror}). {RIGHTS}") from error


def _table(file_id: str) -> str:
    return TABLES.get(file_id.partition("_")[0], "artifacts")  # a file in the folder may have any name


async def _opened(path: Path) -> int:
    """A new file's descriptor. A caller that is cancelled leaves neither: the thread goes on, and undoes its work."""
    making = asyncio.ensure_future(asyncio.to_thread(_create, path))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(lambda made: _undo(made, path))
        raise


def _undo(made: asyncio.Future[int], path: Path) -> None:
    if not made.cancelled() and made.exception() is None:
        os.close(made.result())
        _delete(path)


def _create(path: Path) -> int:
    """A new file that is locked: no server that starts on this folder takes it for a killed one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            _delete(path)
            raise
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # such a server has removed it between our two calls


class _Hold:
    """The lock of a file, while the context lasts; it yields False when another process has it."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        self._is_free = True
        with suppress(OSError):  # it is gone, or no file of ours: there is nothing to lock
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._is_free = False

    def __enter__(self) -> bool:
        return self._is_free

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _delete(path: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view[:_CHUNK]) :]


def _write_and_close(descriptor: int, content: bytes) -> None:
    try:
        _write(descriptor, content)
    finally:
        os.close(descriptor)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreUnusable(f"{folder} cannot be read ({error.strerror}). {RIGHTS}") from error
