"""Nothing of the host leaks in: no variable, descriptor, file, process or name."""
# ruff: noqa: SIM905

import os
import textwrap

import pytest

from codex_server.sandboxes.base import IsolationLevel

WHOLE_VIEW = ("full", "namespaces")
ROOT = set("bin dev etc home lib lib32 lib64 libx32 mnt opt proc run sbin sys tmp usr var workspace".split())
DEVICES = set("fd full null ptmx pts random shm stderr stdin stdout tty urandom zero".split())
SYSTEM_SECRETS = """
    /etc/shadow /etc/sudoers /etc/subuid /etc/machine-id /root/.bashrc /root/.ssh /run/docker.sock /var/run/docker.sock
    /proc/kcore /proc/keys /proc/kallsyms /proc/config.gz /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/kvm /dev/fuse
""".split()


def test_guest_cannot_read_host_environment(harness, host):
    seen = harness.python("tell(dict(os.environ))").told
    ours = {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER", "LC_CTYPE"}
    assert set(seen) <= ours | set(harness.languages.find("python").env)
    assert host.SECRET not in str(seen)


@pytest.mark.levels(*WHOLE_VIEW)
def test_guest_cannot_read_the_environment_that_its_interpreter_started_with(harness, host):
    seen = harness.python("print(open('/proc/self/environ').read(), open('/proc/self/cmdline').read())")
    assert seen.status == "succeeded"
    assert host.SECRET not in seen.stdout
    assert str(host.folder) not in seen.stdout


@pytest.mark.levels(*WHOLE_VIEW)
@pytest.mark.parametrize("language", ["python", "bash", "javascript"])
def test_guest_has_no_descriptor_beyond_its_streams(harness, language):
    programs = {
        "python": """
            import os
            kept = []
            for number in range(3, 4096):
                try: kept.append((number, os.fstat(number)))
                except OSError: pass
            print(kept)
            """,
        "bash": "ls /proc/self/fd | wc -l",
        "javascript": """
            const fs = require('fs'); const kept = [];
            for (let n = 3; n < 4096; n++) { try {
              const link = fs.readlinkSync('/proc/self/fd/' + n);
              if (!/^anon_inode:|^pipe:|^\\/dev\\/null$/.test(link) || fs.fstatSync(n).isSocket()) kept.push([n, link]);
            } catch {} }
            console.log(JSON.stringify(kept));
            """,
    }
    seen = harness.run(language, textwrap.dedent(programs[language]))
    assert (seen.stdout.strip(), seen.status) == ({"bash": "4"}.get(language, "[]"), "succeeded"), seen


@pytest.mark.levels("confined")
def test_confined_python_has_no_descriptor_beyond_its_streams(harness):
    seen = harness.python("tell([number for number in range(3, 4096) if attempt(os.fstat, number) == 'done'])")
    assert seen.told == []


@pytest.mark.levels("confined")
def test_confined_guest_sees_nothing_of_the_hosts_processes(harness, host):
    seen = harness.python(f"""
        paths = "/proc /proc/self /proc/1 /proc/{host.victim.pid} /proc/net".split()
        files = "/proc/self/environ /proc/1/environ /proc/{host.victim.pid}/cmdline /proc/net/tcp /proc/mounts".split()
        tell([attempt(os.listdir, path) for path in paths] + [attempt(open, file) for file in files])
    """).told
    assert set(seen) == {"EACCES"}


def test_guest_cannot_open_the_servers_files(harness, host):
    seen = harness.python(
        f"tell([attempt(open, {str(host.secret_file)!r}), attempt(os.listdir, {str(host.folder)!r})])"
    )
    assert seen.told == ["EACCES" if harness.level is IsolationLevel.CONFINED else "ENOENT"] * 2


@pytest.mark.embedded  # a container has the folders of its image
@pytest.mark.levels(*WHOLE_VIEW)
def test_guest_sees_nothing_of_the_hosts_folders(harness):
    seen = harness.python("""
        listing = {}
        for folder in "/ /root /home /var /sys /run /opt /mnt /srv /boot /var/lib /dev /opt/python-packages".split():
            try: listing[folder] = sorted(os.listdir(folder))
            except FileNotFoundError: listing[folder] = None
        tell(listing)
    """).told
    assert set(seen["/"]) <= ROOT
    assert [seen[folder] for folder in ("/root", "/srv", "/boot", "/var/lib")] == [None] * 4
    assert (seen["/home"], seen["/mnt"]) == (["user"], ["data"])  # links to the workspace
    assert (seen["/sys"], seen["/run"], seen["/var"]) == ([], [], ["tmp"])
    assert set(seen["/opt"]) <= {"codex", "runners", "python", "python-packages", "node"}
    assert seen["/opt/python-packages"] == ["bin", "pyvenv.cfg"]
    assert set(seen["/dev"]) == DEVICES


@pytest.mark.levels("confined")
def test_confined_guest_cannot_open_the_hosts_folders(harness):
    seen = harness.python("""
        folders = "/ /root /home /var /sys /run /mnt /srv /boot /tmp /etc".split()
        tell({folder: attempt(os.listdir, folder) for folder in folders if os.path.isdir(folder)})
    """).told
    assert set(seen.values()) == {"EACCES"}


def test_guest_cannot_read_secrets_of_the_system(harness):
    seen = harness.python(f"""
        def read(file):
            with open(file, "rb") as stream: return stream.read(1).decode("latin-1")
        files = {SYSTEM_SECRETS!r}
        tell({{file: read(file) for file in files if attempt(read, file) == "done"}})
    """).told
    assert {file: byte for file, byte in seen.items() if byte} == {}


def test_guest_finds_the_secret_nowhere_in_what_it_can_read(harness, host):
    seen = harness.python("""
        import stat
        secret, found, read = "-".join(("the", "secret", "of", "the", "host")).encode(), [], 0
        for top in ("/etc", "/opt", "/proc", "/run", "/tmp", "/var", "/dev", "/home", "/root", "/srv", os.getcwd()):
            for folder, folders, names in os.walk(top):
                if folder.count("/") > 4: folders.clear()
                if folder.startswith("/opt/") and folder.count("/") > 3: folders.clear()
                for name in names:
                    path = os.path.join(folder, name)
                    if name in ("kmsg", "kcore", "mem", "pagemap", "clear_refs"): continue
                    try:
                        if not stat.S_ISREG(os.stat(path).st_mode): continue
                        with open(path, "rb", buffering=0) as file: content = file.read(1 << 16)
                    except OSError: continue
                    read += 1
                    if secret in content: found.append(path)
        tell([read, found])
    """)
    read, found = seen.told
    assert found == []
    assert read > (0 if harness.level is IsolationLevel.CONFINED else 20)  # there it can list its own folder alone


@pytest.mark.levels(*WHOLE_VIEW)
def test_guest_sees_no_process_but_its_own(harness):
    *pids, own, parent = harness.python(
        "tell(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()) + [os.getpid(), os.getppid()])"
    ).told
    assert pids == [1, own]  # init, itself
    # In a slot its parent is outside, and has no number here.
    assert parent == (1 if harness.in_container else 0)
    assert harness.in_container or own == 2


def test_guest_cannot_look_into_other_processes(harness, host):
    server, victim = os.getpid(), host.victim.pid
    seen = harness.python(f"""
        answers = {{}}
        for pid in (1, os.getppid(), {server}, {victim}):
            for part in ("environ", "mem", "maps", "io", "syscall", "stack", "pagemap", "auxv"):
                answers[f"{{pid}} {{part}}"] = attempt(lambda: open(f"/proc/{{pid}}/{{part}}", "rb").read(1))
            for link in ("cwd", "root", "exe", "fd/0", "ns/mnt", "ns/user"):
                answers[f"{{pid}} {{link}}"] = attempt(os.readlink, f"/proc/{{pid}}/{{link}}")
            for folder in ("fd", "map_files", "root", "cwd", "task/1/fd"):
                answers[f"{{pid}} {{folder}}/"] = attempt(os.listdir, f"/proc/{{pid}}/{{folder}}")
        tell(answers)
    """).told
    assert len(seen) > 20
    assert {what: answer for what, answer in seen.items() if answer not in ("EACCES", "EPERM", "ENOENT")} == {}


def test_guest_is_not_told_the_servers_paths_by_its_own_process(harness, host):
    seen = harness.python("""
        print(sys.path, sys.argv, sys.executable, sys.orig_argv, os.getcwd(), sorted(sys.modules))
        if attempt(open, "/proc/self/cgroup") == "done": print(open("/proc/self/cgroup").read())
    """)
    assert seen.status == "succeeded"
    assert host.SECRET not in seen.stdout
    assert "codex_server" not in seen.stdout
    assert f"codex-server-{os.getpid()}" not in seen.stdout


def test_guest_streams_are_pipes_of_its_own(harness):
    seen = harness.python("import stat; tell([stat.S_ISFIFO(os.fstat(n).st_mode) for n in (0, 1, 2)])").told
    assert seen == [True, True, True]
