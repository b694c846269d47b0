"""The interpreter of operations: every request has a reply, whatever is in it."""

import json
import os
import signal
import socket
import subprocess

import pytest

from codex_server.sandboxes.files import content, service
from codex_server.sandboxes.files.service import Ends, perform
from codex_server.sandboxes.guest import kernel


def ask(workspace, source="/dev/null", output=1, **request):
    return perform(workspace, json.dumps(request).encode(), Ends(source, output))


def code_of(reply):
    return reply["error"]["code"]


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"[]",
        b"7",
        b"{}",
        b'{"operation": 7}',
        b'{"operation": "no"}',
        b'{"operation": "read"}',
        b"\xff",
        b"[" * 99999,
    ],
)
def test_a_request_that_makes_no_sense_is_refused(workspace, request_):
    assert code_of(perform(workspace, request_, Ends("/dev/null"))) in ("invalid", "too-deep")


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "write", "path": 7, "most": 9},
        {"operation": "write", "path": "\ud800", "most": 9},
        {"operation": "read", "path": "../outside/secret.txt"},
        {"operation": "tree", "path": "/etc"},
        {"operation": "search", "pattern": "x", "path": ".."},
        {"operation": "copy", "path": "../a", "to": "b"},
        {"operation": "archive", "paths": [], "to": "a.rar", "format": "rar"},
        {"operation": "edit", "path": "a", "edits": [{"search": "x"}]},
        {"operation": "read_texts", "paths": 7},
    ],
)
def test_arguments_that_are_not_right_are_refused(workspace, request_):
    assert code_of(ask(workspace, **request_)) == "invalid"


def test_what_comes_with_an_operation_is_written(workspace, folder, tmp_path):
    (tmp_path / "source").write_bytes(b"content" * 100_000)
    reply = ask(workspace, str(tmp_path / "source"), operation="write", path="a/b", most=10**6)
    assert reply["ok"]["size"] == 700_000
    assert ask(workspace, operation="make_folder", path="c/d")["ok"]["type"] == "folder"
    assert [entry["path"] for entry in ask(workspace, operation="tree")["ok"]["entries"]] == ["a", "a/b", "c", "c/d"]
    assert ask(workspace, operation="move", path="a", to="c/e")["ok"]["path"] == "c/e"
    assert code_of(ask(workspace, operation="delete", path="c")) == "not-empty"
    assert ask(workspace, operation="delete", path="c", recursive=True)["ok"]["type"] == "folder"
    assert os.listdir(folder) == []


def test_an_archive_is_not_written_over_a_file_unless_asked(workspace, folder):
    (folder / "a").write_text("1")
    (folder / "out.zip").write_text("mine")
    request = {"operation": "archive", "paths": ["a"], "to": "out.zip", "format": "zip"}
    assert code_of(ask(workspace, **request)) == "exists"
    assert (folder / "out.zip").read_text() == "mine"
    assert ask(workspace, **request, overwrite=True)["ok"]["files"] == 1
    assert ask(workspace, operation="extract", path="out.zip", to="x", most_bytes=9, most_entries=9)["ok"]["files"]


def test_an_archive_can_be_sent_in_place_of_written(workspace, folder, tmp_path):
    (folder / "a").write_text("1")
    with (tmp_path / "out").open("wb") as output:
        ask(workspace, output=output.fileno(), operation="archive", paths=[], format="zip")
    assert (tmp_path / "out").read_bytes().startswith(b"PK")


def test_folders_that_are_nested_beyond_all_measure_are_a_refusal(workspace, folder):
    top = os.open(folder, os.O_RDONLY)
    here = top
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert code_of(ask(workspace, operation="copy", path="d", to="e")) in ("too-deep", "failed")
    subprocess.run(["rm", "-r", folder / "d", folder / "e"], check=True)  # deeper than shutil.rmtree can go


def test_memory_that_runs_out_is_a_refusal(workspace, folder, monkeypatch):
    def full(*args, **given):
        raise MemoryError

    monkeypatch.setattr(content, "stat_path", full)
    assert code_of(ask(workspace, operation="stat", path="a")) == "no-space"


@pytest.fixture
def served(folder, tmp_path):
    """A process that serves operations in the workspace, and our end of its channel."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            os.chdir(folder)
            service.serve(theirs.fileno(), kernel)
        finally:
            os._exit(1)
    theirs.close()
    ours.settimeout(30)
    assert ours.recv(1) == b"R"
    yield ours, pid
    ours.close()
    assert os.waitpid(pid, 0)[1] == 0


def send(channel, source="/dev/null", **request):
    channel.sendall(b"\0".join([os.fsencode(source), b"", b"", json.dumps(request).encode(), b""]))


def reply_of(channel):
    received = b""
    while not received.endswith(b"\0"):
        received += channel.recv(2**16)
    reply = json.loads(received[:-1])
    assert reply["exit_code"] == 0
    return reply["result"]["application/json"]


def test_operations_are_served_one_after_the_other(served, folder):
    channel, _ = served
    send(channel, operation="make_folder", path="a")
    assert reply_of(channel)["ok"]["type"] == "folder"
    send(channel, operation="stat", path="no")
    assert code_of(reply_of(channel)) == "not-found"


def test_an_operation_that_is_interrupted_leaves_nothing_and_the_next_is_served(served, folder, tmp_path):
    channel, pid = served
    os.kill(pid, signal.SIGINT)  # nothing runs: nothing is to end
    os.mkfifo(tmp_path / "source")
    (folder / "a").write_text("old")
    send(channel, str(tmp_path / "source"), operation="write", path="a", most=10**6)
    with (tmp_path / "source").open("wb") as source:
        source.write(b"half")
        source.flush()
        while not list(folder.glob(".new-*")):
            os.sched_yield()
        os.kill(pid, signal.SIGINT)
        assert code_of(reply_of(channel)) == "cancelled"
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("a", "old")]
    send(channel, operation="stat", path="a")
    assert reply_of(channel)["ok"]["size"] == 3
