"""Whose containers are whose: servers on one state folder share an owner, and only the last one alive is alone."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codex_server.errors import StartupError
from codex_server.sandboxes.docker.ownership import Ownership

pytestmark = pytest.mark.unprivileged

FOUND_ALONE = """
import sys
from pathlib import Path
from codex_server.sandboxes.docker.ownership import Ownership
with Ownership(Path(sys.argv[1])) as mine:
    print("here", flush=True)
    sys.stdin.read()
"""


def test_servers_on_one_folder_have_one_owner_and_each_its_own_instance(tmp_path: Path):
    with Ownership(tmp_path) as first, Ownership(tmp_path) as second:
        assert first.owner == second.owner != ""
        assert first.instance != second.instance


def test_an_owner_keeps_its_name_from_one_start_to_the_next(tmp_path: Path):
    with Ownership(tmp_path) as before:
        pass
    with Ownership(tmp_path) as after:
        assert after.owner == before.owner
        assert after.instance != before.instance


def test_two_folders_are_two_owners(tmp_path: Path):
    with Ownership(tmp_path / "a") as first, Ownership(tmp_path / "b") as second:
        assert first.owner != second.owner
        assert first.alone()
        assert second.alone()


def test_the_file_and_its_folder_are_this_accounts_alone(tmp_path: Path):
    with Ownership(tmp_path / "state"):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "state" / "docker-owner").stat().st_mode) == 0o600


def test_only_who_has_no_other_beside_it_is_alone(tmp_path: Path):
    with Ownership(tmp_path) as first:
        assert first.alone()
        with Ownership(tmp_path) as second:
            assert not first.alone()
            assert not second.alone()
        assert first.alone()


def test_asking_does_not_give_the_own_place_away(tmp_path: Path):
    with Ownership(tmp_path) as first, Ownership(tmp_path) as second:
        for _ in range(3):
            assert not first.alone()
            assert not second.alone()


def test_a_server_that_was_killed_is_known_to_be_dead(tmp_path: Path):
    command = [sys.executable, "-c", FOUND_ALONE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"here\n"
        with Ownership(tmp_path) as mine:
            assert not mine.alone()
            other.kill()
            other.wait()
            assert mine.alone()


def test_two_living_servers_that_ask_at_the_same_moment_are_neither_of_them_alone(tmp_path: Path):
    answers: list[bool] = []
    with Ownership(tmp_path) as first, Ownership(tmp_path) as second:

        def ask(who: Ownership) -> None:
            answers.extend(who.alone() for _ in range(20_000))

        askers = [threading.Thread(target=ask, args=(who,)) for who in (first, second)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
    assert len(answers) == 40_000
    assert not any(answers)


def test_servers_that_make_the_file_at_the_same_moment_agree_on_the_owner(tmp_path: Path):
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        owners: list[str] = []
        start = threading.Barrier(4)

        def open_it(folder: Path = folder, start: threading.Barrier = start, owners: list[str] = owners) -> None:
            start.wait()
            with Ownership(folder) as mine:
                owners.append(mine.owner)

        openers = [threading.Thread(target=open_it) for _ in range(4)]
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join(30)
        assert len(owners) == 4
        assert len(set(owners)) == 1


def test_closing_twice_is_closing(tmp_path: Path):
    before = os.listdir("/proc/self/fd")
    with Ownership(tmp_path) as mine:
        mine.close()
    mine.close()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("obstacle", ["a file in the folder's place", "a folder in the file's place"])
def test_a_folder_that_cannot_be_used_is_reported_with_what_to_do(tmp_path: Path, obstacle: str):
    folder = tmp_path / "state"
    if obstacle.startswith("a file"):
        folder.write_text("")
    else:
        (folder / "docker-owner").mkdir(parents=True)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StartupError, match=r"docker-owner cannot be used \(.+\): .* CODEX_STATE_DIR") as caught:
        Ownership(folder).__enter__()
    assert str(folder) in str(caught.value)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_this_account_may_not_write_is_reported_with_what_to_do(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(StartupError, match=r"Permission denied.*CODEX_STATE_DIR"):
        Ownership(tmp_path / "state").__enter__()
