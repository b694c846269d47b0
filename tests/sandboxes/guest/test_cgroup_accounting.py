"""What a container's cgroup has counted, from files as the kernel writes them, in both versions."""

from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.sandboxes.guest import cgroup_accounting
from codex_server.sandboxes.guest.cgroup_accounting import CgroupAccounting

pytestmark = pytest.mark.unprivileged

V2 = {
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n",
    "memory.peak": "4096\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n",
}
V1 = {
    "cpuacct/cpuacct.usage": "2500000000\n",
    "memory/memory.max_usage_in_bytes": "4096\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}
CPU = {"v1": ("cpuacct/cpuacct.usage", "{}000000000\n"), "v2": ("cpu.stat", "usage_usec {}000000\nuser_usec 9\n")}


class Mounted:
    """A folder in the place of /sys/fs/cgroup."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version = folder, version

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def use_seconds(self, seconds: int) -> None:
        name, text = CPU[self.version]
        self.write(name, text.format(seconds))

    def remove(self, ending: str) -> None:
        for file in [file for file in self.folder.rglob("*") if file.name.endswith(ending)]:
            file.unlink()


@pytest.fixture(params=["v1", "v2"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    mounted = Mounted(tmp_path, request.param)
    for name, text in (V1 if request.param == "v1" else V2).items():
        mounted.write(name, text)
    for name in ("_V1", "_V2"):
        files = getattr(cgroup_accounting, name)
        paths = {
            part: tmp_path / getattr(files, part).relative_to(cgroup_accounting._MOUNT)
            for part in ("cpu", "peak", "events")
        }
        monkeypatch.setattr(cgroup_accounting, name, replace(files, **paths))
    return mounted


def test_time_is_counted_from_the_beginning_of_the_program_on(mounted):
    opened = CgroupAccounting.open()
    assert opened.cpu_seconds() == pytest.approx(2.5)
    mounted.use_seconds(4)
    opened.begin()
    assert opened.cpu_seconds() == 0
    mounted.use_seconds(7)
    assert opened.cpu_seconds() == pytest.approx(3)


def test_time_peak_and_kills_are_reported(mounted):
    opened = CgroupAccounting.open()
    opened.begin()
    mounted.use_seconds(6)
    assert opened.counted() == {"cpu_seconds": pytest.approx(3.5), "peak_memory_bytes": 4096, "oom_kills": 2}


@pytest.mark.parametrize(
    ("endings", "lost"),
    [
        (("cpu.stat", "cpuacct.usage"), "cpu_seconds"),
        (("memory.peak", "max_usage_in_bytes"), "peak_memory_bytes"),
    ],
)
def test_what_the_engine_does_not_show_is_left_out_and_the_rest_reported(mounted, endings, lost):
    for ending in endings:
        mounted.remove(ending)
    opened = CgroupAccounting.open()
    opened.begin()
    assert {"cpu_seconds", "peak_memory_bytes", "oom_kills"} - opened.counted().keys() == {lost}
    if lost == "cpu_seconds":
        assert opened.cpu_seconds() is None


@pytest.mark.parametrize("text", ["", "max\n", "oom_kill many\n", "\n\n"])
def test_a_file_in_another_shape_is_left_out(mounted, text):
    mounted.write("memory.events" if mounted.version == "v2" else "memory/memory.oom_control", text)
    assert "oom_kills" not in CgroupAccounting.open().counted()


def test_a_file_whose_first_line_is_empty_or_that_is_no_text_is_left_out(mounted):
    name = "memory.peak" if mounted.version == "v2" else "memory/memory.max_usage_in_bytes"
    (mounted.folder / name).write_bytes(b"\xff\xfe\n")
    assert "peak_memory_bytes" not in CgroupAccounting.open().counted()


def test_where_nothing_is_mounted_nothing_is_reported(tmp_path, monkeypatch):
    for name in ("_V1", "_V2"):
        nowhere = dict.fromkeys(("cpu", "peak", "events"), tmp_path / "none")
        monkeypatch.setattr(cgroup_accounting, name, replace(getattr(cgroup_accounting, name), **nowhere))
    opened = CgroupAccounting.open()
    opened.begin()
    assert opened.cpu_seconds() is None
    assert opened.counted() == {}
