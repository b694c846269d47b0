"""Files that a caller works on: what counts as read, and replies of a guest that lies."""

import asyncio
import os

import pytest

from codex_server.errors import InputRefused, SandboxFault, SandboxUnavailable, StorageFull, TooLarge
from codex_server.file_errors import EditRefused, FileChanged, FileConflict, FileRefused, UnknownPath
from codex_server.sandboxes.files.workspace import tag_of_content
from codex_server.sandboxes.session import SessionPlan
from codex_server.sandboxes.testing.fake_session import FakeSession
from codex_server.service import file_space
from codex_server.service.file_schemas import (
    ArchiveRequest,
    CombineRequest,
    DeleteRequest,
    EditBlock,
    EditRequest,
    ExtractRequest,
    FileFacts,
    ReadRequest,
    SearchRequest,
    TransferRequest,
)
from codex_server.service.file_space import FileSpace, SeenFiles
from codex_server.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def session():
    return FakeSession(SessionPlan("ses_1", Settings().ceilings, ()), lambda name: asyncio.Event(), [])


@pytest.fixture
def space(session):
    return FileSpace(session, SeenFiles(), 10 * 2**20, 10_000)


async def pieces(*chunks):
    for chunk in chunks:
        yield chunk


async def write(space, path, *chunks, **given):
    return await space.write(
        path, pieces(*chunks), **({"if_match": None, "only_new": False, "overwrite": False} | given)
    )


async def content(space, path, offset=0, length=10**9):
    facts = await space.stat(path)
    return b"".join([piece async for piece in space.content(facts, offset, length)])


async def test_a_file_that_was_not_read_is_not_overwritten(space, session):
    session.files["a"] = b"x" * 3000
    with pytest.raises(FileConflict) as conflict:
        await write(space, "a", b"new")
    assert conflict.value.facts["unread"] == "x" * 2000
    tag = conflict.value.facts["etag"]
    await content(space, "a", 0, 2999)
    await content(space, "a", 1)
    await space.read(ReadRequest(paths=["a:2-"]))
    with pytest.raises(FileConflict):
        await write(space, "a", b"new")
    with pytest.raises(FileChanged):
        await write(space, "a", b"new", if_match="0")
    assert session.files["a"] == b"x" * 3000
    await write(space, "a", b"by tag", if_match=tag)
    await write(space, "a", b"what was written is known")
    await write(space, "b", b"new", only_new=True)
    with pytest.raises(FileConflict):
        await write(space, "b", b"newer", only_new=True)
    session.files["b"] = b"changed"
    with pytest.raises(FileConflict):
        await write(space, "b", b"newer")
    await write(space, "b", b"newest", overwrite=True)
    assert session.files == {"a": b"what was written is known", "b": b"newest"}


@pytest.mark.parametrize("asked", ["a", "a:1-3", "a:1-", "a:0-99"])
async def test_a_file_that_was_read_whole_may_be_overwritten(space, session, asked):
    session.files["a"] = b"1\n2\n3\n"
    await space.read(ReadRequest(paths=[asked]))
    await write(space, "a", b"new")
    session.files["a"] = b"changed since"
    with pytest.raises(FileConflict):
        await write(space, "a", b"newer")


@pytest.mark.parametrize("asked", ["a:1-2", "a:2-3", "a:7-9"])
async def test_some_lines_of_a_file_are_not_all_of_it(space, session, asked):
    session.files["a"] = b"1\n2\n3\n"
    assert (await space.read(ReadRequest(paths=[asked]))).files[0].error is None
    with pytest.raises(FileConflict):
        await write(space, "a", b"new")


async def test_an_empty_file_is_read_when_it_is_read(space, session):
    session.files["a"] = b""
    await space.read(ReadRequest(paths=["a"]))
    await write(space, "a", b"new")


async def test_a_file_that_is_made_while_its_first_content_comes_is_kept(space, session):
    async def slow():
        yield b"mine"
        await asyncio.sleep(0)
        session.files["a"] = b"the guest's"
        yield b"mine"

    with pytest.raises(FileConflict):
        await space.write("a", slow(), if_match=None, only_new=False, overwrite=False)
    assert session.files["a"] == b"the guest's"


async def test_an_edit_makes_known_only_what_was_known_before(space, session):
    edits = [EditBlock(search="1", replace="2")]
    session.files |= {"a": b"1", "b": b"1"}
    await space.read(ReadRequest(paths=["a", "b"]))
    session.files["b"] = b"1 and what nobody has read"
    for path in "ab":
        await space.edit(EditRequest(path=path, edits=edits))
    await write(space, "a", b"new")
    with pytest.raises(FileConflict):
        await write(space, "b", b"new")


async def test_what_is_known_moves_and_goes_with_its_file(space, session):
    session.files["a"] = b"1"
    await content(space, "a")
    await space.move(TransferRequest(path="a", to="b"))
    await write(space, "b", b"new")
    await space.delete(DeleteRequest(path="b"))
    session.files["b"] = b"new"
    with pytest.raises(FileConflict):
        await write(space, "b", b"newer")


async def test_files_are_combined_packed_and_taken_out_only_over_what_may_be_replaced(space, session):
    session.files |= {"a": b"1", "all": b"mine", "out.zip": b"mine", "x/a": b"mine"}
    with pytest.raises(FileConflict):
        await space.combine(CombineRequest(paths=["a"], to="all"))
    with pytest.raises(FileConflict):
        await space.archive(ArchiveRequest(paths=["a"], to="out.zip"))
    await space.combine(CombineRequest(paths=["a", "a"], to="all", overwrite=True))
    await space.archive(ArchiveRequest(paths=["a"], to="out.zip", overwrite=True))
    with pytest.raises(FileConflict):
        await space.extract(ExtractRequest(path="out.zip", to="x"))
    assert (session.files["all"], session.files["x/a"]) == (b"11", b"mine")
    await space.extract(ExtractRequest(path="out.zip", to="x", overwrite=True))
    assert session.files["x/a"] == b"1"
    await write(space, "all", b"what was made is known")


async def test_a_large_file_is_read_piece_by_piece_and_only_as_it_was(space, session):
    session.files["a"] = os.urandom(6 * 2**20)
    facts = await space.stat("a")
    reading = space.content(facts, 0, facts.size)
    assert len(await anext(reading)) == 4 * 2**20
    session.files["a"] = os.urandom(6 * 2**20)
    with pytest.raises(FileChanged):
        await anext(reading)


async def test_what_was_a_link_is_not_read_as_the_file_that_is_there_by_now(space, session):
    link = FileFacts(path="a", type="link", size=len("/etc/passwd"), modified=1.0)
    session.files["a"] = b"content of ours"
    with pytest.raises(FileConflict, match="link"):
        await anext(space.content(link, 0, link.size))


async def test_what_is_shown_of_an_unread_file_belongs_to_its_tag(space, session, monkeypatch):
    session.files["a"] = b"old"
    whole = FakeSession.operate

    async def operate(self, request, content, output):
        if request["operation"] == "read":
            self.files["a"] = b"changed"
        return await whole(self, request, content, output)

    monkeypatch.setattr(FakeSession, "operate", operate)
    with pytest.raises(FileConflict) as conflict:
        await write(space, "a", b"new")
    assert conflict.value.facts == {"etag": tag_of_content(b"changed"), "unread": "changed"}


async def test_a_folder_or_a_link_is_not_overwritten(space, session):
    session.files["d/a"] = b""
    with pytest.raises(FileConflict, match="folder"):
        await write(space, "d", b"x")


async def test_too_much_content_is_refused_and_the_rest_is_not_awaited(session):
    small = FileSpace(session, SeenFiles(), 1000, 10_000)
    with pytest.raises(TooLarge):
        await write(small, "a", b"x" * 900, b"x" * 101)
    assert session.files == {}


class Liar:
    """Replies so to every operation, after it has sent ``output``."""

    def __init__(self, reply, output=b""):
        self.reply = reply
        self.output = output
        self.asked = []

    async def operate(self, request, source, output):
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.output:
            output(self.output)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


FACTS = {"path": "a", "type": "file", "size": 3, "modified": 1.0, "etag": "abc"}


def lied_to(reply, output=b""):
    return FileSpace(Liar(reply, output), SeenFiles(), 1000, 10_000)


@pytest.mark.parametrize(
    "change",
    [
        {"etag": 'a"\r\nSet-Cookie: x=y'},
        {"etag": "\u20ac"},
        {"etag": "a" * 5000},
        {"etag": None},
        {"etag": "\n"},
        {"etag": "abc\n"},
        {"size": -1},
        {"size": "three"},
        {"modified": float("nan")},
        {"modified": float("inf")},
        {"type": "device"},
        {"path": 7},
        {"path": "\ud800"},
    ],
)
async def test_facts_that_make_no_sense_are_a_fault(change):
    with pytest.raises(SandboxFault, match="makes no sense"):
        await lied_to({"ok": FACTS | change}).stat("a")


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"ok": None},
        {"ok": []},
        {"error": "no"},
        {"error": {"code": 7, "detail": "x"}},
        {"error": {"code": "changed", "detail": "x", "etag": "\ud800"}},
        {"error": {"code": "changed", "detail": "x", "etag": {"deep": []}}},
        {"error": {"code": "no-match", "detail": "x", "closest": {"line": 1, "text": "x" * 10**6}}},
        {"error": {"code": "ambiguous", "detail": "x", "lines": list(range(10**4))}},
    ],
)
async def test_a_reply_of_no_shape_is_a_fault(reply):
    with pytest.raises(SandboxFault, match="makes no sense"):
        await lied_to(reply).stat("a")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("not-found", UnknownPath),
        ("exists", FileConflict),
        ("not-empty", FileConflict),
        ("changed", FileChanged),
        ("ambiguous", EditRefused),
        ("no-match", EditRefused),
        ("too-large", TooLarge),
        ("no-space", StorageFull),
        ("link", FileRefused),
        ("never heard of", FileRefused),
    ],
)
async def test_a_refusal_has_its_error_and_its_detail_an_end(code, error):
    with pytest.raises(error) as refused:
        await lied_to({"error": {"code": code, "detail": "\ud800" + "x" * 10**5, "other": "\ud800"}}).stat("a")
    assert len(str(refused.value)) <= 4000
    assert str(refused.value).encode()


@pytest.mark.parametrize("output", [b"", b"12", b"four"])
async def test_content_that_is_shorter_or_longer_than_was_said_is_a_fault(output):
    space = lied_to({"ok": FACTS}, output)
    with pytest.raises(SandboxFault):
        await content(space, "a")


async def test_a_guest_does_not_choose_which_path_is_read_or_known():
    space = lied_to({"ok": FACTS | {"path": "other"}}, b"123")
    assert await content(space, "a") == b"123"
    assert {request["path"] for request in space.files.asked} == {"a"}
    assert space.seen.tags == {"a": "abc"}
    lie = {"path": "p" * 5000, "content": "", "lines": [1, 1], "total_lines": 1, "etag": "abc"}
    space = lied_to({"ok": {"files": [lie] * 3}})
    await space.read(ReadRequest(paths=["a"]))
    assert space.seen.tags == {}


async def test_what_is_kept_of_files_has_an_end(monkeypatch):
    monkeypatch.setattr(file_space, "_MOST_ENTRIES", 2)
    seen = SeenFiles()
    for path in "abc":
        seen.note(path, "1")
    seen.note("a", "2")
    assert seen.tags == {"a": "2", "b": "1"}


async def test_the_unread_part_of_a_file_has_an_end():
    space = lied_to({"ok": FACTS}, b"x" * 10**6)
    with pytest.raises(FileConflict) as conflict:
        await write(space, "a", b"new")
    assert len(conflict.value.facts["unread"]) == 2000


async def test_content_for_an_operation_that_never_began_is_not_awaited_for_ever():
    space = lied_to(SandboxUnavailable("gone"))
    with pytest.raises(SandboxUnavailable):
        async with asyncio.timeout(20):
            await write(space, "a", *[b"x" * 2**18] * 20, overwrite=True)


async def test_a_body_that_breaks_off_cancels_its_operation():
    ended = asyncio.Event()

    class Slow:
        async def operate(self, request, source, output):
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    async def broken():
        yield b"half"
        await asyncio.sleep(0)
        raise ConnectionResetError

    space = FileSpace(Slow(), SeenFiles(), 1000, 1000)
    with pytest.raises(ConnectionResetError):
        await space.write("a", broken(), if_match=None, only_new=False, overwrite=True)
    assert ended.is_set()


async def test_a_search_is_passed_on_and_its_matches_returned(space, session):
    session.files["a.py"] = b"needle\n"
    found = await space.search(SearchRequest(pattern="needle", glob="*.py", max_results=5))
    assert [(match.path, match.line, match.text) for match in found.matches] == [("a.py", 1, "needle")]


async def test_content_is_taken_as_fast_as_it_is_read_and_no_faster():
    from codex_server.sandboxes.stdin import StandardInput

    source = StandardInput(keep_open=True)
    feeding = asyncio.ensure_future(source.feed(bytes(3 * 2**20)))
    most = taken = 0
    while taken < 3 * 2**20:
        await asyncio.sleep(0)
        waiting = len(source.peek(2**30))
        most, taken = max(most, waiting), taken + waiting
        source.take(waiting)
    await feeding
    assert most <= 2**20
    source.abandon()
    with pytest.raises(InputRefused):
        await source.feed(b"x")
