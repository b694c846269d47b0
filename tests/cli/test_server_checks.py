import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codex_server.access.tokens import TokenStore
from codex_server.cli import doctor
from codex_server.cli.main import app
from codex_server.cli.server_checks import examine_address, examine_state_folder
from codex_server.sandboxes.base import Isolation, IsolationLevel
from codex_server.settings import Settings

pytestmark = pytest.mark.unprivileged


def test_a_state_folder_that_can_be_made_is_not_made(tmp_path: Path):
    finding = examine_state_folder(Settings(state_dir=tmp_path / "new" / "state"))
    assert (finding.verdict, finding.found) == ("ok", f"{tmp_path}/new/state, made at the first start")
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_is_no_folder_keeps_the_server_from_starting(tmp_path: Path):
    (tmp_path / "file").write_text("")
    finding = examine_state_folder(Settings(state_dir=tmp_path / "file"))
    assert (finding.verdict, finding.found) == ("lack", f"{tmp_path}/file")
    finding = examine_state_folder(Settings(state_dir=tmp_path / "file", backend="docker", allow_no_auth=True))
    assert (finding.verdict, finding.found) == ("lack", f"{tmp_path}/file cannot be written")
    assert "CODEX_STATE_DIR" in str(finding.remedy)


def test_a_state_folder_that_nobody_needs_is_only_a_note(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert examine_state_folder(Settings(state_dir=tmp_path / "file", allow_no_auth=True)).verdict == "note"


def test_tokens_that_are_there_are_enough_for_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    assert examine_state_folder(Settings(state_dir=tmp_path)).verdict == "lack"
    TokenStore(tmp_path).create("default")
    assert examine_state_folder(Settings(state_dir=tmp_path)).verdict == "note"


def test_damaged_tokens_keep_the_server_from_starting(tmp_path: Path):
    for name, told in (("tokens.json", "is damaged"), ("state.sqlite3", "not a database")):
        (tmp_path / name).write_text("{" * 1000)
        finding = examine_state_folder(Settings(state_dir=tmp_path))
        assert (finding.verdict, told in str(finding.remedy)) == ("lack", True)
        (tmp_path / name).unlink()


@pytest.mark.tier("change")
def test_an_address_is_free_or_keeps_the_server_from_starting():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finding = examine_address(Settings(port=taken.getsockname()[1]))
    assert (finding.verdict, "is in use" in str(finding.remedy)) == ("lack", True)
    assert examine_address(Settings(port=0)).verdict == "ok"


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (b'{"status":"healthy","version":"9.9","isolation":"full"}', "ok"),
        (b'{"status":"ok"}', "lack"),
        (b"[]", "lack"),
        (b"not json", "lack"),
    ],
)
def test_an_address_where_a_server_of_ours_answers_already_is_no_lack(told: bytes, verdict: str):
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(told if self.path == "/health" else b"")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.handle_request).start()
        finding = examine_address(Settings(port=server.server_port))
    assert finding.verdict == verdict
    assert ("Codex Server 9.9 is already running there" in finding.found) == (verdict == "ok")


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
def test_the_command_counts_them_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: bool, code: int
):
    made = []

    def reach(make):
        made.append(make())
        return Isolation(IsolationLevel.FULL, "everything"), None

    monkeypatch.setattr(doctor, "reach", reach)
    if not good:
        (tmp_path / "state").write_text("")
    before = list(tmp_path.iterdir())
    command = ["doctor", "--json", "--set", "port=0", "--set", f"state_dir={tmp_path / 'state'}"]
    assert CliRunner().invoke(app, command).exit_code == code
    assert list(tmp_path.iterdir()) == before
    assert len(made) == 2
