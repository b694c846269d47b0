"""The server in a container that is run as compose.yaml says: what works there, and what the container cannot do."""

import concurrent.futures
import errno
import json
import os

import pytest

from codex_server.sandboxes.guest import landlock
from codex_server.sandboxes.seccomp import syscalls
from codex_server.sandboxes.seccomp.server_profile import SERVER
from tests.container.compose import ROOT
from tests.container.engine import Engine, RunningServer, running_server
from tests.levels import out_of_reach
from tests.waiting import until

pytestmark = [pytest.mark.tier("change"), pytest.mark.timeout(900)]  # the first of them builds the image

HELLO = {
    "python": "print(6 * 7)",
    "javascript": "console.log(6 * 7)",
    "typescript": "const answer: number = 6 * 7; console.log(answer)",
    "bash": "echo $((6 * 7))",
}
STATE = "/var/lib/codex-server"
ASK_THE_KERNEL = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
answers = {}
for call, number in json.loads(sys.argv[1]).items():
    ctypes.set_errno(0)
    zero = ctypes.c_ulong(0)
    answers[call] = ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *[zero] * 6) == -1 else 0
print(json.dumps(answers))
"""


@pytest.mark.parametrize("language", sorted(HELLO))
def test_a_program_runs_through_the_published_port(server: RunningServer, language: str):
    assert server.output(HELLO[language], language) == "42\n"


def test_it_reaches_the_level_namespaces(server: RunningServer):
    assert until(lambda: server.get("/health")["status"] == "healthy"), server.get("/readyz")
    health = server.get("/health")
    assert health["isolation"] == "namespaces"
    assert set(HELLO) <= set(health["languages"])


def test_the_engine_calls_it_healthy(server: RunningServer):
    server.await_health()


def test_the_container_is_what_compose_describes(server: RunningServer):
    host = server.engine.inspect(server.name)["HostConfig"]
    assert (host["Privileged"], host["CapAdd"], host["CapDrop"]) == (False, None, ["ALL"])
    assert (host["ReadonlyRootfs"], host["Init"]) == (True, True)
    assert (host["MaskedPaths"], host["ReadonlyPaths"]) == ([], [])
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (4 * 2**30, 4 * 2**30, 2048)
    assert host["NetworkMode"] in ("default", "bridge")
    (profile,) = [option.partition("=")[2] for option in host["SecurityOpt"] if option.startswith("seccomp=")]
    assert json.loads(profile) == json.loads((ROOT / "seccomp.json").read_text())


def test_no_process_beside_the_guests_has_a_right(server: RunningServer):
    done = server.inside("sh", "-c", "grep -hE '^(Uid|Cap|NoNewPrivs|Seccomp:)' /proc/1/status /proc/self/status")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} >= {"Uid:", "CapEff:", "CapPrm:", "CapBnd:", "NoNewPrivs:", "Seccomp:"}
    assert [row for row in rows if row[0].startswith("Cap") and int(row[1], 16)] == []
    assert {tuple(row[1:]) for row in rows if row[0] == "Uid:"} == {("10001",) * 4}
    assert {row[1] for row in rows if row[0] in ("NoNewPrivs:", "Seccomp:")} == {"1", "2"}


def test_nothing_but_its_state_and_tmp_can_be_written(server: RunningServer):
    tried = ("/x", "/etc/codex-server/x", "/opt/codex-server/x", "/usr/local/bin/x", "/home/x", "/var/tmp/x", "/run/x")
    for path in tried:
        done = server.inside("touch", path)
        assert (done.returncode, "Read-only file system" in done.stderr) == (1, True), (path, done.stderr)
    for path in (f"{STATE}/x", "/tmp/x"):
        assert server.inside("sh", "-c", f"touch {path} && rm {path}").returncode == 0
    done = server.inside("sh", "-c", "cp /bin/true /tmp/program && /tmp/program; code=$?; rm /tmp/program; exit $code")
    assert done.returncode == 126, done.stderr


def test_the_kernels_settings_cannot_be_changed_though_proc_is_not_masked(server: RunningServer):
    files = ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/kcore")
    there = [file for file in files if server.inside("test", "-e", file).returncode == 0]
    assert there[:2] == list(files[:2])
    for file in there:
        done = server.inside("sh", "-c", f"exec 3<>{file}")
        assert (done.returncode, "denied" in done.stderr) == (2, True), (file, done.stderr)


def test_the_kernel_refuses_the_container_what_has_no_business_there(server: RunningServer):
    known = syscalls.numbers(os.uname().machine)
    numbers = {call: number for call, number in known.items() if call in SERVER.refused}
    assert len(numbers) > 60
    done = server.inside("python3", "-I", "-c", ASK_THE_KERNEL, json.dumps(numbers))
    assert done.returncode == 0, done.stderr
    # An engine whose libseccomp is older than a call leaves it out, and the profile's own answer is given: ENOSYS.
    answers = json.loads(done.stdout)
    assert [call for call in numbers if answers[call] not in (SERVER.refused[call], errno.ENOSYS)] == []
    assert sum(answers[call] == errno.EPERM for call in numbers) > 60


def test_a_guest_sees_nothing_of_the_container(server: RunningServer):
    program = f"""
import os, pathlib
for place in ("{STATE}", "/etc/codex-server", "/opt/codex-server", "/etc/shadow", "/.dockerenv", "/proc/1/root{STATE}"):
    print(place, os.path.exists(place))
print(sorted(name for name in os.environ if name.startswith("CODEX")))
print([pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())])
"""
    said = server.output(program).splitlines()
    assert [line for line in said[:-2] if not line.endswith(" False")] == []
    assert said[-2:] == ["[]", "[]"]


def test_a_guest_has_no_network_not_even_the_containers(server: RunningServer):
    address = server.engine.inspect(server.name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    program = f"""
import socket
for place in (("127.0.0.1", 8000), ("{address}", 8000), ("169.254.169.254", 80)):
    try:
        socket.create_connection(place, timeout=5)
        print("reached", place)
    except OSError as error:
        print(error.errno)
"""
    assert server.output(program).split() == ["111", "101", "101"]


def test_a_guest_has_none_of_the_calls_that_the_container_was_granted(server: RunningServer):
    clone = syscalls.numbers(os.uname().machine)["clone"]
    program = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
nothing = [ctypes.c_ulong(0)] * 5
for call in ("unshare", "setns", "mount", "umount2"):
    print(call, getattr(libc, call)(*nothing), ctypes.get_errno())
print("clone", libc.syscall(ctypes.c_long({clone}), ctypes.c_ulong(0x10000011), *nothing), ctypes.get_errno())
"""
    said = server.output(program).splitlines()
    assert said == [f"{call} -1 {errno.EPERM}" for call in ("unshare", "setns", "mount", "umount2", "clone")]


def test_a_restart_keeps_the_token_even_after_a_kill(engine: Engine, image: str, name: str):
    with running_server(engine, image, name) as here:
        token = here.token
        assert here.ask("print(1)", token).status == 200
        for starts, ending in ((2, "stop"), (3, "kill")):
            engine.call(ending, name)
            engine.call("start", name)
            here.await_greeting(starts)
            assert here.ask("print(1)", token).body["stdout"] == "1\n"
        assert here.token == token  # no other was printed


def test_stopping_lets_a_running_program_finish(engine: Engine, image: str, name: str):
    with running_server(engine, image, name) as here, concurrent.futures.ThreadPoolExecutor() as threads:
        asked = threads.submit(here.ask, "import time; time.sleep(3); print('done')", here.token)
        assert until(lambda: here.get("/readyz")["running"] or asked.done())
        assert not asked.done(), asked.result()
        engine.call("stop", "--time=40", name)
        assert asked.result().body["stdout"] == "done\n"
        state = engine.inspect(name)["State"]
        assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False)


def test_without_the_profile_it_does_not_start_and_names_the_remedy(engine: Engine, image: str):
    done = engine.call("run", "--rm", image, check=False)
    assert done.returncode == 1
    assert "--security-opt seccomp=" in done.stderr
    assert "--security-opt systempaths=unconfined" in done.stderr


def test_a_default_container_gives_the_level_confined_to_whoever_accepts_it(engine: Engine, image: str):
    if landlock.abi() < landlock.NEEDED_ABI:
        out_of_reach("landlock", "this kernel has none of version 6")
    assert engine.tell("run", "--rm", "--env=CODEX_MIN_ISOLATION=confined", image, "run", "-c", "print(6 * 7)") == "42"


def test_the_health_check_fails_where_no_server_answers(engine: Engine, image: str):
    check = engine.inspect(image)["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    done = engine.call("run", "--rm", f"--entrypoint={check[1]}", image, *check[2:], check=False)
    assert (done.returncode, "Connection refused" in done.stderr) == (1, True), done.stderr


def test_other_commands_can_be_run_in_it(engine: Engine, image: str):
    assert engine.tell("run", "--rm", image, "--version").startswith("codex-server ")


def test_no_program_of_the_image_gives_anyone_anothers_rights(engine: Engine, image: str):
    words = ["run", "--rm", "--user=0", "--entrypoint=find", image, "/", "-xdev", "-type", "f", "-perm", "/6000"]
    assert engine.tell(*words) == ""


def test_the_image_holds_the_server_and_neither_its_tests_nor_its_build(engine: Engine, image: str):
    assert engine.tell("run", "--rm", "--user=0", "--entrypoint=find", image, "/opt", "-name", "*.whl") == ""
    known = engine.inspect(image)
    assert known["Config"]["User"] == "10001:10001"
    assert known["Config"]["Volumes"] == {STATE: {}}
    for place in ("/source", "/wheels", "/opt/codex-server/lib/python3*/site-packages/tests"):
        assert engine.call("run", "--rm", "--entrypoint=sh", image, "-c", f"ls -d {place}", check=False).returncode
