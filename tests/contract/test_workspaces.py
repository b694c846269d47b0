"""Sessions in the operator's folders: what they write is the folder's owner's, and nothing beside it is in reach."""

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codex_server.errors import InvalidRequest, SandboxUnavailable, StartupError
from codex_server.languages import Languages
from codex_server.sandboxes.base import Backend, IsolationLevel
from codex_server.sandboxes.docker.backend import DockerBackend
from codex_server.sandboxes.embedded.backend import EmbeddedBackend
from codex_server.sandboxes.session import NamedWorkspace
from codex_server.sandboxes.stdin import StandardInput
from codex_server.settings import Settings
from tests.contract.harness import Harness
from tests.contract.sessions import Cells, opened
from tests.engine import HOST, built_images
from tests.host_snapshot import next_guest_ids
from tests.levels import out_of_reach
from tests.tiers import in_tier, tier_of_level

pytestmark = [pytest.mark.xdist_group("workspaces"), pytest.mark.unprivileged]

AS_ROOT = os.geteuid() == 0
OWNER = (1234, 1235) if AS_ROOT else (os.geteuid(), os.getegid())
STRANGER = 4321


@dataclass
class Operator:
    """A server at one level, whose operator has named three folders of ``folder``; ``beside`` it is a secret."""

    harness: Harness
    folder: Path

    @property
    def confined(self) -> bool:
        """Whether programs see the host's own folders, through Landlock."""
        return self.harness.name == "confined"

    @property
    def notes(self) -> Path:
        """The folder that may be written."""
        return self.folder / "notes"

    def session(self, name: str = "notes", **given: Any) -> AbstractContextManager[Cells]:
        """A session in the folder of that name."""
        named = self.harness.settings.workspace_folders[name]
        return opened(self.harness, workspace=NamedWorkspace(name, named.folder, named.read_only), **given)


def _folders(top: Path) -> None:
    for name in ("notes", "data", "secret"):
        (top / name).mkdir()
        (top / name / "a.txt").write_text(name, encoding="utf-8")
        if AS_ROOT:
            for path in (top / name, top / name / "a.txt"):
                os.chown(path, *OWNER)


def _backend(level: str, settings: Settings, languages: Languages) -> Backend:
    if level != "docker":
        return EmbeddedBackend(settings, languages, most=IsolationLevel[level.upper()])
    settings = settings.model_copy(update={"docker_image": built_images(languages, "contract"), "docker_host": HOST})
    return DockerBackend(settings, languages)


@pytest.fixture(
    scope="module",
    params=[in_tier(tier_of_level(level), level) for level in ("full", "namespaces", "confined", "docker")],
)
def server(
    request: pytest.FixtureRequest, real_languages: Languages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    level: str = request.param
    if level == "confined" and AS_ROOT:
        pytest.skip("as root, confined sandboxes have ids of their own, which no mount maps: refused at the start")
    with tempfile.TemporaryDirectory(prefix="codex-workspaces-") as folder, asyncio.Runner() as runner:
        top = Path(folder)
        _folders(top)
        settings = Settings(
            state_dir=tmp_path_factory.mktemp("state"),
            workspaces=f"notes={top}/notes,data={top}/data:ro",  # type: ignore[arg-type]
            min_isolation="full" if level == "docker" else level,  # type: ignore[arg-type]
            guest_ids=next_guest_ids(),
            pool_sizes={"python": 1, "javascript": 0},
            max_file_size=2**20,
            max_workspace=2**20,
        )
        backend = _backend(level, settings, real_languages)
        try:
            runner.run(backend.start())
        except StartupError as error:
            out_of_reach(level, error)
        languages = runner.run(backend.survey(real_languages))
        harness = Harness(level, runner, backend, languages, settings)
        runner.run(harness.executor.start())
        yield Operator(harness, top)
        runner.run(harness.executor.close())
        runner.run(backend.close())


@pytest.fixture
def operator(server: Operator) -> Iterator[Operator]:
    """The server, with its folders as they were."""
    for name in ("notes", "data", "secret"):
        shutil.rmtree(server.folder / name / "new", ignore_errors=True)
    yield server
    for path in (*server.notes.iterdir(), *(server.folder / "data").iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "a.txt":
            path.unlink()


def owner_of(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_what_a_session_writes_is_the_owners_own_and_stays(operator: Operator) -> None:
    with operator.session() as cells:
        made = cells.run("import os\nos.mkdir('new')\nopen('new/b.txt', 'w').write('kept')\nopen('a.txt').read()")
        assert [file.path for file in made.ending.files] == ["new/b.txt"]
        cells.run("touch new/of-bash", "bash")
    assert (operator.notes / "new/b.txt").read_text(encoding="utf-8") == "kept"
    written = ("new", "new/b.txt", "new/of-bash")
    assert {owner_of(operator.notes / path) for path in written} == {OWNER}
    with operator.session() as again:
        assert again.shown("print(open('new/b.txt').read())") == "kept\n"


def test_files_that_are_given_are_the_owners_too(operator: Operator) -> None:
    with operator.session(files={"new/given.txt": b"first"}) as cells:
        cells.run("pass", files={"new/deep/more.txt": b"second", "new/given.txt": b"third"})
        assert cells.shown("print(open('new/given.txt').read())") == "third\n"
    written = ("new", "new/deep", "new/given.txt", "new/deep/more.txt")
    assert {owner_of(operator.notes / path) for path in written} == {OWNER}


def test_operations_on_files_write_as_the_owner(operator: Operator) -> None:
    source = StandardInput(b"by hand")
    with operator.session() as cells:
        reply = operator.harness.wait(
            cells.session.operate({"operation": "write", "path": "new/c.txt", "most": 100}, source, lambda _: True)
        )
    assert "ok" in reply, reply
    assert owner_of(operator.notes / "new/c.txt") == OWNER


def test_a_folder_that_is_only_read_refuses_every_write(operator: Operator) -> None:
    with operator.session("data") as cells:
        code = """
            import os
            def attempt(action, *arguments):
                try:
                    action(*arguments)
                except OSError as error:
                    return error.errno
            print(open('a.txt').read(), [attempt(os.open, 'b', os.O_CREAT | os.O_WRONLY), attempt(os.remove, 'a.txt'),
                attempt(os.chmod, 'a.txt', 0o600), attempt(os.mkdir, 'd'), attempt(os.rename, 'a.txt', 'c')])
        """
        refused = [errno.EROFS] * 5
        if operator.confined:
            refused = [errno.EACCES] * 2 + [errno.EPERM] + [errno.EACCES] * 2
        assert cells.shown(textwrap.dedent(code)) == f"data {refused}\n"
        with pytest.raises(InvalidRequest, match="Read-only"):
            cells.run("pass", files={"given.txt": b"no"})
    assert sorted(os.listdir(operator.folder / "data")) == ["a.txt"]


def test_two_sessions_share_a_folder_and_nothing_else(operator: Operator) -> None:
    with operator.session() as one, operator.session() as other:
        one.run("open('shared.txt', 'w').write('from one'); open('/tmp/own', 'w').close()")
        found = "import os; print(open('shared.txt').read(), os.path.exists('/tmp/own'))"
        assert other.shown(found) == "from one False\n"
        if operator.confined:
            return
        seen = "print({int(name) for name in os.listdir('/proc') if name.isdigit()} - {1, os.getpid()})"
        assert other.shown(seen) == "set()\n"
        assert one.shown("print('alive')") == "alive\n"


def test_nothing_beside_the_folder_is_in_reach(operator: Operator) -> None:
    (operator.notes / "way").symlink_to(operator.folder / "secret")
    (operator.notes / "up").symlink_to("../secret/a.txt")
    with operator.session() as cells:
        code = f"""import os
def found(path):
    try:
        return bool(os.listdir(path) if os.path.isdir(path) else open(path).read())
    except OSError:
        return False
print([found(path) for path in ('way/a.txt', 'up', '../secret', '{operator.folder}', '/opt/codex/workspaces/0')])"""
        assert cells.shown(code) == f"{[False] * 5}\n"


def test_an_ordinary_execution_sees_no_named_folder(operator: Operator) -> None:
    code = "import glob, os; print(os.listdir('.'), glob.glob('/opt/codex/workspaces/*'))"
    seen = operator.harness.run("python", code)
    assert seen.stdout.text == "['main.py'] []\n"


@pytest.mark.parametrize(
    "attempt",
    [
        "os.chmod('a.txt', 0o4755)",
        "os.chmod('a.txt', 0o2755)",
        "os.fchmod(os.open('a.txt', os.O_RDWR), 0o6755)",
        "os.close(os.open('made', os.O_CREAT | os.O_WRONLY, 0o4755))",
        "os.close(os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o4755))",
        "os.mknod('made', 0o104755)",
        "os.mknod('made', 0o020666, os.makedev(1, 3))",
        "os.mknod('made', 0o060666, os.makedev(254, 0))",
        "os.chown('a.txt', 0, 0)",
        "os.link('/usr/bin/env', 'made')",
        "os.setxattr('a.txt', 'security.capability', b'x' * 20)",
    ],
)
def test_no_rights_are_left_on_the_disk(operator: Operator, attempt: str) -> None:
    before = (operator.notes / "a.txt").stat()
    with operator.session() as cells:
        outcome = cells.run(f"import os\n{attempt}")
        assert "Error" in outcome.stderr.text, outcome
    after = (operator.notes / "a.txt").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert sorted(os.listdir(operator.notes)) == ["a.txt"]


def test_opening_by_a_structure_does_not_exist(operator: Operator) -> None:
    code = """import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
how = struct.pack('QQQ', os.O_CREAT | os.O_WRONLY, 0o4755, 0)
print(libc.syscall(437, -100, b'made', how, len(how)), os.strerror(ctypes.get_errno()))"""
    with operator.session() as cells:
        assert cells.shown(code) == "-1 Function not implemented\n"


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a file to somebody else")
def test_a_file_of_somebody_else_is_nobodys_in_it(operator: Operator) -> None:
    foreign = operator.notes / "foreign"
    foreign.write_text("theirs", encoding="utf-8")
    foreign.chmod(0o600)
    os.chown(foreign, STRANGER, STRANGER)
    with operator.session() as cells:
        shown_as = STRANGER if operator.harness.name == "docker" else 65534
        assert cells.shown("import os; print(os.stat('foreign').st_uid)") == f"{shown_as}\n"
        assert "PermissionError" in cells.run("open('foreign')").stderr.text
        assert "Error" in cells.run("import os; os.chmod('foreign', 0o666)").stderr.text
    assert foreign.stat().st_mode & 0o777 == 0o600


def test_modes_and_times_of_its_files_can_be_set(operator: Operator) -> None:
    with operator.session() as cells:
        cells.run("import os\nos.mkdir('new')\nopen('new/file', 'w').close()\nos.chmod('new/file', 0o640)")
        assert cells.shown("os.utime('new/file', (5, 5)); os.stat('new/file').st_mtime == 5 and None") == ""
    status = (operator.notes / "new/file").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o640, 5)


def test_a_file_is_bounded_though_the_disk_is_large(operator: Operator) -> None:
    with operator.session() as cells:
        refused = cells.run("open('large', 'wb').write(bytes(2 * 2**20))")
        assert "File too large" in refused.stderr.text
    assert (operator.notes / "large").stat().st_size <= 2**20


def test_the_operators_modes_are_left_alone(operator: Operator) -> None:
    closed = operator.notes / "closed"
    closed.mkdir()
    (closed / "file").touch(mode=0o000)
    closed.chmod(0o500)
    if AS_ROOT:
        for path in (closed, closed / "file"):
            os.chown(path, *OWNER)
    operator.notes.chmod(0o555)
    try:
        with operator.session() as cells:
            assert cells.shown("print(1)") == "1\n"
    finally:
        modes = [path.stat().st_mode & 0o777 for path in (operator.notes, closed, closed / "file")]
        operator.notes.chmod(0o755)
        closed.chmod(0o755)
    assert modes == [0o555, 0o500, 0o000]


def test_a_link_in_place_of_a_folder_keeps_given_files_inside(operator: Operator) -> None:
    (operator.notes / "way").symlink_to(operator.folder / "secret")
    with operator.session() as cells, pytest.raises(InvalidRequest, match="nothing was run"):
        cells.run("pass", files={"way/new/a.txt": b"out"})
    assert sorted(os.listdir(operator.folder / "secret")) == ["a.txt"]


def test_links_that_are_swapped_while_files_are_written_lead_nowhere(operator: Operator) -> None:
    swapping = """import os, threading
def swap():
    while True:
        for make in (lambda: os.mkdir('race'), lambda: os.symlink('/tmp', 'race')):
            try:
                make()
            except OSError:
                pass
            try:
                os.rename('race', 'gone')
            except OSError:
                pass
            os.system('rm -rf gone')
threading.Thread(target=swap, daemon=True).start()
import time
while True:
    time.sleep(1)"""
    with operator.session() as hostile, operator.session() as cells:

        async def play() -> None:
            run = hostile.submit(swapping)
            await run.admitted()
            for _ in range(30):
                try:
                    await cells.submit("pass", files={"race/given.txt": b"x"}).outcome()
                except InvalidRequest:
                    continue
            run.cancel()
            await asyncio.wait([asyncio.ensure_future(run.outcome())])

        operator.harness.wait(play())
        for each in (hostile, cells):
            assert each.shown("import os; print(os.path.exists('/tmp/given.txt'))") == "False\n"


def test_a_socket_of_the_host_beside_the_folder_is_out_of_reach(operator: Operator) -> None:
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(operator.folder / "secret/new"))
        service.listen()
        (operator.notes / "way").symlink_to(operator.folder / "secret/new")
        with operator.session() as cells:
            tried = cells.run("import socket; socket.socket(socket.AF_UNIX).connect('way')")
            why = "Address family not supported" if operator.confined else "FileNotFoundError"
            assert why in tried.stderr.text
    (operator.folder / "secret/new").unlink()


def test_an_overview_is_made_inside_and_a_read_only_folder_has_one_too(operator: Operator) -> None:
    with operator.session("data") as cells:
        request = {"operation": "overview", "most": 1000}
        reply = operator.harness.wait(cells.session.operate(request, StandardInput(), lambda _: True))
    assert reply["ok"]["tree"] == ["a.txt"], reply  # type: ignore[index]


def test_a_folder_that_was_replaced_is_refused_or_still_the_old_one(operator: Operator) -> None:
    """Whatever the path leads to now, a session never has another folder than the operator's own of the start."""
    kept = operator.folder / "kept"
    operator.notes.rename(kept)
    operator.notes.symlink_to(operator.folder / "secret")
    try:
        if operator.harness.name in ("confined", "docker"):
            with pytest.raises(SandboxUnavailable, match="'notes' was moved, replaced or removed"), operator.session():
                pass
        else:
            with operator.session() as cells:
                assert cells.shown("print(open('a.txt').read())") == "notes\n"
        with operator.session("data") as cells:
            assert cells.shown("print(open('a.txt').read())") == "data\n"
        assert operator.harness.backend.problem() is None
    finally:
        operator.notes.unlink()
        kept.rename(operator.notes)


@pytest.mark.skipif(not AS_ROOT, reason="only root has processes of somebody else")
def test_processes_of_the_owner_on_the_host_take_no_place_of_a_session(operator: Operator) -> None:
    others = [subprocess.Popen(["sleep", "100"], user=OWNER[0], group=OWNER[1], extra_groups=[]) for _ in range(20)]
    code = """import os, time
made = []
try:
    while len(made) < 40:
        pid = os.fork()
        if pid == 0:
            time.sleep(100)
        made.append(pid)
except BlockingIOError:
    pass
print(len(made))
for pid in made:
    os.kill(pid, 9)
    os.waitpid(pid, 0)"""
    try:
        with operator.session(processes=15) as cells:
            assert 8 < int(cells.shown(code)) < 30
    finally:
        for other in others:
            other.kill()
            other.wait()
