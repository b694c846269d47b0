"""What a zygote is sent about data packages: which interpreter it is, what it may read, which variables it has."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.interpreters import find_interpreter
from codex_server.languages import Languages, load_languages
from codex_server.packages.package_set import InstalledPackages
from codex_server.sandboxes.embedded import plans as module
from codex_server.sandboxes.embedded.environments import make_empty_environment
from codex_server.sandboxes.embedded.guestids import GuestIds
from codex_server.sandboxes.embedded.plans import HostParts, Kind, Plans, empty_environment
from codex_server.sandboxes.embedded.zygote_process import SANDBOXES_FOLDER
from codex_server.settings import Settings

pytestmark = pytest.mark.unprivileged

HOME = Path("/nonexistent/sandboxes")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other accounts may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="codex-packages-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


SLOTS = Settings().max_sessions + 40


def host(*, own_ids: bool) -> HostParts:
    ids_in_map = (0, 70_000, 20_000 if own_ids else 1)
    ids = GuestIds(ids_in_map, ids_in_map, map_tool=False)
    python = find_interpreter("python")
    assert python
    return HostParts(python, ids, None, SLOTS)


def languages_with(folder: Path) -> Languages:
    installed = InstalledPackages(folder, "pip", "/usr/bin/python3", (), 1)
    return Languages(replace(lang, packages=installed) if lang.name == "python" else lang for lang in load_languages())


def confined(languages: Languages, *, own_ids: bool = False, **settings: object) -> Plans:
    return Plans.for_confined(Settings(**settings), languages, host(own_ids=own_ids), HOME)  # type: ignore[arg-type]


def test_in_a_guest_root_the_zygote_is_the_environment_s_python(open_folder: Path) -> None:
    plans = Plans.for_namespaces(Settings(), languages_with(open_folder), host(own_ids=True))
    assert plans.launch_plan.argv[0] == "/opt/python-packages/bin/python3"
    assert plans.launch_plan.env["PATH"].startswith("/opt/codex/sandboxes/guest/absent:/opt/python-packages/bin:")
    assert str(open_folder) not in str(plans.launch_plan.env)


def test_without_packages_the_zygote_is_the_python_of_an_empty_environment() -> None:
    plans = Plans.for_namespaces(Settings(), load_languages(), host(own_ids=True))
    assert plans.launch_plan.argv[0] == "/opt/python-packages/bin/python3"
    assert plans.launch_plan.env["PATH"].startswith("/opt/codex/sandboxes/guest/absent:/opt/python-packages/bin:")
    placed = [entry[1] for entry in plans.launch_plan.namespaces.entries]
    assert "/opt/python-packages/pyvenv.cfg" in placed
    assert not [target for target in placed if target.startswith("/opt/python-packages/lib")]
    assert not {"MPLBACKEND", "OMP_NUM_THREADS"} & set(plans.launch_plan.env)


def test_a_confined_guest_may_read_the_packages_at_their_own_place(open_folder: Path) -> None:
    plans = confined(languages_with(open_folder))
    assert plans.launch_plan.argv[0] == str(open_folder / "bin" / "python3")
    assert str(open_folder) in plans.setup.landlock.readable
    assert plans.shortfall == ()


def test_without_packages_a_confined_guest_has_an_empty_environment_beside_the_sandboxes(open_folder: Path) -> None:
    environment = empty_environment(open_folder)
    make_empty_environment(environment, Path("/usr/bin/python3.11"))
    plans = Plans.for_confined(Settings(), load_languages(), host(own_ids=True), open_folder)
    assert plans.launch_plan.argv[0] == str(environment / "bin" / "python3")
    assert str(environment) in plans.setup.landlock.readable
    assert str(open_folder) not in plans.setup.landlock.readable
    assert plans.slot(0, Kind()).order.env["PATH"].startswith(f"{SANDBOXES_FOLDER}/guest/absent:{environment}/bin:")


@pytest.mark.parametrize("own_ids", [False, True])
def test_a_confined_guest_may_open_what_the_policy_names_and_no_more(
    own_ids: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    languages = load_languages()
    monkeypatch.setattr(Path, "exists", lambda path: True)
    plans = confined(languages, own_ids=own_ids)
    known = [language for language in languages if language.interpreter]
    own = {
        str(folder) for lang in known if lang.interpreter for folder in (lang.folder, lang.interpreter.root) if folder
    }
    assert set(plans.setup.landlock.readable) - own == {
        *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
        *("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/perl"),
        *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/terminfo"),
        *("/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/passwd"),
        str(SANDBOXES_FOLDER / "files"),
        str(empty_environment(HOME)),
        str(SANDBOXES_FOLDER / "guest/absent"),
    }
    assert set(plans.setup.landlock.writable_devices) == {
        f"/dev/{name}" for name in ("full", "null", "random", "urandom", "zero")
    }


@pytest.mark.parametrize("own_ids", [False, True])
def test_what_this_host_lacks_is_not_requested(own_ids: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    languages = load_languages()
    monkeypatch.setattr(Path, "exists", lambda path: str(path) in ("/usr", "/dev/null"))
    setup = confined(languages, own_ids=own_ids).setup
    assert (setup.landlock.readable, setup.landlock.writable_devices) == (("/usr",), ("/dev/null",))


def test_the_zygote_loads_python_s_agent_from_where_it_sees_it() -> None:
    languages = load_languages()
    own_root = Plans.for_namespaces(Settings(), languages, host(own_ids=True))
    assert own_root.setup.agent == "/opt/runners/python/agent.py"
    assert confined(languages).setup.agent == str(languages.find("python").folder / "agent.py")


def test_packages_that_guests_with_ids_of_their_own_cannot_enter_are_left_out_with_the_remedy(
    open_folder: Path,
) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    plans = confined(languages_with(closed / "python"), own_ids=True)
    assert str(closed) not in str(plans.setup.landlock.readable)
    assert plans.launch_plan.argv[0] == str(empty_environment(HOME) / "bin" / "python3")
    (why,) = plans.shortfall
    assert str(closed) in why
    assert "CODEX_PACKAGES_DIR" in why


def test_the_server_s_own_account_reads_what_others_cannot_enter(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    assert confined(languages_with(closed)).shortfall == ()


def test_figures_that_nobody_wants_are_drawn_by_the_plain_backend(open_folder: Path) -> None:
    kept, plain = (confined(languages_with(open_folder), save_figures=wanted) for wanted in (True, False))
    assert "MPLBACKEND" not in kept.launch_plan.env
    assert plain.launch_plan.env["MPLBACKEND"] == "Agg"


@pytest.mark.parametrize(("processors", "bound"), [(2, None), (8, None), (64, "8")])
def test_libraries_do_not_start_a_thread_for_each_of_many_processors(
    processors: int, bound: str | None, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
    environment = confined(languages_with(open_folder)).launch_plan.env
    assert environment.get("OPENBLAS_NUM_THREADS") == environment.get("OMP_NUM_THREADS") == bound


def test_a_confined_guest_finds_the_javascript_packages_beside_its_workspace(open_folder: Path) -> None:
    installed = InstalledPackages(open_folder / "node-24", "npm", "/usr/bin/node", (), 1)
    found = [replace(lang, packages=installed) if lang.name == "javascript" else lang for lang in load_languages()]
    home = open_folder / "home"
    home.mkdir()
    plans = Plans.for_confined(Settings(), Languages(found), host(own_ids=False), home)
    folder = plans.slot(0, Kind()).folder
    assert folder
    assert (folder / "node_modules").readlink() == open_folder / "node-24" / "node_modules"
    assert "node_modules" not in {path.name for path in home.iterdir()}


@pytest.mark.parametrize(("sessions", "margin"), [(200, 140), (10, 2 * (SLOTS - 10) + 30)])
def test_where_all_have_one_id_the_margin_for_processes_stays_small_however_many_sessions_may_be_open(
    sessions: int, margin: int
) -> None:
    settings = Settings(max_sessions=sessions)
    assert module._process_margin(settings, host(own_ids=False), namespaces=True) == margin
    assert module._process_margin(settings, host(own_ids=False), namespaces=False) > margin
    assert module._process_margin(settings, host(own_ids=True), namespaces=True) == 0
