"""A guest holds no privilege and can gain none; nothing of the system is writable for it."""
# ruff: noqa: E501 - the long lines are programs of guests

import os
from pathlib import Path

import pytest

from codex_server.sandboxes.base import IsolationLevel
from tests.host_snapshot import GUEST_IDS, descendants

STATUS = """
    fields = {}
    for line in open("/proc/self/status"):
        name, _, value = line.partition(":")
        fields[name] = value.split()
    tell(fields)
"""
IN_A_ROOM = ("full", "namespaces")


@pytest.mark.levels(*IN_A_ROOM)
def test_guest_has_no_capability_and_can_gain_none(harness):
    fields = harness.python(STATUS).told
    assert {fields[f"Cap{which}"][0] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}


@pytest.mark.levels(*IN_A_ROOM)
def test_guest_is_filtered_and_gets_no_new_privileges(harness):
    fields = harness.python(STATUS).told
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == (["2"], ["1"])


def test_guest_cannot_take_off_no_new_privileges_nor_get_a_capability(harness):
    seen = harness.python("""
        tell({
            "no_new_privs": libc.prctl(39, 0, 0, 0, 0),
            "unset": libc.prctl(38, 0, 0, 0, 0),
            "seccomp": libc.prctl(22, 0, 0, 0, 0),
            "ambient": libc.prctl(47, 2, 21, 0, 0),
            "keepcaps then setuid": (libc.prctl(8, 1, 0, 0, 0), attempt(os.setuid, 0) == "done")[1],
            "capset": call("capset", __import__("struct").pack("Ii", 0x20080522, 0), b"\\xff" * 24),
        })
    """).told
    assert seen == {
        "no_new_privs": 1,
        "unset": -1,
        "seccomp": -1,
        "ambient": -1,
        "keepcaps then setuid": False,
        "capset": "EPERM",
    }


def test_guest_is_not_root_and_cannot_become_anybody_else(harness):
    seen = harness.python("""
        def refusal(map, number):
            try: rows = [[int(word) for word in line.split()] for line in open(f"/proc/self/{map}")]
            except PermissionError: rows = [[0, 0, 1 << 32]]  # nothing of /proc, and the host's user namespace
            return "EPERM" if any(first <= number < first + count for first, _, count in rows) else "EINVAL"
        expected = [refusal("uid_map", 0), refusal("gid_map", 0), "EPERM", *(refusal("uid_map", number) for number in (0, 1, 65534))]
        tell([list(os.getresuid()), list(os.getresgid()), os.getgroups(),
              [attempt(os.setuid, 0), attempt(os.setgid, 0), attempt(os.setgroups, [0]), attempt(os.setresuid, 0, 0, 0),
               attempt(os.setuid, 1), attempt(os.setuid, 65534)], expected])
    """).told
    uids, gids, groups, answers, expected = seen
    assert 0 not in uids + gids + groups
    assert len(set(uids)) == len(set(gids)) == 1
    assert answers == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="an unprivileged user cannot leave its groups")
def test_guest_has_none_of_the_groups_of_its_server(harness):
    assert os.getgroups()
    groups, own = harness.python("tell([os.getgroups(), os.getresgid()])").told
    assert set(groups) <= set(own)


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
@pytest.mark.skipif(os.geteuid() != 0, reason="an unprivileged user cannot leave its groups")
def test_nobody_in_a_room_has_the_groups_of_the_server(harness):
    found = {}

    def look(sandbox):
        init = pid_of(sandbox.slot.pidfd)
        room = [init, parent_of(init), *members_of(init)]
        found.update({pid: groups_of(pid) for pid in room})

    harness.disturbed("print('ready', flush=True); sys.stdin.read()", "ready", look, stdin=b"x" * 2**20)
    assert len(found) == 3
    assert set(found.values()) == {()}


@pytest.mark.embedded
@pytest.mark.skipif(os.geteuid() != 0, reason="an unprivileged user's sandboxes without newuidmap have its own uid")
def test_guest_has_a_host_uid_that_nobody_else_has(harness):
    found = []

    def look(sandbox):
        found.extend(os.stat(f"/proc/{pid}").st_uid for pid in members_of(pid_of(sandbox.slot.pidfd)))

    harness.disturbed("print('ready', flush=True); sys.stdin.read()", "ready", look, stdin=b"x" * 2**20)
    harness.together(*["import time; time.sleep(0.1)"] * 2)
    assert found
    assert all(uid in GUEST_IDS for uid in found)


def pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def groups_of(pid: int) -> tuple[str, ...]:
    with open(f"/proc/{pid}/status") as file:
        return next(tuple(line.split()[1:]) for line in file if line.startswith("Groups:"))


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("PPid:"))


def members_of(init: int) -> list[int]:
    """The processes that share init's pid namespace, or below it where it has none of its own; without init."""
    if os.readlink(f"/proc/{init}/ns/pid") == os.readlink("/proc/self/ns/pid"):
        return descendants(init)
    return [pid for pid in descendants(os.getpid()) if pid != init and _pid_namespace(pid) == _pid_namespace(init)]


def _pid_namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except FileNotFoundError:
        return None


def test_setuid_programs_give_nothing(harness):
    seen = harness.python("""
        import glob, stat, subprocess
        found = [path for folder in ("/usr/bin", "/usr/sbin", "/bin", "/usr/lib/*") for path in glob.glob(folder + "/*")
                 if os.path.isfile(path) and os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID)]
        program = "import os; print(os.geteuid(), os.getegid())"
        me = f"{os.geteuid()} {os.getegid()}"
        os.mkdir("bin")
        tried = []
        for name, arguments in (("su", ["-c", "id -u"]), ("newuidmap", ["1", "0", "0", "1"]), ("ping", ["-c1", "127.0.0.1"]),
                                ("passwd", ["-d", "root"]), ("mount", ["-a"]), ("sudo", ["-n", "id"])):
            try: done = subprocess.run([name, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=5)
            except (FileNotFoundError, PermissionError): continue
            tried.append((name, done.returncode == 0 and done.stdout.strip() == "0"))
        tell([len(found), tried])
    """)
    assert [name for name, won in seen.told[1] if won] == []


def test_a_setuid_file_of_its_own_gives_nothing(harness):
    seen = harness.python("""
        import shutil, subprocess
        shutil.copyfile("/bin/sleep", "mine")
        answers = [attempt(os.chmod, "mine", 0o4755), attempt(os.chown, "mine", 0, 0), attempt(os.setxattr, "mine", "security.capability", b"\\1\\0\\0\\2" + b"\\xff" * 16)]
        tell(answers)
    """).told
    assert seen[1:] in (["EPERM", "EPERM"], ["EINVAL", "EPERM"])


def test_guest_cannot_write_outside_its_own_folders(harness):
    seen = harness.python("""
        tried = {}
        for folder in "/ /usr /usr/bin /usr/lib /bin /lib /etc /opt /opt/codex /opt/runners /proc /sys /run /dev /var /home /root /mnt".split():
            tried[folder] = attempt(open, folder + "/made-by-a-guest", "w")
        for file in "/etc/passwd /etc/hosts /etc/resolv.conf /etc/ld.so.preload /bin/sh /usr/bin/env /etc/ld.so.cache".split():
            tried[file] = attempt(open, file, "a")
        for link in ("/usr/bin/python3", sys.executable, os.__file__):
            tried[link] = attempt(os.unlink, link)
            tried["rename " + link] = attempt(os.rename, link, "/tmp/x")
        tell(tried)
    """).told
    allowed = {"EROFS", "EACCES", "ENOENT", "EPERM", "EXDEV"}
    assert {what: answer for what, answer in seen.items() if answer not in allowed} == {}


def test_guest_can_write_its_workspace_and_temporary_folder(harness):
    seen = harness.python("""
        import tempfile
        open("here", "w").write("x"); open(os.path.join(tempfile.gettempdir(), "there"), "w").write("y")
        tell([os.listdir(), os.listdir(tempfile.gettempdir())])
    """).told
    assert "here" in seen[0]
    assert "there" in seen[1]


def test_guest_cannot_change_the_kernels_settings(harness):
    seen = harness.python("""
        tried = {}
        for file in "kernel/core_pattern kernel/sysrq kernel/hostname kernel/modprobe kernel/randomize_va_space vm/drop_caches vm/overcommit_memory net/ipv4/ip_forward user/max_user_namespaces fs/file-max kernel/shmmax".split():
            def write():
                with open("/proc/sys/" + file, "w") as stream: stream.write("1")
            tried[file] = attempt(write)
        for file in ("/proc/sysrq-trigger", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups", "/proc/1/oom_score_adj", "/proc/irq/0/smp_affinity", "/proc/self/attr/current"):
            def write():
                with open(file, "w") as stream: stream.write("0 0 1")
            tried[file] = attempt(write)
        tell(tried)
    """).told
    assert {what: answer for what, answer in seen.items() if answer == "done"} == {}


def test_guest_cannot_make_devices(harness):
    seen = harness.python("""
        import stat
        tell([attempt(os.mknod, "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0)), attempt(os.mknod, "mem", stat.S_IFCHR | 0o666, os.makedev(1, 1)),
              attempt(os.mknod, "/dev/shm/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))])
    """).told
    assert seen == ["EACCES" if harness.level is IsolationLevel.CONFINED else "EPERM"] * 3


@pytest.mark.levels(*IN_A_ROOM)
def test_guest_is_the_first_to_die_for_memory(harness):
    assert harness.python("print(open('/proc/self/oom_score_adj').read())").stdout.split() == ["1000"]


def test_guest_cannot_lower_its_claim_to_die_first_below_the_hosts(harness):
    lowest = int(Path("/proc/self/oom_score_adj").read_text()) - 1
    seen = harness.python(f"""
        def write():
            with open("/proc/self/oom_score_adj", "w") as file: file.write("{lowest}")
        tell(attempt(write))
    """).told
    assert seen in ("EACCES", "EROFS")


def test_guest_cannot_raise_its_limits(harness):
    seen = harness.python("""
        import resource
        answers = {}
        for name in ("NPROC", "NOFILE", "FSIZE", "CPU", "CORE", "MEMLOCK", "STACK"):
            limit = getattr(resource, "RLIMIT_" + name)
            soft, hard = resource.getrlimit(limit)
            try: resource.setrlimit(limit, (hard, hard + 1 if hard >= 0 else hard))
            except (ValueError, OSError) as error: answers[name] = type(error).__name__ + str(hard < 0)
            else: answers[name] = "raised"
        tell([answers, attempt(os.nice, -1), attempt(os.setpriority, os.PRIO_PROCESS, 0, -5), attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))])
    """).told
    assert set(seen[0].values()) == {"ValueErrorFalse"}
    assert seen[1:] == ["EPERM", "EACCES", "EPERM"]


@pytest.mark.levels(*IN_A_ROOM)
def test_a_guest_cannot_slow_down_its_init(harness):
    seen = harness.python("""
        tell([
            attempt(os.setpriority, os.PRIO_PROCESS, 1, 19),
            attempt(os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0)),
            attempt(os.sched_setaffinity, 1, {0}),
            call("ioprio_set", 1, 1, 3 << 13),
        ])
    """)
    assert seen.told == ["EPERM"] * 4


def test_guest_cannot_touch_cgroups(harness):
    seen = harness.python("""
        tried = [attempt(open, path, "w") for path in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/tasks", "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/memory/release_agent")]
        tell([tried, attempt(os.mkdir, "/sys/fs/cgroup/mine")])
    """).told
    assert "done" not in [*seen[0], seen[1]]


@pytest.mark.levels(*IN_A_ROOM)
def test_guest_sees_only_its_own_cgroup(harness):
    lines = harness.python("print(open('/proc/self/cgroup').read())").stdout.split()
    own = {line.rsplit(":", 1)[1] for line in lines}
    assert own == {"/"} or harness.level is IsolationLevel.NAMESPACES


@pytest.mark.levels(*IN_A_ROOM)
def test_every_mount_that_a_guest_sees_is_read_only_or_its_own(harness):
    seen = harness.python("""
        rows = [line.split() for line in open("/proc/self/mounts")]
        tell([[target, options.split(","), os.access(target, os.W_OK)] for _, target, _, options, *_ in rows])
    """).told
    own = {"/workspace", "/tmp", "/dev/shm", "/proc"} | ({"/dev/mqueue"} if harness.in_container else set())
    for target, options, writable in seen:
        # A container's root has neither: no-new-privileges and the lack of every capability do what they would.
        engines = harness.in_container and (target in ("/", "/dev") or target.startswith(("/etc/", "/proc/", "/sys")))
        assert "nosuid" in options or engines, target
        kept = "ro" in options or (harness.in_container and not writable)
        assert kept or target in own or target.startswith("/proc/"), target
        assert "nodev" in options or engines or target.startswith(("/dev/", "/proc/")), target


@pytest.mark.embedded
@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_worker_is_confined_before_it_is_given_a_program(harness, language):
    """Looked at from the host, while it waits for the first byte."""
    if harness.languages.find(language).interpreter is None:
        pytest.skip(f"{language} is not installed here")

    async def armed() -> list[dict[str, str]]:
        sandbox = await harness.arm(language)
        try:
            return [_facts_of(pid) for pid in _workers_of(sandbox.slot.pidfd)]
        finally:
            await sandbox.destroy()

    found = harness.wait(armed())
    assert len(found) == 1
    (worker,) = found
    assert (worker["Seccomp"], worker["NoNewPrivs"]) == ("2", "1")
    assert [int(worker[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Amb")] == [0] * 4
    assert int(worker["Seccomp_filters"]) >= 1
    assert worker["core"].split()[:2] == ["1", "1"]
    assert worker["descriptors"].split() == ["0", "1", "2", "3"] or language != "python"
    if os.geteuid() == 0:
        assert "0" not in worker["Uid"].split()
        assert worker["Groups"] == ""
    if str(harness.level) != "confined":
        own = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "ipc", "uts", "user")}
        assert [kind for kind in own if own[kind] in worker["namespaces"]] == []


def _workers_of(pidfd: int) -> list[int]:
    """What an init has been started for: in a room by the zygote into its pid namespace, else by itself."""
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    init = next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))
    zygote = _parent(init)
    inside = [int(name) for name in os.listdir("/proc") if name.isdigit() and _depth(name) > 1]
    children = [pid for pid in inside if _parent(pid) == zygote and pid != init and _number_inside(pid) == 2]
    return children or [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(int(name)) == init]


def _status(pid: int | str) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _parent(pid: int) -> int:
    return int(_status(pid).get("PPid", "0"))


def _depth(pid: int | str) -> int:
    """In how many pid namespaces below the host's own it is counted too."""
    return len(_status(pid).get("NSpid", "").split()) - 1


def _number_inside(pid: int) -> int:
    return int(_status(pid)["NSpid"].split()[-1])


def _facts_of(pid: int) -> dict[str, str]:
    facts = _status(pid)
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    facts["core"] = next(line.removeprefix("Max core file size") for line in limits if line.startswith("Max core"))
    facts["descriptors"] = " ".join(sorted(os.listdir(f"/proc/{pid}/fd"), key=int))
    facts["namespaces"] = " ".join(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in os.listdir(f"/proc/{pid}/ns"))
    return facts
