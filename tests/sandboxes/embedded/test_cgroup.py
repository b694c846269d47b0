"""Cgroups of both versions: against folders that look like them, and against the kernel's where it lets us."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.limits import Limits
from codex_server.sandboxes.embedded import cgroup
from codex_server.sandboxes.embedded.cgroup import (
    CgroupsUnavailable,
    CgroupTree,
    CgroupUsage,
    Layout,
    SlotCgroup,
    open_tree,
)
from tests.levels import out_of_reach

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]

MIB = 2**20
LIMITS = Limits(memory_bytes=64 * MIB, processes=7)
V2 = [
    (
        "cgroup.procs",
        "memory.max",
        "memory.swap.max",
        "memory.current",
        "memory.peak",
        "memory.events",
        "pids.max",
        "cpu.stat",
    )
]
PEAKS = [("v1", "memory.usage_in_bytes", "memory.max_usage_in_bytes"), ("v2", "memory.current", "memory.peak")]
V1 = [
    (
        "cgroup.procs",
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
    ),
    ("cgroup.procs", "pids.max"),
    ("cgroup.procs", "cpuacct.usage", "cpuacct.stat"),
]


class FakeFolders:
    """The folders of one slot, with the files that the kernel would put there."""

    def __init__(self, parent: Path, kinds: list[tuple[str, ...]]) -> None:
        self.paths = [parent / str(number) for number in range(len(kinds))]
        self.slot = SlotCgroup(self.paths, Layout())
        for path, names in zip(self.paths, kinds, strict=True):
            for name in names:
                (path / name).touch()

    def say(self, name: str, text: str) -> None:
        """What the kernel answers when ``name`` is read."""
        next(path for path in self.paths if (path / name).exists()).joinpath(name).write_text(text)

    def written(self) -> dict[str, str]:
        """What was written, by file name."""
        files = [file for path in self.paths for file in path.iterdir()]
        return {file.name: file.read_text() for file in files if file.read_text()}

    def empty(self) -> None:
        """The kernel's files do not keep a folder from being removed."""
        for path in self.paths:
            for file in path.iterdir():
                file.unlink()


@pytest.fixture
def v2(tmp_path):
    return FakeFolders(tmp_path, V2)


@pytest.fixture
def v1(tmp_path):
    return FakeFolders(tmp_path, V1)


def test_version_2_bounds_memory_without_swap_and_processes(v2):
    v2.slot.limit(LIMITS)
    assert v2.written() == {"memory.max": str(64 * MIB), "memory.swap.max": "0", "pids.max": "8"}


def test_version_1_bounds_memory_with_swap_and_processes(v1):
    v1.slot.limit(LIMITS)
    bound = str(64 * MIB)
    assert v1.written() == {"memory.limit_in_bytes": bound, "memory.memsw.limit_in_bytes": bound, "pids.max": "8"}


def test_a_kernel_that_does_not_count_swap_is_bounded_all_the_same(tmp_path):
    folders = FakeFolders(tmp_path, [tuple(name for name in V2[0] if name != "memory.swap.max")])
    folders.slot.limit(LIMITS)
    assert folders.written() == {"memory.max": str(64 * MIB), "pids.max": "8"}


def test_version_2_reports_what_was_used_since_the_beginning(v2):
    v2.say("cpu.stat", "usage_usec 250000\nuser_usec 200000\nsystem_usec 50000\n")
    v2.slot.begin()
    v2.say("cpu.stat", "usage_usec 1750000\nuser_usec 1600000\nsystem_usec 150000\n")
    v2.say("memory.peak", f"{5 * MIB}\n")
    v2.say("memory.events", "low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 9\n")
    assert v2.slot.usage() == CgroupUsage(1.5, 5 * MIB, 3)


def test_version_1_reports_what_was_used_since_the_beginning(v1):
    v1.say("cpuacct.usage", "1000000000\n")
    v1.slot.begin()
    v1.say("cpuacct.usage", "3500000000\n")
    v1.say("memory.max_usage_in_bytes", f"{7 * MIB}\n")
    v1.say("memory.oom_control", "oom_kill_disable 0\nunder_oom 1\noom_kill 2\n")
    assert v1.slot.usage() == CgroupUsage(2.5, 7 * MIB, 2)


@pytest.mark.parametrize(("kind", "current", "peak"), PEAKS)
def test_the_peak_is_set_back_for_the_next_program(request, kind, current, peak):
    folders = request.getfixturevalue(kind)
    folders.say(current, f"{5 * MIB}")
    folders.say("cpu.stat" if kind == "v2" else "cpuacct.usage", "0")
    folders.slot.note_new("")
    assert folders.slot.resettable
    folders.say(peak, f"{90 * MIB}\n")
    assert folders.slot.usage().peak_memory_bytes == 90 * MIB
    folders.say(current, f"{6 * MIB}")
    assert folders.slot.reset("")
    folders.say(peak, f"{6 * MIB}\n")
    assert folders.slot.usage().peak_memory_bytes == 6 * MIB
    folders.empty()
    folders.slot._remove()


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_what_is_read_at_each_execution_is_opened_once_and_closed_with_the_slot(request, kind, monkeypatch):
    folders = request.getfixturevalue(kind)
    folders.say("cpu.stat" if kind == "v2" else "cpuacct.usage", "0")
    opened: list[int] = []
    open_file = os.open
    monkeypatch.setattr(os, "open", lambda *args: opened.append(open_file(*args)) or opened[-1])
    for name in ("memory.current", "memory.peak") if kind == "v2" else PEAKS[0][1:]:
        folders.say(name, "1")
    opened.clear()
    for _ in range(3):
        folders.slot.begin()
        folders.slot.usage()
    assert len(opened) == 3
    folders.empty()
    folders.slot._remove()
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_slot_that_holds_more_than_a_new_one_is_not_empty(v1):
    v1.say("memory.usage_in_bytes", f"{5 * MIB}")
    v1.slot.note_new("")
    v1.slot.note_new("node")
    v1.say("memory.usage_in_bytes", f"{10 * MIB}")
    assert not v1.slot.reset("")
    assert not v1.slot.reset("a program that no new slot was armed with")
    v1.empty()
    v1.slot._remove()


def test_what_a_new_slot_uses_is_known_for_each_program_and_shared_by_all_slots(v1):
    v1.say("memory.usage_in_bytes", f"{5 * MIB}")
    v1.slot.note_new("")
    v1.say("memory.usage_in_bytes", f"{12 * MIB}")
    v1.slot.note_new("node")
    assert v1.slot.reset("node")
    assert not v1.slot.reset("")
    v1.empty()
    v1.slot._remove()


def test_a_kernel_that_cannot_set_the_peak_back_has_slots_that_serve_once(tmp_path):
    folders = FakeFolders(tmp_path, [("cgroup.procs", "memory.max", "memory.current", "pids.max", "cpu.stat")])
    folders.say("memory.current", "1")
    folders.slot.note_new("")
    assert not folders.slot.resettable


def test_looser_limits_are_written_in_the_order_that_the_kernel_wants(v1, monkeypatch):
    wider = replace(LIMITS, memory_bytes=LIMITS.memory_bytes * 2)
    v1.slot.limit(LIMITS)
    written: list[str] = []
    monkeypatch.setattr(cgroup, "_write", lambda file, value: written.append(file.rpartition("/")[2]))
    v1.slot.limit(LIMITS)
    assert written == []
    v1.slot.limit(wider)
    assert written.index("memory.memsw.limit_in_bytes") < written.index("memory.limit_in_bytes")
    written.clear()
    v1.slot.limit(LIMITS)
    assert written.index("memory.limit_in_bytes") < written.index("memory.memsw.limit_in_bytes")


def test_a_kernel_that_keeps_no_peak_and_no_count_says_so(tmp_path):
    folders = FakeFolders(tmp_path, [("cgroup.procs", "memory.max", "pids.max", "cpu.stat")])
    folders.say("cpu.stat", "nothing known\n")
    folders.slot.begin()
    assert folders.slot.usage() == CgroupUsage(0.0, None, 0)


def test_the_descriptors_write_to_every_folders_members_and_are_not_inherited(v1):
    descriptors = v1.slot.open_procs()
    assert not any(map(os.get_inheritable, descriptors))
    for descriptor in descriptors:
        os.write(descriptor, b"0")
        os.close(descriptor)
    assert [(path / "cgroup.procs").read_text() for path in v1.paths] == ["0", "0", "0"]


def test_the_layout_is_learned_once_and_holds_for_later_slots(tmp_path):
    layout = Layout()
    first = (str(tmp_path / "1a"), str(tmp_path / "1b"))
    second = (str(tmp_path / "2a"), str(tmp_path / "2b"))
    for folder in (*first, *second):
        os.mkdir(folder)
    Path(first[1], "pids.max").touch()
    assert layout.find(first, "memory.max") is None
    assert layout.find(first, "memory.max", "pids.max") == f"{first[1]}/pids.max"
    Path(first[0], "memory.max").touch()
    assert layout.find(second, "memory.max", "pids.max") == f"{second[1]}/pids.max"


async def test_a_slot_is_removed_and_one_that_is_gone_already_is_no_error(v2):
    v2.empty()
    await v2.slot.remove_soon()
    assert not v2.paths[0].exists()
    await v2.slot.remove_soon()


async def test_a_slot_that_the_kernel_still_counts_is_removed_a_moment_later(v2, monkeypatch):
    v2.empty()
    busy = iter([True, True])
    remove = os.rmdir

    def rmdir(path):
        if next(busy, False):
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        remove(path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    await v2.slot.remove_soon()
    assert not v2.paths[0].exists()
    assert next(busy, None) is None


@pytest.fixture
def parents(tmp_path):
    folders = [tmp_path / "memory", tmp_path / "pids"]
    for folder in folders:
        folder.mkdir()
    return folders


def test_each_server_has_folders_of_its_own_and_numbers_its_slots(parents):
    trees = [CgroupTree(parents), CgroupTree(parents)]
    assert not set(trees[0].folders) & set(trees[1].folders)
    for tree in trees:
        assert [folder.parent for folder in tree.folders] == parents
        assert all(folder.name.startswith(f"codex-server-{os.getpid()}-") for folder in tree.folders)
        tree.slot()
        tree.slot()
        for folder in tree.folders:
            assert sorted(below.name for below in folder.iterdir()) == ["slot-1", "slot-2"]
    trees[0].close()
    assert not any(folder.exists() for folder in trees[0].folders)
    assert all(folder.exists() for folder in trees[1].folders)


def test_a_new_server_removes_the_folders_of_dead_ones_and_keeps_those_of_the_living(parents):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    me, now = os.getpid(), cgroup._start_time(os.getpid())
    gone = [f"codex-server-{dead.pid}-{now}-abcdef", f"codex-server-{me}-1-abcdef"]
    kept = [f"codex-server-{me}-{now}-abcdef", "codex-server-main", "codex-server-some-folder", "of-somebody-else-1"]
    for name in (*gone, *kept):
        (parents[0] / name / "slot-1" / "inner").mkdir(parents=True)
    tree = CgroupTree(parents)
    assert {folder.name for folder in parents[0].iterdir()} == {*kept, tree.folders[0].name}
    assert (parents[0] / kept[0] / "slot-1" / "inner").is_dir()


@pytest.fixture
def kernel_says(monkeypatch, tmp_path):
    """Stand-ins for /proc/self/mountinfo and /proc/self/cgroup."""

    def say(mounts: str, own: str) -> None:
        texts = {"/proc/self/mountinfo": mounts, "/proc/self/cgroup": own}
        for number, (name, text) in enumerate(list(texts.items())):
            texts[name] = str(tmp_path / f"kernel-{number}")
            Path(texts[name]).write_text(text)
        monkeypatch.setattr(cgroup, "Path", lambda path, *more: Path(texts.get(path, path), *more))

    return say


def test_version_1_is_found_with_shared_and_separate_controllers(kernel_says):
    kernel_says(
        "30 25 0:26 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
        "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 25 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
        "33 25 0:29 / /proc rw - proc proc rw\n",
        "4:memory:/service\n3:cpu,cpuacct:/\n2:pids:/service\n1:name=systemd:/x\n0::/\n",
    )
    names = ("memory/service", "pids/service", "cpu,cpuacct")
    assert cgroup._v1_parents() == [Path("/sys/fs/cgroup", name) for name in names]
    assert cgroup._v2_parent() == []


def test_a_host_without_the_controllers_is_shown_which_are_missing(kernel_says):
    kernel_says("32 25 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", "2:pids:/\n0::/\n")
    with pytest.raises(CgroupsUnavailable, match="no cgroup controller memory, cpuacct"):
        open_tree()


@pytest.fixture
def unified(kernel_says, tmp_path):
    """A mounted version 2 with the server in ``service``."""
    mount = tmp_path / "unified"
    own = mount / "service"
    own.mkdir(parents=True)
    kernel_says(f"30 25 0:26 / {mount} rw - cgroup2 cgroup2 rw\n", "0::/service\n")
    (mount / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (own / "cgroup.subtree_control").touch()
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return mount


def test_version_2_moves_the_server_to_a_leaf_and_hands_the_controllers_down(unified):
    tree = open_tree()
    assert tree.folders[0].parent == unified / "service"
    assert (unified / "service/codex-server-main/cgroup.procs").read_text() == "0"
    assert (unified / "service/cgroup.subtree_control").read_text() == "+memory +pids"
    tree.close()


def test_version_2_leaves_processes_of_others_where_they_are(unified):
    (unified / "service/cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    open_tree().close()
    assert not (unified / "service/codex-server-main").exists()


def test_version_2_without_the_controllers_is_not_used(unified):
    (unified / "cgroup.controllers").write_text("cpuset cpu io pids\n")
    assert cgroup._v2_parent() == []


def test_cgroups_that_cannot_be_written_are_reported_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "_v2_parent", lambda: [tmp_path / "missing"])
    with pytest.raises(CgroupsUnavailable, match=r"No such file.*missing.*Delegate=yes"):
        open_tree()


MEMBER = """
import os, sys
for descriptor in map(int, sys.argv[1:]):
    os.write(descriptor, b"0")
print("joined", flush=True)
input()
import time
while time.process_time() < 0.1:
    pass
born = 0
try:
    for _ in range(20):
        if os.fork() == 0:
            __import__("signal").pause()
        born += 1
except BlockingIOError:
    pass
print(born, flush=True)
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
input()
os.kill(0, signal.SIGTERM)
for _ in range(born):
    os.wait()
kept = b"x" * (256 * 2**20)
print("not bounded", flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make cgroups here")
async def test_the_kernel_counts_and_bounds_a_process_that_joined_by_descriptor():
    try:
        tree = open_tree()
    except CgroupsUnavailable as error:
        out_of_reach("cgroups", error)
    slot = tree.slot()
    try:
        slot.limit(LIMITS)
        descriptors = slot.open_procs()
        member = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", MEMBER, *map(str, descriptors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=descriptors,
            start_new_session=True,
        )
        for descriptor in descriptors:
            os.close(descriptor)
        with member:
            assert member.stdout is not None
            assert member.stdin is not None
            assert member.stdout.readline() == "joined\n"
            slot.begin()
            member.stdin.write("\n")
            member.stdin.flush()
            assert member.stdout.readline() == f"{LIMITS.processes}\n"  # one more is allowed: init's place
            usage = slot.usage()
            assert usage.cpu_seconds >= 0.05
            assert usage.oom_kills == 0
            output, _ = member.communicate("\n", timeout=60)
            assert (member.returncode, output) == (-9, "")
        usage = slot.usage()
        assert usage.oom_kills == 1
        assert usage.peak_memory_bytes is None or 0 < usage.peak_memory_bytes <= LIMITS.memory_bytes
        await slot.remove_soon()
        assert not any(list(folder.glob("slot-*")) for folder in tree.folders)
    finally:
        tree.close()
    assert not any(folder.exists() for folder in tree.folders)


def test_version_1_bounds_the_buffers_of_sockets_apart_and_adds_their_peak(v1):
    memory = v1.paths[0]
    (memory / "memory.kmem.tcp.limit_in_bytes").touch()
    v1.slot.limit(LIMITS)
    assert v1.written()["memory.kmem.tcp.limit_in_bytes"] == str(64 * MIB)
    (memory / "memory.kmem.tcp.max_usage_in_bytes").write_text("1000\n")
    v1.say("cpuacct.usage", "1\n")
    v1.say("memory.oom_control", "oom_kill 0\n")
    v1.say("memory.max_usage_in_bytes", "5000\n")
    assert v1.slot.usage().peak_memory_bytes == 6000
