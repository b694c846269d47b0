"""Operations on files in real sessions: beside a cell, against a guest that interferes, and when they are cancelled."""

import asyncio
import os
from hashlib import sha256

import pytest

from codex_server.errors import CodexError, SandboxFault
from codex_server.file_errors import FileRefused
from codex_server.sandboxes.stdin import StandardInput
from codex_server.service.file_schemas import (
    ArchiveRequest,
    DeleteRequest,
    EditBlock,
    EditRequest,
    ExtractRequest,
    ReadRequest,
    SearchRequest,
    TransferRequest,
)
from codex_server.service.file_space import FileSpace, SeenFiles
from tests.contract.harness import Harness
from tests.contract.sessions import Cells, opened, until

LARGE = 20 * 2**20
_INTERFERE = """
import os, time
os.makedirs("d/sub", exist_ok=True)
open("d/sub/a", "w").write("inside")
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    for way in ("/etc", "..", "/proc/self", "/nowhere"):
        try:
            os.rename("d", "e"); os.symlink(way, "d"); os.unlink("d"); os.rename("e", "d")
            os.rename("d/sub/a", "d/sub/b"); os.symlink("/etc/passwd", "d/sub/a"); os.unlink("d/sub/a")
            os.rename("d/sub/b", "d/sub/a")
        except OSError:
            os.makedirs("d/sub", exist_ok=True)
            open("d/sub/a", "a").close()
"""


def space_of(cells: Cells) -> FileSpace:
    return FileSpace(cells.session, SeenFiles(), 64 * 2**20, 100_000)


async def write(space: FileSpace, path: str, *chunks: bytes, overwrite: bool = False) -> object:
    async def body():
        for chunk in chunks:
            yield chunk

    return await space.write(path, body(), if_match=None, only_new=False, overwrite=overwrite)


async def read(space: FileSpace, path: str) -> bytes:
    facts = await space.stat(path)
    return b"".join([piece async for piece in space.content(facts, 0, facts.size)])


async def paths(space: FileSpace) -> list[str]:
    page = await space.tree(path="", depth=32, glob=None, cursor="", limit=1000)
    return [entry.path for entry in page.entries]


def test_20_megabytes_are_written_and_read_byte_for_byte(harness: Harness) -> None:
    with opened(harness) as cells:
        space, data = space_of(cells), os.urandom(LARGE)
        chunks = [data[start : start + 2**18] for start in range(0, LARGE, 2**18)]
        harness.wait(write(space, "in/large.bin", *chunks))
        code = "import hashlib; print(hashlib.sha256(open('in/large.bin', 'rb').read()).hexdigest())"
        assert cells.shown(code).strip() == sha256(data).hexdigest()
        assert harness.wait(read(space, "in/large.bin")) == data


def test_every_operation_works_as_the_programs_user(harness: Harness) -> None:
    with opened(harness) as cells:
        space = space_of(cells)

        async def work() -> None:
            await write(space, "d/a.py", b"x = 1\n")
            edited = await space.edit(EditRequest(path="d/a.py", edits=[EditBlock(search="1", replace="2")]))
            assert edited.applied[0].match == "exact"
            assert (await space.read(ReadRequest(paths=["d/a.py"]))).files[0].content == "x = 2\n"
            assert (await space.search(SearchRequest(pattern="x ="))).matches[0].path == "d/a.py"
            await space.copy(TransferRequest(path="d", to="e/copy"))
            await space.move(TransferRequest(path="e/copy/a.py", to="moved/deep/b.py"))
            await space.archive(ArchiveRequest(paths=["d", "moved"], to="out.tar.gz", format="tar.gz"))
            taken = await space.extract(ExtractRequest(path="out.tar.gz", to="x"))
            assert taken.files == ["x/d/a.py", "x/moved/deep/b.py"]
            await space.delete(DeleteRequest(path="x", recursive=True))
            assert await paths(space) == [
                "d",
                "d/a.py",
                "e",
                "e/copy",
                "moved",
                "moved/deep",
                "moved/deep/b.py",
                "out.tar.gz",
            ]

        harness.wait(work())
        assert cells.shown("import os; open('d/a.py', 'a').write('y'); os.rmdir('e/copy'); print('own')") == "own\n"


def test_operations_run_beside_a_cell(harness: Harness) -> None:
    with opened(harness) as cells:
        space = space_of(cells)

        async def work(_: object) -> None:
            await write(space, "go.txt", b"go")
            assert await read(space, "go.txt") == b"go"

        code = "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.01)\nprint(open('go.txt').read())"
        assert cells.while_running(lambda: cells.submit(code), work).stdout.text == "go\n"


def test_a_guest_that_swaps_links_gets_nothing_from_outside_and_breaks_nothing(harness: Harness) -> None:
    interfere(harness, seconds=1.0)


@pytest.mark.tier("nightly")
@pytest.mark.timeout(300)
def test_a_guest_that_swaps_links_for_a_minute_gets_nothing_from_outside(harness: Harness) -> None:
    for _ in range(4):
        interfere(harness, seconds=15.0)


def interfere(harness: Harness, *, seconds: float) -> None:
    """Carry out every operation while the guest renames and swaps what it is about."""
    with opened(harness) as cells:
        space, kept = space_of(cells), b"content of ours"

        async def work(run) -> None:
            ended = asyncio.ensure_future(run.outcome())
            while not ended.done():
                for attempt in (
                    write(space, "d/sub/a", kept, overwrite=True),
                    read(space, "d/sub/a"),
                    paths(space),
                    space.search(SearchRequest(pattern="root:")),
                    space.copy(TransferRequest(path="d", to="copy")),
                    space.archive(ArchiveRequest(paths=["d"], to="all.zip", overwrite=True)),
                    space.extract(ExtractRequest(path="all.zip", to="out", overwrite=True)),
                    space.delete(DeleteRequest(path="copy", recursive=True)),
                    space.delete(DeleteRequest(path="out", recursive=True)),
                ):
                    try:
                        found = await attempt
                    except SandboxFault:
                        raise
                    except CodexError:  # refused: the guest was faster
                        continue
                    if isinstance(found, bytes):
                        assert found in (kept, b"inside", b"")
                    assert not getattr(found, "matches", None)

        code = _INTERFERE.format(seconds=seconds)
        outcome = cells.while_running(lambda: cells.submit(code, limits={"wall_seconds": 30.0}), work)
        assert outcome.exit_code == 0, outcome.stderr.text
        assert harness.wait(written_anew(space)) == b"still usable"
        assert [path for path in harness.wait(paths(space)) if ".new-" in path] == []


async def written_anew(space: FileSpace) -> bytes:
    await write(space, "anew.txt", b"still usable", overwrite=True)
    return await read(space, "anew.txt")


def test_an_operation_that_is_cancelled_leaves_nothing_and_the_session_usable(harness: Harness) -> None:
    with opened(harness) as cells:
        space = space_of(cells)
        harness.wait(write(space, "a.txt", b"old"))

        async def cancel() -> None:
            half = asyncio.Event()

            async def body():
                yield b"half" * 1000
                half.set()
                await asyncio.Event().wait()

            work = asyncio.ensure_future(space.write("a.txt", body(), if_match=None, only_new=False, overwrite=True))
            await half.wait()
            work.cancel()
            await asyncio.wait([work])
            assert work.cancelled()

        x = cells.run("x = 1")
        assert x.exit_code == 0
        for _ in range(3):
            harness.wait(cancel())
            assert harness.wait(read(space, "a.txt")) == b"old"
            assert harness.wait(paths(space)) == ["a.txt"]
        assert cells.shown("print(x)") == "1\n"


_FIND = """
import os, signal
own = os.getpid()
found = []
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) not in (1, own):
        try:
            fields = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if os.stat(f"/proc/{name}").st_uid == os.getuid() and fields[0] != "Z":
            found.append(int(name))
"""


def test_a_guest_that_kills_the_worker_of_operations_has_another_one(harness: Harness) -> None:
    with opened(harness) as cells:
        space = space_of(cells)
        harness.wait(write(space, "a.txt", b"kept"))
        code = _FIND + "for pid in found:\n    os.kill(pid, signal.SIGKILL)\nprint(len(found))"
        killed = cells.run(code)
        if killed.exit_code or killed.stdout.text == "0\n":
            pytest.skip("a program sees no other process here")

        async def again() -> bytes:
            try:
                return await read(space, "a.txt")
            except SandboxFault:  # the first one to notice may be the one that is lost
                return await read(space, "a.txt")

        assert harness.wait(again()) == b"kept"
        assert harness.wait(written_anew(space)) == b"still usable"


def test_a_guest_that_stops_the_worker_of_operations_stops_no_cancelled_one(harness: Harness) -> None:
    with opened(harness) as cells:
        space = space_of(cells)
        harness.wait(write(space, "a.txt", b"kept"))
        stopped = cells.run(_FIND + "for pid in found:\n    os.kill(pid, signal.SIGSTOP)\nprint(len(found))")
        if stopped.exit_code or stopped.stdout.text == "0\n":
            pytest.skip("a program sees no other process here")

        async def impatient() -> bool:
            work = asyncio.ensure_future(space.stat("a.txt"))
            await asyncio.wait([work], timeout=1)
            if not work.done():  # it is stopped: what waits for it gives up, and it is killed
                work.cancel()
                await asyncio.wait([work])
            return work.cancelled()

        harness.wait(impatient())
        assert harness.wait(written_anew(space)) == b"still usable"


def test_a_quota_of_the_session_bounds_what_is_written(harness: Harness) -> None:
    with opened(harness, file_bytes=100_000) as cells:
        space = space_of(cells)
        with pytest.raises(CodexError) as refused:
            harness.wait(write(space, "a", *[bytes(2**16)] * 4))
        assert refused.value.slug == "too-large"
        assert harness.wait(paths(space)) == []


def test_links_and_devices_are_refused(harness: Harness) -> None:
    with opened(harness) as cells:
        space = space_of(cells)
        cells.run("import os; os.symlink('/etc', 'way'); os.symlink('/etc/passwd', 'last'); os.mkfifo('pipe')")
        for path in ("way/passwd", "last", "pipe"):
            with pytest.raises((FileRefused, CodexError)):
                harness.wait(read_now(space, path))


async def read_now(space: FileSpace, path: str) -> bytes:
    found = bytearray()
    reply = await space.files.operate(
        {"operation": "read", "path": path}, StandardInput(), lambda chunk: found.extend(chunk) is None
    )
    assert "error" in reply, bytes(found)
    raise FileRefused(str(reply["error"]))


def test_an_upload_waits_for_a_guest_that_does_not_read(harness: Harness) -> None:
    with opened(harness) as cells:
        source = StandardInput(keep_open=True)

        async def fed() -> int:
            feeding = asyncio.ensure_future(source.feed(bytes(4 * 2**20)))
            await until(lambda: len(source.peek(2**30)) >= 2**19)
            waiting = len(source.peek(2**30))
            request = {"operation": "write", "path": "a", "most": 2**30}
            work = asyncio.ensure_future(cells.session.operate(request, source, lambda _: True))
            await feeding
            source.close()
            assert (await work)["ok"]["size"] == 4 * 2**20
            return waiting

        assert harness.wait(fed()) <= 2**20
