"""``service/kept_files.py``: files on disk within quotas, for a time, also over a restart."""

import asyncio
import fcntl
import os
import stat

import pytest

from codex_server.errors import StorageFull, StoreUnusable
from codex_server.service import kept_files
from codex_server.service.kept_files import FileFacts, KeptFiles
from codex_server.service.storage_quota import KeepingQuotas
from codex_server.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
BLOCK = 4096


class Shelf:
    """A folder, a store and a clock; ``files()`` is what a (re)started server has."""

    def __init__(self, folder):
        self.now = 1000.0
        self.folder = folder / "artifacts"
        self.store = MemoryStore(clock=lambda: self.now)
        self.opened = []

    def files(self, caller_bytes=10 * BLOCK, total_bytes=20 * BLOCK, seconds=100.0):
        quotas = KeepingQuotas(caller_bytes, total_bytes, seconds)
        self.opened.append(KeptFiles(self.folder, self.store, quotas, clock=lambda: self.now))
        return self.opened[-1]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def shelf(tmp_path):
    shelf = Shelf(tmp_path)
    yield shelf
    for files in shelf.opened:
        await files.close()


async def keep(files, content=b"x", owner="ann", name="../../etc/a b"):
    return await files.keep("art", owner, FileFacts(name, len(content), "text/plain"), content)


async def test_a_kept_file_is_found_with_its_content_and_facts(shelf):
    files = shelf.files()
    kept = await keep(files, b"content" * 1000)
    found = await files.find(kept.id)
    assert found == kept
    assert found.path.read_bytes() == b"content" * 1000
    assert (found.facts.name, found.facts.size, found.owner) == ("../../etc/a b", 7000, "ann")
    assert (found.created_at, found.expires_at) == (1000.0, 1100.0)


async def test_only_the_servers_account_can_read_it_and_its_name_is_its_id(shelf):
    kept = await keep(shelf.files())
    assert os.listdir(shelf.folder) == [kept.id]
    assert stat.S_IMODE(shelf.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600


async def test_what_has_expired_is_not_found_and_is_swept_a_moment_later(shelf):
    files = shelf.files()
    kept = await keep(files)
    shelf.now += 100
    assert await files.find(kept.id) is None
    await files.sweep()
    assert kept.path.exists(), "a response may be about to open it"
    shelf.now += 60
    await files.sweep()
    assert not kept.path.exists()


async def test_a_callers_quota_is_its_own_and_says_how_much_it_is(shelf):
    files = shelf.files()
    for _ in range(10):
        await keep(files)
    with pytest.raises(StorageFull, match="that are kept of your files; each is kept for 100 s"):
        await keep(files)
    await keep(files, owner="bob")


async def test_all_callers_share_a_quota(shelf):
    files = shelf.files()
    for owner in ("ann", "bob"):
        await keep(files, b"x" * 10 * BLOCK, owner)
    with pytest.raises(StorageFull, match="all callers' files"):
        await keep(files, owner="cleo")
    assert len(os.listdir(shelf.folder)) == 2


async def test_what_has_expired_makes_room(shelf):
    files = shelf.files()
    await keep(files, b"x" * 10 * BLOCK)
    shelf.now += 160
    kept = await keep(files, b"y" * 10 * BLOCK)
    assert os.listdir(shelf.folder) == [kept.id]


async def test_a_restarted_server_finds_it_and_counts_it(shelf):
    kept = await keep(shelf.files(), b"x" * 10 * BLOCK)
    files = shelf.files()
    await files.open_if_used()
    assert (await files.find(kept.id)).path.read_bytes() == b"x" * 10 * BLOCK
    with pytest.raises(StorageFull):
        await keep(files)


async def test_a_restarted_server_removes_files_in_no_index_and_expired_ones(shelf):
    files = shelf.files()
    old, kept = await keep(files), await keep(files)
    await shelf.store.delete("artifacts", old.id)
    (shelf.folder / "art_unfinished").write_bytes(b"x")
    await shelf.files().open_if_used()
    assert os.listdir(shelf.folder) == [kept.id]


async def test_a_restarted_server_with_a_smaller_quota_removes_the_oldest(shelf):
    files = shelf.files()
    kept = [await keep(files) for _ in range(5)]
    await shelf.files(total_bytes=2 * BLOCK).open_if_used()
    assert set(os.listdir(shelf.folder)) == {each.id for each in kept[3:]}


async def test_a_server_that_keeps_nothing_makes_no_folder_and_asks_no_store(shelf):
    shelf.store = None
    await shelf.files().open_if_used()
    assert not shelf.folder.exists()


async def test_a_file_that_cannot_be_written_takes_no_room(shelf):
    files = shelf.files()
    kept = await keep(files)
    shelf.folder.rename(shelf.folder.with_name("away"))
    shelf.folder.write_text("in the way")
    with pytest.raises(OSError, match="artifacts"):
        await keep(files, b"x" * 9 * BLOCK)
    shelf.folder.unlink()
    assert await files.find(kept.id) is None
    await keep(files, b"x" * 9 * BLOCK)


async def test_a_folder_that_cannot_be_read_is_said(shelf):
    shelf.folder.write_text("in the way")
    files = shelf.files()
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="artifacts cannot be read"):
            await keep(files)
    shelf.folder.unlink()
    await keep(files)


def listed(page):
    return [kept.id for kept in page[0]]


async def test_a_file_that_is_being_written_is_not_found_and_not_listed(shelf):
    files = shelf.files()
    async with files.receive("art", "ann", FileFacts("a", 1, "text/plain")) as target:
        await target.write(b"x")
        assert await files.find(target.kept.id) is None
        assert listed(await files.page("art", "ann", None, 10)) == []
    assert (await files.find(target.kept.id)).path.read_bytes() == b"x"
    assert listed(await files.page("art", "ann", None, 10)) == [target.kept.id]


async def test_a_file_whose_time_ends_while_it_comes_is_refused_and_leaves_nothing(shelf):
    files = shelf.files()
    with pytest.raises(StorageFull, match="kept for 100 s; send it again"):
        async with files.receive("art", "ann", FileFacts("a", 1, "text/plain")):
            shelf.now += 160
            await files.sweep()
    assert os.listdir(shelf.folder) == []
    assert listed(await files.page("art", "ann", None, 10)) == []


async def test_a_restarted_server_removes_records_without_a_whole_file(shelf):
    files = shelf.files()
    missing, cut, kept = [await keep(files, b"whole") for _ in range(3)]
    missing.path.unlink()
    cut.path.write_bytes(b"w")
    files = shelf.files()
    await files.open_if_used()
    assert listed(await files.page("art", "ann", None, 10)) == [kept.id]
    assert os.listdir(shelf.folder) == [kept.id]


async def test_a_server_that_starts_beside_another_leaves_alone_what_that_one_is_writing(shelf):
    files = shelf.files()
    async with files.receive("art", "ann", FileFacts("a", 5, "text/plain")) as target:
        await target.write(b"begun")
        await shelf.files().open_if_used()
    assert (await files.find(target.kept.id)).path.read_bytes() == b"begun"


async def test_a_server_that_starts_removes_what_a_killed_one_was_writing(shelf):
    files = shelf.files()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_discard_to_the_end", lambda name: asyncio.sleep(0))  # a killed server removes nothing
        with pytest.raises(ZeroDivisionError):
            async with files.receive("art", "ann", FileFacts("a", 5, "text/plain")) as target:
                await target.write(b"whole")
                raise ZeroDivisionError
    assert os.listdir(shelf.folder) == [target.kept.id]
    await shelf.files().open_if_used()
    assert os.listdir(shelf.folder) == []


async def test_a_file_that_another_server_finishes_during_a_start_stays_and_counts(shelf):
    class Late(MemoryStore):
        async def follow(self, *args, **named):
            return ()

    shelf.store = Late(clock=lambda: shelf.now)
    kept = await keep(shelf.files(), b"x" * 10 * BLOCK)
    files = shelf.files()
    await files.open_if_used()
    assert os.listdir(shelf.folder) == [kept.id]
    with pytest.raises(StorageFull):
        await keep(files)


async def test_a_file_that_a_start_removes_before_it_is_locked_is_created_again(shelf, monkeypatch):
    flock, removed = fcntl.flock, []

    def too_late(descriptor, operation):
        if not removed:
            removed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            os.unlink(removed[0])
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    kept = await keep(shelf.files(), b"content")
    assert removed == [str(kept.path)]
    assert kept.path.read_bytes() == b"content"


def open_files(folder):
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [link for link in links if os.path.lexists(link) and os.readlink(link).startswith(str(folder))]


async def test_a_caller_that_leaves_while_the_file_is_created_leaves_no_descriptor(shelf, monkeypatch):
    files, loop, create = shelf.files(), asyncio.get_running_loop(), kept_files._create

    def create_and_leave(path):
        loop.call_soon_threadsafe(keeping.cancel)
        return create(path)

    monkeypatch.setattr(kept_files, "_create", create_and_leave)
    keeping = asyncio.ensure_future(keep(files))
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await files.close()
    assert open_files(shelf.folder) == []
    assert os.listdir(shelf.folder) == []


async def test_a_caller_that_leaves_while_the_index_is_written_leaves_no_record(shelf):
    class Slow(MemoryStore):
        async def put(self, *args, **named):
            await super().put(*args, **named)
            keeping.cancel()
            await asyncio.Event().wait()

    shelf.store = Slow(clock=lambda: shelf.now)
    files = shelf.files()
    keeping = asyncio.ensure_future(keep(files, b"x" * 10 * BLOCK))
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert listed(await files.page("art", "ann", None, 10)) == []
    assert (await shelf.store.size("artifacts")).rows == 0


async def test_expired_files_are_freed_although_the_store_cannot_write(shelf):
    class Full(MemoryStore):
        async def delete(self, *args, **named):
            raise StoreUnusable("database or disk is full")

    shelf.store = Full(clock=lambda: shelf.now)
    files = shelf.files()
    for _ in range(2):
        await keep(files)
    shelf.now += 160
    await files.sweep()
    assert os.listdir(shelf.folder) == []
    await keep(files, b"x" * 10 * BLOCK)


async def test_an_expired_file_that_cannot_be_removed_keeps_no_other_and_is_tried_again(shelf):
    files = shelf.files()
    stuck, _ = await keep(files), await keep(files)
    stuck.path.unlink()
    stuck.path.mkdir()
    shelf.now += 160
    await files.sweep()
    assert os.listdir(shelf.folder) == [stuck.id]
    stuck.path.rmdir()
    stuck.path.touch()
    await files.sweep()
    assert os.listdir(shelf.folder) == []
