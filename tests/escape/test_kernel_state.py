"""Kernel state behind what a guest can name: it reaches no inode, no counter and no pool of the host.

Each test has a host side that looks, as somebody on the host would feel it.
"""

import fcntl
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.tiers import sampled
from tests.waiting import until

IN_A_ROOM = ("full", "namespaces")


def test_a_guest_cannot_change_its_limit_on_cores(house):
    """Exactly 1 keeps the kernel from handing a program's memory to a core_pattern that is a program."""
    seen = house.python("""
        import resource, struct
        def limit(*pair): return attempt(resource.setrlimit, resource.RLIMIT_CORE, pair)
        new = struct.pack("QQ", 0, 1)
        answers = [call("setrlimit", 4, new)] + [call("prlimit64", pid, 4, new, 0) for pid in (0, os.getpid())]
        try: answers.append(limit(0, 1))
        except ValueError as error: answers.append("EPERM" if "not allowed" in str(error) else str(error))
        tell([answers, resource.getrlimit(resource.RLIMIT_CORE)])
    """)
    assert seen.told == [["EPERM"] * 4, [1, 1]]


CORE_PATTERN = "/proc/sys/kernel/core_pattern"
CORE_READER = """#!{python}
import sys
size = len(sys.stdin.buffer.read())
open({found!r}, "a").write(str(size) + "\\n")
"""


@pytest.fixture
def core_handler():
    """A core_pattern that is a program: the file in which it notes how much of a program it was handed.

    There is one pattern for the whole host, so the levels take turns.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may set the host's core_pattern")
    with open(CORE_PATTERN, "r+") as pattern, tempfile.TemporaryDirectory(prefix="core-") as folder:
        fcntl.flock(pattern, fcntl.LOCK_EX)
        before = pattern.read()
        found, reader = Path(folder, "found"), Path(folder, "reader")
        Path(folder).chmod(0o755)
        reader.write_text(CORE_READER.format(python=sys.executable, found=str(found)))
        reader.chmod(0o755)
        Path(CORE_PATTERN).write_text(f"|{reader}")
        yield found
        Path(CORE_PATTERN).write_text(before)


def test_nobody_on_the_host_is_handed_a_guests_memory_when_it_crashes(house, core_handler):
    seen = house.python("""
        import resource, struct
        for pair in ((0, 1), (0, 0)):
            call("setrlimit", 4, struct.pack("QQ", *pair))
            try: resource.setrlimit(resource.RLIMIT_CORE, pair)
            except (OSError, ValueError): pass
        os.abort()
    """)
    assert seen.ending.signal == 6
    subprocess.run([sys.executable, "-c", "import os; os.abort()"], check=False, preexec_fn=_allow_cores)
    assert until(core_handler.exists, 10), "the handler is never called at all"
    assert until(lambda: not _runs(core_handler.with_name("reader")), 10)
    assert len(core_handler.read_text().splitlines()) == 1


def _runs(program: Path) -> bool:
    lines = (Path(f"/proc/{name}/cmdline") for name in os.listdir("/proc") if name.isdigit())
    return any(str(program).encode() in _content(line) for line in lines)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _allow_cores() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)


def test_a_guest_has_no_lease_and_no_watch_by_signal(house):
    seen = house.python("""
        import fcntl
        library = os.open("/usr/bin/env", os.O_RDONLY)
        own = os.open(os.environ["TMPDIR"] + "/own", os.O_RDONLY | os.O_CREAT)
        tell([attempt(fcntl.fcntl, file, command, 1) for file in (library, own) for command in (1024, 1026)])
    """)
    assert seen.told == ["EPERM"] * 4


def test_a_guest_takes_none_of_the_hosts_places_for_asynchronous_io(house):
    seen = house.python("""
        contexts = [call("io_setup", 1024, ctypes.create_string_buffer(8)) for _ in range(100)]
        tell(sorted(set(contexts)))
    """)
    assert seen.told == ["EPERM"]


@pytest.mark.parametrize("way", sampled(["mmap", "memfd", "shm"]))
def test_a_guest_takes_no_huge_page(house, way):
    asked = {
        "mmap": 'call("mmap", 0, 2 << 20, 3, 0x40022, -1, 0)',
        "memfd": 'call("memfd_create", b"x", 4)',
        "shm": 'call("shmget", 7, 2 << 20, 0o4000 | 0o1600)',
    }
    assert house.python(f"tell({asked[way]})").told == "EPERM"


@pytest.mark.levels("confined")
def test_a_confined_guest_learns_nothing_of_other_processes_by_descriptors(house, host):
    seen = house.python(f"tell([call('pidfd_open', pid, 0) for pid in ({host.victim.pid}, {os.getpid()}, 1)])")
    assert seen.told == ["EPERM"] * 3


def test_a_guest_has_no_request_to_a_file_that_is_not_listed(house):
    """Attributes of files, facts of a process, clones of extents."""
    requests = (0x4008_6602, 0x4004_6602, 0x401C_5820, 0x4008_7602, 0x4004_9409, 0xC040_FF0B, 0xFF01)
    seen = house.python(f"""
        import fcntl
        files = [os.open("/usr/bin/env", os.O_RDONLY), os.open("/usr/bin", os.O_RDONLY)]
        tell(sorted({{attempt(fcntl.ioctl, file, request, bytes(64)) for file in files for request in {requests!r}}}))
    """)
    assert seen.told == ["ENOTTY"]


@pytest.mark.levels(*IN_A_ROOM)
def test_a_guest_makes_no_flow_label(house):
    seen = house.python("""
        import socket, struct
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            wish = struct.pack("=16sIBBHHHI", socket.inet_pton(socket.AF_INET6, "::1"), 0, 0, 255, 1, 60, 60, 0)
            tell([attempt(sender.setsockopt, 41, 32, wish), open("/proc/net/ip6_flowlabel").read().count(chr(10))])
    """)
    assert seen.told == ["EPERM", 1]
