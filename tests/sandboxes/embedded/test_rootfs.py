"""The guest root's plan: nothing of the host is in it but what its policy names."""

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Start
from codex_server.packages.package_set import InstalledPackages
from codex_server.sandboxes.embedded import rootfs
from codex_server.sandboxes.embedded.rootfs import (
    FIRST_SLOT_ID,
    SINGLE_ID,
    root_entries,
    with_private_libraries,
)
from codex_server.sandboxes.environment import guest_environment
from codex_server.sandboxes.guest.overlay import LAYERS

pytestmark = pytest.mark.unprivileged

SANDBOXES = Path("/srv/codex/sandboxes")
SYSTEM = Language(
    name="bash",
    title="Bash",
    aliases=(),
    file_name="main.sh",
    start=Start.COMMAND,
    command=("{program}", "{file}"),
    env={},
    pool="python",
    folder=Path("/srv/runners/bash"),
    interpreter=Interpreter("bash", Path("/usr/bin/bash")),
    version="5",
)
OWN = replace(
    SYSTEM,
    name="python",
    start=Start.FORK,
    folder=Path("/srv/runners/python"),
    interpreter=Interpreter("python3", Path("/root/py/bin/python3"), Path("/root/py")),
)
MISSING = replace(SYSTEM, name="ruby", folder=Path("/srv/runners/ruby"), interpreter=None)
LANGUAGES = (OWN, SYSTEM, MISSING)
ALLOWED_SOURCES = {
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/perl"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/terminfo"),
    *map(str, (*(SANDBOXES / name for name in ("files", "guest", "protocol")), OWN.folder, SYSTEM.folder, "/root/py")),
}


def entries(kind: str, slots: int = 3) -> list[tuple[str, ...]]:
    return [entry for entry in root_entries(LANGUAGES, SANDBOXES, slots) if entry[0] == kind]


def test_only_what_the_policy_names_is_bound():
    sources = {source for _, _, source in entries("bind")}
    assert sources <= ALLOWED_SOURCES
    assert {str(SANDBOXES / "guest"), "/root/py", "/usr", "/srv/runners/bash", "/srv/runners/python"} <= sources


def test_a_file_of_the_host_is_copied_so_that_its_inode_is_not_shown():
    assert [source for _, _, source in entries("bind") if os.path.isfile(source)] == []
    assert {source for _, _, source in entries("copy")} <= ALLOWED_SOURCES
    assert ("copy", "/etc/ld.so.cache", "/etc/ld.so.cache") in entries("copy")


def test_the_warm_interpreter_runs_a_copy_of_its_program_that_nobody_may_read():
    plain = [("bind", "/usr", "/usr")]
    assert rootfs.with_own_program(plain, "/usr/bin/python3.11", Path("/srv/bin/python3.11")) == [
        *plain,
        ("copy", rootfs.OWN_PROGRAM, "/srv/bin/python3.11", "111"),
        ("over", "/usr/bin/python3.11", rootfs.OWN_PROGRAM),
    ]


def test_an_overlay_lies_over_each_folder_that_is_bound_and_over_nothing_else():
    assert rootfs.shown_folders(root_entries(LANGUAGES, SANDBOXES, 1)) == [target for _, target, _ in entries("bind")]


def test_no_home_and_no_state_of_the_host_is_bound():
    for _, _, source in entries("bind"):
        parts = Path(source).parts
        assert source == "/root/py" or parts[1] not in (
            "home",
            "root",
            "var",
            "run",
            "proc",
            "sys",
            "dev",
            "tmp",
            "mnt",
        )
        assert source != "/"


def test_a_bind_shows_a_folder_in_its_own_place_or_below_opt():
    for _, target, source in entries("bind"):
        assert target == source or target.startswith("/opt/")


def test_an_interpreter_of_the_system_needs_no_bind_and_a_missing_one_no_runner():
    targets = [target for _, target, _ in entries("bind")]
    assert "/opt/python3" in targets
    assert "/opt/runners/bash" in targets
    assert not {"/opt/bash", "/opt/runners/ruby"} & set(targets)


def test_an_interpreter_that_two_languages_share_is_bound_once():
    twin = replace(OWN, name="python-too")
    binds = [entry[1] for entry in root_entries((OWN, twin), SANDBOXES, 1) if entry[0] == "bind"]
    assert binds.count("/opt/python3") == 1
    assert len(binds) == len(set(binds))


def test_the_devices_are_the_five_harmless_ones_and_the_programs_terminal():
    assert {source for _, _, source in entries("device")} == {
        f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero")
    }
    assert all(target == source for _, target, source in entries("device"))


def test_the_guest_roots_own_files_say_nothing_of_the_host():
    files = {path: content for _, path, content in entries("file")}
    assert set(files) == {
        *(f"/etc/{name}" for name in ("passwd", "group", "hosts", "hostname", "nsswitch.conf", "resolv.conf")),
        "/opt/python3-packages/pyvenv.cfg",
        rootfs.NOTHING,
    }
    assert os.uname().nodename not in files["/etc/hostname"]
    assert files["/etc/resolv.conf"] == ""
    assert all(content == "" or content.endswith("\n") for content in files.values())


@pytest.mark.parametrize("slots", [1, 30])
def test_every_slots_id_has_a_name_and_a_group(slots):
    files = {path: content for _, path, content in entries("file", slots)}
    users = [row.split(":") for row in files["/etc/passwd"].splitlines()]
    groups = [row.split(":") for row in files["/etc/group"].splitlines()]
    guests = {SINGLE_ID, *range(FIRST_SLOT_ID, FIRST_SLOT_ID + slots)}
    assert {int(row[2]) for row in users} == {0, 65534, *guests} == {int(row[2]) for row in groups}
    assert all(len(row) == 7 for row in users)
    assert {row[0] for row in users if int(row[2]) in guests} == {"runner"}
    assert all(row[2] == row[3] for row in users)


def test_no_bind_hides_what_was_placed_before_it():
    plan = root_entries(LANGUAGES, SANDBOXES, 1)
    for earlier, later in itertools.combinations(plan, 2):
        assert later[0] != "bind" or Path(later[1]) not in Path(earlier[1]).parents, (earlier, later)


def test_links_of_a_merged_usr_stay_links_and_absent_folders_stay_absent(monkeypatch, tmp_path):
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    places = [str(tmp_path / name) for name in ("usr", "lib", "lib32")]
    monkeypatch.setattr(rootfs, "_SYSTEM", places)
    usr, lib, _ = places
    found = [entry for entry in root_entries([], SANDBOXES, 1) if entry[1].startswith(str(tmp_path))]
    assert found == [("bind", usr, usr), ("link", lib, "usr/lib")]


def test_a_path_as_the_guest_sees_it():
    assert rootfs.guest_path(OWN.interpreter) == "/opt/python3/bin/python3"
    assert rootfs.guest_path(SYSTEM.interpreter) == "/usr/bin/bash"
    assert rootfs.runner_folder(SYSTEM) == "/opt/runners/bash"


def test_the_environment_is_built_from_nothing(monkeypatch):
    before = guest_environment(rootfs.program_folders(LANGUAGES))
    for name in [*os.environ, *before, "LD_PRELOAD", "CODEX_API_TOKEN"]:
        monkeypatch.setenv(name, "of-the-server")
    environment = guest_environment(rootfs.program_folders(LANGUAGES))
    assert environment == before
    assert set(environment) == {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"}
    assert environment["PATH"] == "/opt/python3-packages/bin:/opt/python3/bin:/usr/local/bin:/usr/bin:/bin"
    assert guest_environment([], temp="/elsewhere")["HOME"] == "/elsewhere"


@pytest.fixture
def library_roots(monkeypatch, tmp_path):
    roots = [tmp_path / "usr-lib", tmp_path / "usr-local-lib"]
    for root in roots:
        (root / "x86_64-linux-gnu").mkdir(parents=True)
    monkeypatch.setattr(rootfs, "_LIBRARY_ROOTS", tuple(map(str, roots)))
    return roots


NAME = "libpython3.99.so.1.0"
SOURCE = Path("/root/py/lib") / NAME


def test_a_library_that_the_system_has_too_is_laid_over_each_copy_of_it(library_roots):
    copies = [library_roots[0] / "x86_64-linux-gnu" / NAME, library_roots[1] / NAME]
    for copy in copies:
        copy.write_bytes(b"the system's")
    (library_roots[1] / "x86_64-linux-gnu" / NAME).symlink_to(copies[1])
    plain = [("bind", "/usr", "/usr"), ("link", "/lib", "usr/lib")]
    changed = with_private_libraries(plain, {NAME: SOURCE}, "/opt/python3/lib")
    assert changed == [
        *plain,
        *(("cover", str(copy), str(SOURCE)) for copy in sorted(copies)),
        *(("link", f"{LAYERS}{copy}", f"/opt/python3/lib/{NAME}") for copy in sorted(copies)),
    ]


def test_a_library_that_the_system_lacks_gets_a_link_where_the_loader_looks(library_roots, tmp_path):
    old = tmp_path / "merged"
    old.mkdir()
    for name in ("libc.so.6", "ld-linux.so.2"):
        (old / name).touch()
    plain = [("bind", "/usr", "/usr"), ("link", "/lib", str(old)), ("link", "/bin", "usr/bin")]
    assert with_private_libraries(plain, {NAME: SOURCE}, "/opt/python3/lib") == [
        ("bind", "/usr", "/usr"),
        ("link", "/lib/ld-linux.so.2", str(old / "ld-linux.so.2")),
        ("link", "/lib/libc.so.6", str(old / "libc.so.6")),
        ("link", f"/lib/{NAME}", f"/opt/python3/lib/{NAME}"),
        ("link", "/bin", "usr/bin"),
    ]


def test_without_private_libraries_the_plan_stays_as_it_is(library_roots):
    plain = root_entries(LANGUAGES, SANDBOXES, 1)
    assert with_private_libraries(plain, {}, "/opt/python3/lib") == plain


PACKAGES = InstalledPackages(Path("/home/ada/state/packages/python-3.11-abc"), "pip", "/root/py/bin/python3", (), 1)
WITH_PACKAGES = replace(OWN, packages=PACKAGES)


def entries_with_packages() -> list[tuple[str, ...]]:
    bare = root_entries(LANGUAGES, SANDBOXES, 3)
    return [entry for entry in root_entries((WITH_PACKAGES, SYSTEM), SANDBOXES, 3) if entry not in bare]


def test_python_programs_have_a_virtual_environment_of_the_guest_root_s_own_making():
    assert [entry for entry in root_entries(LANGUAGES, SANDBOXES, 3) if entry[1].startswith("/opt/python3-")] == [
        ("file", "/opt/python3-packages/pyvenv.cfg", "home = /opt/python3/bin\ninclude-system-site-packages = false\n"),
        ("link", "/opt/python3-packages/bin/python3", "/opt/python3/bin/python3"),
        ("link", "/opt/python3-packages/bin/python", "/opt/python3/bin/python3"),
    ]


def test_data_packages_are_the_library_of_that_environment():
    assert entries_with_packages() == [
        ("bind", "/opt/python3-packages/lib", "/home/ada/state/packages/python-3.11-abc/lib"),
        ("link", "/opt/python3-packages/lib64", "lib"),
    ]


def test_only_the_bind_of_the_packages_names_the_host():
    naming = [entry for entry in entries_with_packages() if any("/home/ada" in part for part in entry)]
    assert [entry[0] for entry in naming] == ["bind"]


def test_a_set_that_two_languages_share_is_there_once():
    second = replace(WITH_PACKAGES, name="other", folder=Path("/srv/runners/other"))
    targets = [entry[1] for entry in root_entries((WITH_PACKAGES, second), SANDBOXES, 3)]
    assert len(targets) == len(set(targets))
    assert "/opt/python3-packages/lib" in targets


@pytest.mark.parametrize("python", [OWN, WITH_PACKAGES], ids=["empty", "with-packages"])
def test_programs_run_in_their_environment_and_find_it_first(python):
    assert rootfs.guest_program(python) == "/opt/python3-packages/bin/python3"
    assert rootfs.guest_program(SYSTEM) == "/usr/bin/bash"
    path = guest_environment(rootfs.program_folders((SYSTEM, python)))["PATH"]
    assert path.startswith("/opt/python3-packages/bin:/opt/python3/bin:")


def test_the_system_s_python_is_found_in_its_environment_too():
    system = replace(WITH_PACKAGES, interpreter=Interpreter("python", Path("/usr/bin/python3.11")))
    assert guest_environment(rootfs.program_folders((system,)))["PATH"].startswith(
        "/opt/python-packages/bin:/usr/local/bin:"
    )
    links = {entry[1:] for entry in root_entries((system,), SANDBOXES, 3) if entry[0] == "link"}
    assert ("/opt/python-packages/bin/python3.11", "/usr/bin/python3.11") in links


def test_what_proc_reports_about_the_host_is_masked():
    """The list that container runtimes mask, as far as these files are there without a driver."""
    reported = {"cmdline", "config.gz", "diskstats", "kallsyms", "keys", "modules", "partitions", "swaps", "timer_list"}
    assert {f"/proc/{name}" for name in reported | {"bus", "fs", "irq"}} < set(rootfs.MASKS)
    assert rootfs.MASKS["/proc/sys/kernel/random/boot_id"] == (rootfs.BOOT_ID, rootfs.BOOT_ID)
