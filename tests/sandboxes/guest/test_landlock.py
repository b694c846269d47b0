"""Landlock keeps a process to its folders, away from TCP, from foreign abstract sockets, and from foreign processes."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from codex_server.sandboxes.guest import landlock
from tests.levels import needs

pytestmark = pytest.mark.unprivileged

needs_landlock = needs(
    "landlock",
    landlock.abi() >= landlock.NEEDED_ABI,
    f"this kernel speaks Landlock {landlock.abi()}, {landlock.NEEDED_ABI} (Linux 6.12) is needed",
)

IMPORT_PATH = Path(landlock.__file__).parents[2]
IMPORT = """
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from sandboxes.guest import landlock
"""
CONFINE = """
import ctypes, errno, json, os, signal, socket, subprocess
read_only, read_write, facts = json.loads(sys.argv[2])
ctypes.CDLL(None).prctl(38, *[ctypes.c_ulong(value) for value in (1, 0, 0, 0)])
landlock.restrict(read_only, read_write)

def refused(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

answer = {}
"""


@pytest.fixture
def folders(tmp_path):
    for name in ("shown", "own", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def system() -> list[str]:
    """What a Python program cannot start without."""
    paths = ["/usr", "/lib", "/lib64", "/etc", "/bin", sys.base_prefix]
    return [path for path in paths if os.path.exists(path)]


def confined(folder: Path, program: str, **facts: object) -> dict[str, str]:
    """What ``program`` put into ``answer``; it may read ``shown`` and the system, and write ``own`` and /dev/null."""
    rules = [[str(folder / "shown"), *system()], [str(folder / "own"), "/dev/null"], {"folder": str(folder), **facts}]
    code = IMPORT + CONFINE + textwrap.dedent(program) + "\nprint(json.dumps(answer))\n"
    command = [sys.executable, "-I", "-S", "-c", code, str(IMPORT_PATH), json.dumps(rules)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_landlock
def test_only_the_shown_folders_can_be_read(folders):
    answer = confined(
        folders,
        """
        os.chdir(facts["folder"])
        answer["shown"] = open("shown/file").read()
        answer["list shown"] = os.listdir("shown")
        answer["hidden"] = refused(lambda: open("hidden/file"))
        answer["list hidden"] = refused(lambda: os.listdir("hidden"))
        answer["list all"] = refused(lambda: os.listdir("."))
        os.symlink("../hidden/file", "own/link")
        answer["link to hidden"] = refused(lambda: open("own/link"))
        answer["another process"] = refused(lambda: open(f"/proc/{os.getppid()}/cmdline"))
        """,
    )
    assert answer == {
        "shown": "shown",
        "list shown": ["file"],
        "hidden": "EACCES",
        "list hidden": "EACCES",
        "list all": "EACCES",
        "link to hidden": "EACCES",
        "another process": "EACCES",
    }


@needs_landlock
def test_only_the_own_folder_can_be_changed(folders):
    answer = confined(
        folders,
        """
        os.chdir(facts["folder"])
        os.mkdir("own/below")
        with open("own/below/new", "w") as file:
            file.write("text")
        os.rename("own/below/new", "own/moved")
        os.link("own/moved", "own/below/linked")
        os.truncate("own/moved", 2)
        os.mkfifo("own/fifo")
        answer["own"] = open("own/below/linked").read()
        os.remove("own/file")
        open("/dev/null", "w").write("gone")
        for folder in ("shown", "hidden"):
            answer[f"write {folder}"] = refused(lambda: open(f"{folder}/file", "w"))
            answer[f"append {folder}"] = refused(lambda: open(f"{folder}/file", "a"))
            answer[f"truncate {folder}"] = refused(lambda: os.truncate(f"{folder}/file", 0))
            answer[f"make in {folder}"] = refused(lambda: os.mkdir(f"{folder}/new"))
            answer[f"remove from {folder}"] = refused(lambda: os.remove(f"{folder}/file"))
            answer[f"move to {folder}"] = refused(lambda: os.rename("own/moved", f"{folder}/moved"))
            answer[f"link from {folder}"] = refused(lambda: os.link(f"{folder}/file", "own/stolen"))
            answer[f"link to {folder}"] = refused(lambda: os.symlink("x", f"{folder}/link"))
        answer["device"] = refused(lambda: os.mknod("own/device", 0o020600, os.makedev(1, 5)))
        """,
    )
    assert answer.pop("own") == "te"
    assert answer.pop("device") == "EACCES"
    for folder in ("shown", "hidden"):
        assert answer.pop(f"link from {folder}") == "EXDEV"  # nothing but the change of folder is refused
    assert len(answer) == 14
    assert set(answer.values()) == {"EACCES"}
    assert (folders / "shown" / "file").read_text() == "shown"
    assert sorted(os.listdir(folders / "own")) == ["below", "fifo", "moved"]


@needs_landlock
def test_programs_run_from_the_system_and_the_own_folder_and_stay_confined(folders):
    answer = confined(
        folders,
        """
        os.chdir(facts["folder"])
        with open("own/script", "w", opener=lambda path, flags: os.open(path, flags, 0o700)) as file:
            file.write("#!/bin/sh\\ncat hidden/file && echo escaped\\necho ran\\n")
        done = subprocess.run(["own/script"], capture_output=True, text=True)
        answer["script"] = done.stdout
        answer["hidden program"] = refused(lambda: os.execv("hidden/file", ["x"]))
        """,
    )
    assert answer == {"script": "ran\n", "hidden program": "EACCES"}


@needs_landlock
def test_tcp_is_refused_both_ways(folders):
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = confined(
            folders,
            """
            answer["connect"] = refused(lambda: socket.create_connection(facts["address"]))
            answer["bind"] = refused(lambda: socket.create_server(("127.0.0.1", 0)))
            """,
            address=server.getsockname(),
        )
    assert answer == {"connect": "EACCES", "bind": "EACCES"}


@needs_landlock
def test_an_abstract_socket_of_another_process_is_refused_and_an_own_one_works(folders):
    name = f"\0codex-test-{os.getpid()}-{id(folders)}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box:
        server.bind(name)
        server.listen()
        box.bind(name + "-box")
        answer = confined(
            folders,
            """
            answer["stream"] = refused(lambda: socket.socket(socket.AF_UNIX).connect(facts["name"]))
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            answer["datagram"] = refused(lambda: left.sendto(b"x", facts["name"] + "-box"))
            own = socket.socket(socket.AF_UNIX)
            own.bind(facts["name"] + "-own")
            own.listen()
            answer["own"] = refused(lambda: socket.socket(socket.AF_UNIX).connect(facts["name"] + "-own"))
            """,
            name=name,
        )
    assert answer == {"stream": "EPERM", "datagram": "EPERM", "own": "done"}


@needs_landlock
def test_a_process_outside_cannot_be_signalled_and_a_child_can(folders):
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as outside:
        answer = confined(
            folders,
            """
            answer["parent"] = refused(lambda: os.kill(os.getppid(), 0))
            answer["outside"] = refused(lambda: os.kill(facts["pid"], signal.SIGKILL))
            answer["by pidfd"] = refused(lambda: signal.pidfd_send_signal(os.pidfd_open(facts["pid"]), signal.SIGKILL))
            child = subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=-1)
            answer["child"] = refused(lambda: os.kill(child.pid, signal.SIGKILL))
            answer["child died of"] = child.wait()
            """,
            pid=outside.pid,
        )
        assert outside.poll() is None
        outside.communicate(b"\n")
    assert answer == {
        "parent": "EPERM",
        "outside": "EPERM",
        "by pidfd": "EPERM",
        "child": "done",
        "child died of": -signal.SIGKILL,
    }
    assert outside.returncode == 0


@needs_landlock
def test_it_leaves_no_descriptor_open(folders):
    answer = confined(
        folders,
        """
        answer["open"] = [fd for fd in range(3, 64) if refused(lambda: os.fstat(fd)) == "done"]
        """,
    )
    assert answer == {"open": []}


@needs_landlock
def test_a_path_that_does_not_exist_is_an_error_and_nothing_is_confined(tmp_path):
    missing = str(tmp_path / "missing")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError, match="missing"):
        landlock.restrict([missing], [])
    assert len(os.listdir("/proc/self/fd")) == len(before)
    (tmp_path / "still").write_text("free")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_kernel_that_has_none_or_forbids_it_speaks_version_0(monkeypatch, number):
    def refuse(*call: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(landlock.kernel, "syscall", refuse)
    assert landlock.abi() == 0


def test_an_old_kernel_is_an_error_that_names_the_version(monkeypatch):
    monkeypatch.setattr(landlock, "abi", lambda: 5)
    with pytest.raises(OSError, match=r"Landlock version 6 \(Linux 6.12\).*here it is 5") as raised:
        landlock.restrict([], [])
    assert raised.value.errno == errno.EOPNOTSUPP


def test_it_needs_nothing_but_the_standard_library():
    source = Path(landlock.__file__).read_text()
    program = IMPORT + "landlock.abi(); print('codex_server' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program, str(IMPORT_PATH)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout == "False\n"
    assert "codex_server" not in source
