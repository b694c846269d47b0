"""What a guest leaves in its workspace is read without trusting a name, a link, a size or a mode."""
# ruff: noqa: E501 - the long lines are programs of guests

import pytest

from codex_server.sandboxes.base import IsolationLevel

pytestmark = pytest.mark.inside


def kept(seen) -> dict[str, bytes]:
    return {file.path: file.content for file in seen.ending.files}


def skipped(seen) -> dict[str, str]:
    return {file.path: file.reason for file in seen.ending.skipped_files}


def test_links_are_not_followed(harness, host):
    seen = harness.python(f"""
        for name, target in (("passwd", "/etc/passwd"), ("environ", "/proc/1/environ"), ("tokens", {str(host.secret_file)!r}), ("self", "."), ("up", ".."), ("main", "main.py"),
                             ("dangling", "/nowhere"), ("loop", "loop"), ("fd", "/proc/self/fd/0")):
            os.symlink(target, name)
        os.mkdir("folder"); os.symlink("/etc", "folder/etc"); os.symlink("/", "root")
        open("folder/mine", "w").write("x")
    """)
    assert seen.status == "succeeded"
    assert kept(seen) == {"folder/mine": b"x"}
    assert len(skipped(seen)) == 11
    assert set(skipped(seen).values()) == {"it is a symbolic link"}


def test_a_link_in_the_workspaces_own_place_is_not_followed(harness, host):
    seen = harness.python(f"""
        home = os.path.dirname(os.path.abspath(__file__))
        open("mine", "w").write("x")
        os.chdir("/")
        attempt(os.rename, home, home + "-moved")
        attempt(os.symlink, {str(host.folder)!r}, home)
        attempt(os.symlink, "/etc", home)
    """)
    assert seen.status == "succeeded"
    assert kept(seen) == {"mine": b"x"}


def test_a_workspace_that_was_removed_is_empty(harness):
    seen = harness.python("""
        home = os.getcwd()
        os.unlink("main.py"); os.chdir("/"); attempt(os.rmdir, home)
    """)
    assert (seen.status, kept(seen), skipped(seen)) == ("succeeded", {}, {})


@pytest.mark.levels("full", "namespaces")
def test_a_hard_link_to_the_systems_files_cannot_be_made(harness):
    seen = harness.python(
        "tell([attempt(os.link, file, 'linked') for file in ('/etc/passwd', '/bin/sh', '/proc/1/environ')])"
    )
    assert seen.told == ["EXDEV"] * 3
    assert kept(seen) == {}


def test_pipes_and_sockets_are_passed_over_without_waiting(harness):
    seen = harness.python("""
        import socket
        os.mkfifo("fifo"); os.mkfifo("fifo2", 0o666)
        try:
            bound = socket.socket(socket.AF_UNIX); bound.bind("socket")
        except OSError: pass
        open("file", "w").write("x")
    """)
    assert kept(seen) == {"file": b"x"}
    sockets = {} if harness.level is IsolationLevel.CONFINED else {"socket": "it is a socket"}
    assert skipped(seen) == {"fifo": "it is a named pipe", "fifo2": "it is a named pipe"} | sockets


@pytest.mark.parametrize("depth", [40, 400, 5000])
def test_a_deep_tree_is_cut_and_removed(harness, depth):
    seen = harness.python(f"""
        for _ in range({depth}):
            os.mkdir("d"); os.chdir("d")
        open("deep", "w").write("x")
    """)
    assert seen.status == "succeeded"
    assert kept(seen) == {}
    assert "levels deep" in next(iter(skipped(seen).values()))


def test_a_tree_of_long_names_is_cut(harness):
    seen = harness.python("""
        for _ in range(40):
            os.mkdir("d" * 255); os.chdir("d" * 255)
        open("deep", "w").write("x")
    """)
    assert (seen.status, kept(seen), len(skipped(seen))) == ("succeeded", {}, 1)


def test_hostile_names_come_out_as_text(harness):
    seen = harness.python(r"""
        for name in (b"\xff\xfe", b"new\nline", b"tab\t", b"\x1b[31mred", b"caf\xc3\xa9", b"%41\xff", b" ", b"-rf", b"a\\b", b"quote\"'", b"\xe2\x80\xae"):
            open(name, "wb").write(name)
    """)
    found = kept(seen)
    assert len(found) == 11
    assert {"%FF%FE", "new\nline", "café", "%2541%FF", "-rf"} <= set(found)
    for path in found:
        path.encode("utf-8")


def test_folders_with_hostile_names_are_walked(harness):
    seen = harness.python(r"""
        os.mkdir(b"\xff"); open(b"\xff/in", "wb").write(b"x"); os.mkdir("..."); open(".../.hidden", "w").write("y")
    """)
    assert kept(seen) == {"%FF/in": b"x", ".../.hidden": b"y"}


def test_a_sparse_giant_is_not_read(harness):
    seen = harness.python("""
        with open("giant", "wb") as file: file.truncate(65 << 20)
        with open("small", "wb") as file: file.write(b"x")
    """)
    assert kept(seen) == {"small": b"x"}
    bound = harness.settings.max_artifact
    assert skipped(seen) == {"giant": f"it is larger than the {bound} bytes that are kept of one file"}


def test_many_files_are_cut(harness):
    seen = harness.python("""
        for n in range(15_000 if os.getcwd() == "/workspace" else 3000): open(f"f{n}", "w").write("x")
    """)
    assert seen.status == "succeeded"
    assert len(kept(seen)) <= 200
    assert len(seen.ending.skipped_files) <= 201
    assert "more entries are not listed" in seen.ending.skipped_files[-1].reason


def test_files_together_are_bounded(harness):
    seen = harness.python("for n in range(30): open(f'f{n}', 'wb').truncate(3 << 20)")
    total = sum(len(file.content) for file in seen.ending.files)
    bound = harness.settings.max_artifacts_execution + 2 * harness.settings.max_response
    assert bound / 2 < total <= bound
    assert set(skipped(seen).values()) == {"the files before it took the room that there is for files"}


def test_large_files_come_back_whole_and_their_way_back_is_not_counted(harness):
    seen = harness.python(
        """
        part = bytes(range(256)) * 4096
        with open("large", "wb") as file:
            for n in range(20): file.write(part); file.write(b"%d" % n)
        os.link("large", "same"); os.truncate("same", 11 << 20)
        open("sparse", "wb").truncate(30 << 20)
        """,
        memory_bytes=64 << 20,
    )
    whole = b"".join(bytes(range(256)) * 4096 + b"%d" % n for n in range(20))
    assert seen.status == "succeeded"
    assert kept(seen) == {"large": whole[: 11 << 20], "same": whole[: 11 << 20], "sparse": bytes(30 << 20)}


def test_a_file_beside_which_no_copy_has_room_comes_back(harness):
    seen = harness.python(
        """
        part = os.urandom(2**20)
        with open("large", "wb", buffering=0) as file:
            for n in range(40): file.write(part)
        """,
        memory_bytes=64 << 20,
    )
    assert seen.status == "succeeded"
    assert {path: len(content) for path, content in kept(seen).items()} == {"large": 40 << 20}


def test_files_that_may_not_be_read_do_no_harm(harness):
    seen = harness.python("""
        for name in ("none", "only-written"): open(name, "w").write(name)
        attempt(os.chmod, "none", 0); attempt(os.chmod, "only-written", 0o200)
        os.close(os.open("made-so", os.O_CREAT | os.O_WRONLY, 0))
        os.mkdir("closed", 0)
        for mode in (0o100, 0o200, 0o400, 0o600):
            os.mkdir(f"folder-{mode:o}"); open(f"folder-{mode:o}/inner", "w").write("x"); attempt(os.chmod, f"folder-{mode:o}", mode)
        open("open", "w").write("x")
        attempt(os.chmod, ".", 0)
    """)
    assert seen.status == "succeeded"
    assert kept(seen)["open"] == b"x"


def test_a_daemon_that_swaps_files_for_links_meanwhile_is_dead_before_they_are_read(harness):
    seen = harness.python("""
        import time
        open("victim", "w").write("mine"); os.symlink("/etc/passwd", "link")
        if os.fork() == 0:
            os.setsid()
            if os.fork(): os._exit(0)
            for number in (0, 1, 2): os.close(number)
            while True:
                try: os.rename("victim", "spare"); os.rename("link", "victim"); os.rename("victim", "link"); os.rename("spare", "victim")
                except OSError: pass
        time.sleep(0.05)
    """)
    assert seen.status == "succeeded"
    assert list(kept(seen).values()) == [b"mine"]


def test_a_daemon_that_lets_a_file_grow_meanwhile_is_dead_before_it_is_read(harness):
    seen = harness.python("""
        import time
        if os.fork() == 0:
            with open("growing", "wb", buffering=0) as file:
                while True: file.write(b"x" * 100); file.truncate(0) if file.tell() > 20_000 else None
        time.sleep(0.05)
    """)
    assert seen.status == "succeeded"
    assert all(len(file.content) <= harness.settings.max_artifact for file in seen.ending.files)


def test_input_files_that_were_not_touched_are_not_handed_back(harness):
    seen = harness.python(
        "open('changed', 'a').write('!'); open('new', 'w').write('n')",
        files={"same": b"same", "folder/same": b"same", "changed": b"changed"},
    )
    assert kept(seen) == {"changed": b"changed!", "new": b"n"}


def test_an_input_file_that_was_put_back_with_its_old_time_is_noticed(harness):
    seen = harness.python(
        """
        before = os.stat("input")
        open("input", "w").write("EVIL")
        os.utime("input", ns=(before.st_atime_ns, before.st_mtime_ns))
        """,
        files={"input": b"good"},
    )
    assert kept(seen) == {"input": b"EVIL"}


def test_a_node_program_cannot_hand_back_what_it_may_not_read(harness):
    seen = harness.run(
        "javascript", "const fs = require('fs'); fs.symlinkSync('/etc/passwd', 'p'); fs.writeFileSync('ok', 'x');"
    )
    assert (seen.status, kept(seen)) == ("succeeded", {"ok": b"x"})


def test_a_file_of_another_file_system_is_not_entered(harness):
    if harness.level is IsolationLevel.CONFINED:
        pytest.skip("there are no mounts of its own at level confined")
    seen = harness.python(
        "tell(attempt(os.mkdir, '/workspace/proc')); os.symlink('/proc', 'p'); os.symlink('/tmp', 't')"
    )
    assert kept(seen) == {}
