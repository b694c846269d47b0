"""``store/sqlite.py``, ``database.py`` and ``schema.py``: the file, whatever became of it or of who wrote it."""

import asyncio
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from codex_server.errors import StoreUnusable
from codex_server.store import schema
from codex_server.store.base import Entry
from codex_server.store.database import SWEEP_SECONDS
from codex_server.store.sqlite import FILE_NAME, SqliteStore

pytestmark = pytest.mark.anyio
SECONDS = 60
"""Guards against a hang; nothing is judged by it."""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def file(folder):
    return folder / FILE_NAME


@pytest.fixture
async def opened():
    """Makes stores that are closed at the end."""
    stores = []

    def make(folder, *clock):
        stores.append(SqliteStore(folder, *clock))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


async def refusal(store):
    with pytest.raises(StoreUnusable) as caught:
        await store.put("t", "k", b"v")
    return caught.value.detail


def program(text, folder):
    """A Python process with a store of its own on the folder."""
    head = "import asyncio, sys, pathlib\nfrom codex_server.store.sqlite import SqliteStore\n"
    head += "store = SqliteStore(pathlib.Path(sys.argv[1]))\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + text, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def test_nothing_is_made_before_it_is_needed(opened, folder):
    threads = threading.active_count()
    store = opened(folder)
    assert not folder.exists()
    assert threading.active_count() == threads
    assert await store.get("t", "k") is None
    assert folder.exists()


def test_the_store_loads_sqlite_when_it_is_used():
    text = "import sys, codex_server.store.sqlite; print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


async def test_folder_and_files_are_for_their_owner_alone(opened, folder):
    await opened(folder).put("t", "k", b"v")
    names = {path.name for path in folder.iterdir()}
    assert names == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


async def test_a_restart_keeps_records_counters_and_sequences(opened, folder):
    first = opened(folder)
    await first.put("t", "a", b"v", owner="me")
    await first.add("c", "me", {"runs": 2})
    await first.delete("t", "a")
    await first.put("t", "b", b"v")
    old = await first.get("t", "b")
    await first.delete("t", "b")
    await first.close()
    second = opened(folder)
    await second.put("t", "c", b"v")
    assert (await second.get("t", "c")).sequence > old.sequence
    assert await second.add("c", "me", {"runs": 1}) == {"runs": 3}


async def test_two_processes_share_one_file_and_lose_nothing(opened, folder):
    text = "async def main():\n  for _ in range(200): await store.add('c', 'me', {'runs': 1})\n  await store.close()\n"
    others = [program(text + "asyncio.run(main())", folder) for _ in range(2)]
    store = opened(folder)
    for _ in range(200):
        await store.add("c", "me", {"runs": 1})
    for other in others:
        _, errors = await asyncio.to_thread(other.communicate, timeout=SECONDS)
        assert (other.returncode, errors) == (0, "")
    assert await store.add("c", "me", {}) == {"runs": 600}


async def test_a_killed_writer_leaves_a_whole_file_with_all_that_it_had_finished(opened, folder, file):
    text = (
        "async def main():\n"
        "  for n in range(10**6):\n"
        "    await store.put('t', str(n), bytes(2000))\n"
        "    await store.add('c', 'me', {'runs': 1})\n"
        "    print(n, flush=True)\n"
    )
    writer = program(text + "asyncio.run(main())", folder)
    finished = [writer.stdout.readline() for _ in range(100)]
    writer.send_signal(signal.SIGKILL)
    rest, _ = await asyncio.to_thread(writer.communicate, timeout=SECONDS)
    last = int([*finished, *rest.split("\n")[:-1]][-1])
    store = opened(folder)
    rows = (await store.size("t")).rows
    counted = (await store.add("c", "me", {}))["runs"]
    assert last + 1 <= counted <= rows <= last + 2
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_what_is_no_database_is_refused_and_left_as_it_is(opened, folder, file):
    folder.mkdir()
    file.write_bytes(b"these are somebody's notes, and more than a header" * 100)
    before = file.read_bytes()
    told = await refusal(opened(folder))
    assert told.startswith(f"{file} cannot be used (file is not a database). It was left as it is.")
    assert file.read_bytes() == before


async def test_a_damaged_file_is_refused_with_the_remedy(opened, folder, file):
    store = opened(folder)
    for n in range(200):
        await store.put("t", str(n), bytes(1000))
    await store.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    told = await refusal(opened(folder))
    assert "malformed" in told
    assert "Restore a copy of it, or move it away" in told
    assert file.read_bytes() == content


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(opened, folder, file):
    folder.mkdir()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = file.read_bytes()
    assert "another program" in await refusal(opened(folder))
    assert file.read_bytes() == before


async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(opened, folder, file, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (text)",)))
    newer = opened(folder)
    await newer.put("t", "k", b"v")
    await newer.close()
    monkeypatch.undo()
    before = file.read_bytes()
    assert "newer version of this program (schema 2; this one knows 1)" in await refusal(opened(folder))
    assert file.read_bytes() == before


async def test_a_file_of_an_older_version_is_brought_up_and_keeps_what_it_has(opened, folder, monkeypatch):
    older = opened(folder)
    await older.put("t", "k", b"v")
    await older.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (text)",)))
    newer = opened(folder)
    assert (await newer.get("t", "k")).value == b"v"
    await newer.close()
    connection = sqlite3.connect(folder / FILE_NAME)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("SELECT * FROM more").fetchall() == []
    connection.close()


async def test_a_migration_that_fails_changes_nothing(opened, folder, monkeypatch):
    older = opened(folder)
    await older.put("t", "k", b"v")
    await older.close()
    broken = (*schema.MIGRATIONS, ("CREATE TABLE more (text)", "no statement"))
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    assert "syntax error" in await refusal(opened(folder))
    monkeypatch.undo()
    assert (await opened(folder).get("t", "k")).value == b"v"


async def test_a_folder_or_a_lost_link_in_the_place_of_the_file_is_told(opened, folder, file):
    file.mkdir(parents=True)
    assert "it is a folder, not a file" in await refusal(opened(folder))
    file.rmdir()
    file.symlink_to(folder / "gone")
    assert "where there is nothing" in await refusal(opened(folder))


async def test_a_state_folder_that_cannot_be_made_is_told_with_the_remedy(opened, tmp_path):
    (tmp_path / "file").write_text("")
    told = await refusal(opened(tmp_path / "file" / "state"))
    assert "Not a directory" in told
    assert "CODEX_STATE_DIR" in told


async def test_a_full_disk_is_told_and_what_was_kept_stays(folder):
    text = (
        "import resource\n"
        "async def main():\n"
        "  await store.put('t', 'kept', b'v')\n"
        "  resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "  try:\n"
        "    await store.put('t', 'large', bytes(10**6))\n"
        "  except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "  await store.put('t', 'small', b'v')\n"
        "  print([record.key for record in await store.follow('t')])\n"
        "asyncio.run(main())\n"
    )
    told, errors = await asyncio.to_thread(program(text, folder).communicate, timeout=SECONDS)
    assert errors == ""
    assert told.startswith("StoreUnusable")
    assert "Make room there" in told
    assert told.endswith("['kept', 'small']\n")


async def test_a_full_database_is_told_and_the_transaction_is_undone(opened, folder):
    store = opened(folder)
    await store.put("t", "kept", b"v")
    await store._do(lambda database: database._connection.execute("PRAGMA max_page_count = 20").fetchone())
    with pytest.raises(StoreUnusable, match=r"full\). Make room there"):
        await store.put("t", "large", bytes(10**6))
    with pytest.raises(StoreUnusable):
        await store.put_all("t", [Entry("first", b"v"), Entry("large", bytes(10**6))])
    assert [record.key for record in await store.follow("t")] == ["kept"]
    assert await store.put("t", "small", b"v")


async def test_a_writer_that_never_ends_is_told_as_that(opened, folder, file, monkeypatch):
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.01)
    store = opened(folder)
    await store.put("t", "k", b"v")
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    assert "database is locked). Another process keeps it locked" in await refusal(store)
    connection.execute("ROLLBACK")
    connection.close()
    assert await store.put("t", "k", b"v")


async def test_a_store_that_could_not_be_opened_is_opened_once_the_cause_is_gone(opened, folder, file):
    file.mkdir(parents=True)
    store = opened(folder)
    await refusal(store)
    shutil.rmtree(file)
    assert await store.put("t", "k", b"v")


async def test_what_has_expired_leaves_the_file_by_itself(opened, folder, file):
    now = [1000.0]
    store = opened(folder, lambda: now[0])
    await store.put("t", "old", b"v", expires_at=1001.0)
    now[0] += SWEEP_SECONDS
    await store.put("t", "new", b"v")
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT key FROM records").fetchall() == [("new",)]
    connection.close()
