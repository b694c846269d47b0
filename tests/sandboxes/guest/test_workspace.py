"""The workspace: files go in before the guest lives, and come back when it is dead, whatever it left there."""

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_server.sandboxes.guest import kernel, workspace
from codex_server.sandboxes.guest.removal import remove_tree
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import encode
from codex_server.sandboxes.protocol.run import RunReport
from tests.levels import out_of_reach
from tests.tiers import examples

pytestmark = pytest.mark.unprivileged

SECRET = b"a-secret-outside-the-workspace"
Identities = dict[str, workspace.Identity]
_NO_SUCH_CALL = 9999
NOBODY = 65534
T = TypeVar("T")


@pytest.fixture(autouse=True, params=["openat2", "no openat2"])
def way_to_open(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel that has openat2, and one that has not (an older gVisor)."""
    if request.param != "openat2":
        monkeypatch.setitem(kernel._COMMON_NUMBERS, "openat2", _NO_SUCH_CALL)
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(SECRET)
    root = tmp_path / "workspace"
    root.mkdir()
    return root


def fill(root: Path, files: dict[str, bytes], **header: Any) -> tuple[dict[str, Any], Identities]:
    """Fill ``root``; the first file is the program."""
    listed = [[path, len(content)] for path, content in files.items()]
    text = json.dumps(
        {"file": next(iter(files)), "files": listed, "args": [], "argv": [], "env": {}, **header}
    ).encode()
    payload = os.memfd_create("payload")
    try:
        os.write(payload, text + b"".join(files.values()))
        request, written = workspace.fill(str(root), payload, len(text), os.geteuid())
    finally:
        os.close(payload)
    return json.loads(request), written


def report_of(listing: workspace.Listing) -> frames.Body:
    files, skipped, unlisted, _ = listing
    return encode(RunReport(0, None, None, 1.5, 0.5, 4096, 0, files, skipped, unlisted))


def without_privilege(root: Path, action: Callable[[], T]) -> T:
    """``action`` as an account that the permissions of files hold for, and that owns all below ``root``."""
    if os.geteuid():
        return action()
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        return action()
    finally:
        os.setresuid(0, 0, 0)


class Collected:
    """What came back, with the kept files' content cut apart."""

    def __init__(
        self,
        root: Path,
        written: Identities | None = None,
        one: int = 1000,
        total: int = 10_000,
        temp: Path | None = None,
    ) -> None:
        before = os.listdir("/proc/self/fd")
        opened = workspace.open_folder(str(temp)) if temp else None
        self.listing = workspace.collect(workspace.open_folder(str(root)), written or {}, one, total, opened)
        memfd = self.listing.content
        self.content = b""
        if memfd is not None:
            self.content = os.pread(memfd, 2**23, 0)
            os.close(memfd)
        assert os.listdir("/proc/self/fd") == before
        self.files: dict[str, bytes] = {}
        offset = 0
        for path, size in self.listing.files:
            self.files[path] = self.content[offset : offset + size]
            offset += size
        assert offset == len(self.content)
        for listed in (self.listing.files, self.listing.skipped):
            assert [path for path, *_ in listed] == sorted(path for path, *_ in listed)
        self.skipped = {path: (size, reason) for path, size, reason in self.listing.skipped}
        self.unlisted: int = self.listing.unlisted


def test_the_files_are_written_and_the_worker_receives_where_its_program_is(root):
    files = {"main.sh": b"echo hi", "data/deep/er.bin": bytes(range(256)) * 700, "data/empty": b""}
    request, written = fill(root, files, argv=["/bin/bash", "\0file", "x"], args=["1"], env={"A": "b"})
    for path, content in files.items():
        assert (root / path).read_bytes() == content
        assert (root / path).stat().st_mode & 0o777 == 0o644
    assert request == {
        "file": f"{root}/main.sh",
        "argv": ["/bin/bash", f"{root}/main.sh", "x"],
        "args": ["1"],
        "env": {"A": "b"},
    }
    assert set(written) == set(files)


def test_a_file_that_is_there_already_is_not_written_over_and_no_link_is_followed(root):
    fill(root, {"main.py": b"first"})
    with pytest.raises(FileExistsError):
        fill(root, {"main.py": b"second"})
    (root / "link.py").symlink_to("../secret")
    with pytest.raises(FileExistsError):
        fill(root, {"link.py": b"overwritten"})
    assert (root / "main.py").read_bytes() == b"first"
    assert (root.parent / "secret").read_bytes() == SECRET


def test_unchanged_inputs_are_passed_over_and_new_and_changed_files_come_back(root):
    _, written = fill(root, {"main.py": b"code", "kept": b"kept", "changed": b"old", "below/replaced": b"same"})
    (root / "changed").write_bytes(b"new")
    (root / "below/fresh").write_bytes(b"")
    (root / "replaced").write_bytes(b"same")
    (root / "replaced").rename(root / "below/replaced")
    back = Collected(root, written)
    assert back.files == {"changed": b"new", "below/replaced": b"same", "below/fresh": b""}
    assert (back.skipped, back.unlisted) == ({}, 0)


def test_a_change_that_keeps_size_and_time_of_writing_is_still_a_change(root):
    _, written = fill(root, {"main.py": b"code", "input": b"old"})
    before = (root / "input").stat()
    (root / "input").write_bytes(b"new")
    os.utime(root / "input", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Collected(root, written).files == {"input": b"new"}


def test_an_untouched_workspace_gives_nothing_and_no_memfd(root):
    _, written = fill(root, {"main.py": b"code"})
    (root / "folder/of/folders").mkdir(parents=True)
    listing = workspace.collect(workspace.open_folder(str(root)), written, 9, 9)
    assert listing == ((), (), 0, None)


def make_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/{path.name}")  # a socket's path may not be long
    os.close(here)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("../secret"), "it is a symbolic link"),
        (lambda path: path.symlink_to(path.parent), "it is a symbolic link"),
        (lambda path: path.symlink_to("/proc/self/fd"), "it is a symbolic link"),
        (os.mkfifo, "it is a named pipe"),
        (make_socket, "it is a socket"),
    ],
)
def test_what_is_no_regular_file_is_left_out_with_its_kind(root, make, reason):
    (root / "folder").mkdir()
    make(root / "folder/thing")
    back = Collected(root)
    assert (back.files, back.unlisted) == ({}, 0)
    assert back.skipped == {"folder/thing": (None, reason)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_left_out(root):
    try:
        os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    except PermissionError as error:
        out_of_reach("devices", error)
    assert Collected(root).skipped == {"null": (None, "it is a device")}


def test_a_file_at_the_bound_comes_back_and_one_above_it_is_left_out_unread(root):
    (root / "fits").write_bytes(b"x" * 1000)
    (root / "large").write_bytes(b"x" * 1001)
    with open(root / "sparse", "wb") as file:
        file.truncate(2**40)
    back = Collected(root)
    assert set(back.files) == {"fits"}
    reason = "it is larger than the 1000 bytes that are kept of one file"
    assert back.skipped == {
        "large": (1001, reason),
        "sparse": (2**40, reason),
    }


def test_a_large_file_is_moved_part_by_part_and_nothing_of_it_stays(root):
    content = bytes(range(251)) * 5000
    (root / "large").write_bytes(content)
    (root / "small").write_bytes(b"s")
    back = Collected(root, one=2**21, total=2**22)
    assert back.files == {"large": content, "small": b"s"}
    assert ((root / "large").stat().st_size, (root / "small").stat().st_size) == (0, 1)


def test_a_large_file_with_two_names_comes_back_under_both(root):
    content = bytes(range(251)) * 5000
    (root / "one").write_bytes(content)
    (root / "two").hardlink_to(root / "one")
    assert Collected(root, one=2**21, total=2**22).files == {"one": content, "two": content}


def test_holes_of_a_file_are_no_memory(root):
    with open(root / "holes", "wb") as file:
        file.seek(2**20)
        file.write(b"middle")
        file.truncate(2**22)
    opened = workspace.open_folder(str(root))
    listing = workspace.collect(opened, {}, 2**22, 2**22)
    assert tuple(listing.files) == (("holes", 2**22),)
    memfd = listing.content
    assert memfd is not None
    assert os.pread(memfd, 6, 2**20) == b"middle"
    assert os.fstat(memfd).st_blocks * 512 < 2**20
    os.close(memfd)


def test_all_files_together_stay_within_the_total(root):
    for number in range(7):
        (root / f"f{number}").write_bytes(b"x" * 300)
    back = Collected(root, total=1000)
    assert len(back.files) == 3
    assert set(back.skipped.values()) == {(300, "the files before it took the room that there is for files")}
    assert len(back.skipped) == 4


def test_when_not_all_fit_figures_come_first_and_then_the_smallest(root):
    for number in range(5):
        (root / f"a{number}.bin").write_bytes(b"x" * 250)
        (root / f"z{number}.txt").write_bytes(b"x" * 50)
    for name in ("plot.png", "sub.SVG", "draft.jpg"):
        (root / name).write_bytes(b"x" * 240)
    back = Collected(root, total=1000)
    assert set(back.files) == {"plot.png", "draft.jpg", "a0.bin", *(f"z{number}.txt" for number in range(5))}
    assert set(back.skipped) == {"sub.SVG", "a1.bin", "a2.bin", "a3.bin", "a4.bin"}
    alone = Collected(root, total=3000)
    assert len(alone.files) == 13


def test_figures_alone_may_take_all_the_space(root):
    for number in range(4):
        (root / f"{number}.png").write_bytes(b"x" * 240)
    assert len(Collected(root, total=1000).files) == 4


def test_which_files_come_back_does_not_depend_on_the_order_in_which_the_kernel_lists_them(root, monkeypatch):
    names = [f"{folder}f{number}" for folder in ("", "b/", "a/") for number in range(20)]
    for folder in ("a", "b"):
        (root / folder).mkdir()
    for name in names:
        (root / name).write_bytes(b"x" * 30)
    monkeypatch.setattr(workspace, "MAX_VISITED", 35)
    first = Collected(root, total=500).listing
    ask = os.scandir

    @contextlib.contextmanager
    def backwards(folder: int) -> Iterator[list[os.DirEntry[str]]]:
        with ask(folder) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(os, "scandir", backwards)
    assert Collected(root, total=500).listing[:3] == first[:3]
    assert first.unlisted == 8  # 22 are at the top, 13 of the 20 in a/ are looked at, and b/ is not


def test_what_was_left_in_the_folder_for_temporary_files_is_reported_of_and_hidden_caches_are_not(root):
    temp = root.parent / "temp"
    (temp / ".cache").mkdir(parents=True)
    (temp / "deep").mkdir()
    for name in ("out.csv", "deep/more.txt", ".cache/fonts.json", ".hidden"):
        (temp / name).write_bytes(b"12345")
    (temp / "link").symlink_to("out.csv")
    os.mkfifo(temp / "pipe")
    back = Collected(root, temp=temp)
    reason = "it is outside the workspace: write it to the current folder to get it back"
    assert back.skipped == {"/tmp/deep/more.txt": (5, reason), "/tmp/out.csv": (5, reason)}
    for number in range(30):
        (temp / f"n{number:02}").touch()
        (temp / f"deep{number:02}" / "/".join("d" * 40)).mkdir(parents=True)
    many = Collected(root, temp=temp)
    assert (len(many.skipped), many.unlisted) == (20, 42)


def test_a_multitude_of_files_is_bounded_in_number_and_the_rest_is_counted(root):
    count = 2 * workspace.MAX_LISTED + 50
    for number in range(count):
        (root / f"f{number}").touch()
    back = Collected(root)
    assert len(back.files) == len(back.skipped) == workspace.MAX_LISTED
    assert back.unlisted == 50


def test_no_more_entries_are_visited_than_the_bound(root, monkeypatch):
    monkeypatch.setattr(workspace, "MAX_VISITED", 10)
    for number in range(40):
        (root / f"f{number}").touch()
    back = Collected(root)
    assert len(back.files) == 10
    assert back.unlisted == 30


def test_the_report_of_long_names_fits_a_frame(root):
    for number in range(workspace.MAX_LISTED):
        (root / f"{number:03}{'ж' * 125}").touch()
        (root / f"{number:03}{'ж' * 125}!").symlink_to("x")
    back = Collected(root)
    assert back.unlisted
    assert len(back.files) + len(back.skipped) + back.unlisted == 2 * workspace.MAX_LISTED
    assert frames.encode(frames.Kind.RESULT, report_of(back.listing))


def test_a_tree_deeper_than_the_bound_is_left_out_from_there(root):
    inside = "/".join("d" * (workspace.MAX_DEPTH - 1))
    (root / inside / "d" / "d").mkdir(parents=True)
    (root / inside / "file").write_bytes(b"seen")
    (root / inside / "d" / "file").write_bytes(b"not seen")
    back = Collected(root)
    assert back.files == {f"{inside}/file": b"seen"}
    assert back.skipped == {f"{inside}/d": (None, f"a folder more than {workspace.MAX_DEPTH} levels deep")}


def test_a_path_too_long_for_the_kernel_is_left_out_with_the_reason(root):
    name = "n" * 255
    folder = os.open(root, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    back = Collected(root)
    ((path, (size, reason)),) = back.skipped.items()
    assert path == "/".join([name] * 17)
    assert (size, reason) == (None, "the folder cannot be opened (File name too long)")
    remove_tree(str(root))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\xff\xfe 100%", "%FF%FE%20100%25"),
        (b"line\nbreak", "line\nbreak"),
        (b'quote"\\\x01', 'quote"\\\x01'),
        (b"-rf", "-rf"),
        ("жук".encode(), "жук"),
        (b"...", "..."),
    ],
)
def test_strange_names_are_reported_as_text(root, name, shown):
    Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"content")
    assert Collected(root).files == {shown: b"content"}


@pytest.mark.parametrize("mode", [0, 0o100, 0o200, 0o300, 0o400, 0o600])
def test_what_the_program_has_locked_is_read_all_the_same(root, mode):
    (root / "file").write_bytes(b"x")
    (root / "folder").mkdir()
    (root / "folder" / "inner").write_bytes(b"y")
    top = workspace.open_folder(str(root))
    for name in ("file", "folder/inner"):
        (root / name).chmod(0)
    for name in ("folder", ""):
        (root / name).chmod(mode)
    listing = without_privilege(root, lambda: workspace.collect(top, {}, 100, 100))
    assert listing.content is not None
    assert sorted(listing.files) == [("file", 1), ("folder/inner", 1)]
    assert sorted(os.pread(listing.content, 100, 0)) == [*b"xy"]
    assert listing.skipped == ()
    os.close(listing.content)


def test_an_entry_that_cannot_be_looked_at_is_left_out_and_the_rest_comes_back(root, monkeypatch):
    (root / "file").write_bytes(b"x")
    (root / "strange").write_bytes(b"y")
    ask = os.stat

    def refuse(path: Any, **how: Any) -> os.stat_result:
        if path == "strange":
            raise PermissionError(13, "Permission denied")
        return ask(path, **how)

    monkeypatch.setattr(os, "stat", refuse)
    (root.parent / "temp").mkdir()
    (root.parent / "temp" / "strange").write_bytes(b"z")
    back = Collected(root, temp=root.parent / "temp")
    assert back.files == {"file": b"x"}
    assert back.skipped.pop("/tmp/strange")[0] is None
    assert back.skipped == {"strange": (None, "it cannot be looked at (Permission denied)")}


def test_the_workspace_is_read_where_it_was_opened_even_when_its_name_leads_elsewhere(root):
    (root / "result").write_bytes(b"ours")
    top = workspace.open_folder(str(root))
    root.rename(root.parent / "moved")
    root.symlink_to(root.parent)
    listing = workspace.collect(top, {}, 100, 100)
    assert listing.content is not None
    assert listing.files == (("result", 4),)
    assert os.pread(listing.content, 100, 0) == b"ours"
    os.close(listing.content)


def test_a_workspace_that_is_a_link_is_not_opened(root):
    (root.parent / "link").symlink_to(root)
    with pytest.raises(OSError, match="link"):
        workspace.open_folder(str(root.parent / "link"))


NAMES = st.one_of(
    st.binary(min_size=1, max_size=6).map(lambda name: name.translate(bytes.maketrans(b"/\0", b"__"))),
    st.sampled_from([b"a", b"b", b"x" * 255, b"..."]),
).filter(lambda name: name not in (b".", b".."))
LINKS = st.sampled_from(["../secret", "../../secret", "..", ".", "a", "/", "/proc/self/root", "/etc/passwd", "x" * 300])
FILES = st.binary(max_size=40).map(lambda content: ("file", content))
OTHERS = st.just(("fifo", None)) | st.just(("socket", None)) | LINKS.map(lambda target: ("link", target))
TREES = st.recursive(
    FILES | OTHERS,
    lambda inner: st.dictionaries(NAMES, inner, max_size=5).map(lambda below: ("folder", below)),
    max_leaves=20,
)


def build(parent: int, name: bytes, what: tuple[str, Any]) -> int:
    """Make one entry of a hostile tree; how many entries that are no folders it holds."""
    kind, value = what
    if kind == "file":
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=parent)
        os.write(target, value)
        os.close(target)
    elif kind == "link":
        os.symlink(value, name, dir_fd=parent)
    elif kind == "fifo":
        os.mkfifo(name, dir_fd=parent)
    elif kind == "socket":
        os.mknod(name, 0o140600, dir_fd=parent)
    else:
        os.mkdir(name, dir_fd=parent)
        folder = os.open(name, os.O_RDONLY, dir_fd=parent)
        count = sum(build(folder, inner, below) for inner, below in value.items())
        os.close(folder)
        return count
    return 1


@contextlib.contextmanager
def hostile(tree: dict[bytes, Any]) -> Iterator[tuple[Path, int]]:
    """A workspace with ``tree`` in it, beside a secret; and how many entries it has that are no folders."""
    with tempfile.TemporaryDirectory() as outer:
        (Path(outer) / "secret").write_bytes(SECRET)
        root = Path(outer) / "workspace"
        root.mkdir()
        folder = os.open(root, os.O_RDONLY)
        try:
            yield root, sum(build(folder, name, what) for name, what in tree.items())
        finally:
            os.close(folder)
            remove_tree(str(root))


@settings(max_examples=examples(80))
@given(st.dictionaries(NAMES, TREES, max_size=6), st.integers(0, 50), st.integers(0, 200))
def test_a_hostile_tree_is_reported_whole_and_nothing_outside_it_is_read(tree, one, total):
    with hostile(tree) as (root, count):
        back = Collected(root, one=one, total=total)
    reported = [*back.listing.files, *back.listing.skipped]
    assert len(reported) + back.unlisted == count
    assert len(back.content) <= total
    assert all(size <= one for _, size in back.listing.files)
    assert SECRET not in back.content
    assert frames.encode(frames.Kind.RESULT, report_of(back.listing))


def test_an_input_that_is_changed_within_the_tick_of_the_clock_in_which_it_was_written_comes_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel's clock for files moves every few milliseconds, both changes have one and the same ctime."""
    _, written = fill(root, {"main.py": b"0", "data": b"before"})
    (root / "data").write_bytes(b"afterw")

    def stopped(status: os.stat_result) -> workspace.Identity:
        return (*identity(status)[:2], 0, *identity(status)[3:])

    identity = workspace.identity
    monkeypatch.setattr(workspace, "identity", stopped)
    within_one_tick = {path: (*known[:2], 0, *known[3:]) for path, known in written.items()}
    assert Collected(root, within_one_tick).files == {"data": b"afterw"}
