"""Whole files: written at one stroke, by their tags, and what a guest does in between."""

import os
import stat

import pytest

from codex_server.sandboxes.files import content
from codex_server.sandboxes.files import workspace as files_of_workspace
from codex_server.sandboxes.files.problem import Problem, problem_of
from codex_server.sandboxes.files.workspace import tag_of_content

MOST = 1000


def write(workspace, path, data=b"new", **given):
    return content.write(workspace, path, iter([data]), **({"most": MOST} | given))


def code_of(attempt, path="x"):
    with pytest.raises((OSError, Problem)) as refused:
        attempt()
    error = refused.value
    return (error if isinstance(error, Problem) else problem_of(error, path)).code


def hidden(folder):
    return [path.name for path in folder.rglob(".new-*")]


def test_a_file_is_written_with_the_folders_above_it(workspace, folder):
    facts = write(workspace, "a/b/c.txt", b"content")
    assert (folder / "a/b/c.txt").read_bytes() == b"content"
    assert (facts["size"], facts["type"], facts["etag"]) == (7, "file", tag_of_content(b"content"))
    assert content.stat_path(workspace, "a/b/c.txt") == facts
    assert hidden(folder) == []


def test_the_mode_of_a_file_is_kept_and_its_set_uid_bit_is_not(workspace, folder):
    (folder / "run.sh").write_text("old")
    (folder / "run.sh").chmod(0o4750)
    write(workspace, "run.sh")
    assert stat.S_IMODE((folder / "run.sh").stat().st_mode) == 0o750


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(workspace, folder):
    (folder / "a.txt").write_text("old")

    def breaks():
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        content.write(workspace, "a.txt", breaks(), most=MOST)
    assert code_of(lambda: write(workspace, "a.txt", b"x" * (MOST + 1))) == "too-large"
    assert (folder / "a.txt").read_text() == "old"
    assert hidden(folder) == []


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(workspace, folder):
    (folder / "a.txt").write_text("old")
    seen = []

    def pieces():
        for piece in (b"one ", b"two"):
            seen.append((folder / "a.txt").read_text())
            yield piece

    content.write(workspace, "a.txt", pieces(), most=MOST)
    assert seen == ["old", "old"]
    assert (folder / "a.txt").read_text() == "one two"


def test_a_tag_that_does_not_fit_refuses_the_write(workspace, folder):
    (folder / "a.txt").write_text("old")
    with pytest.raises(Problem) as refused:
        write(workspace, "a.txt", if_match="0")
    assert (refused.value.code, refused.value.facts) == ("changed", {"etag": tag_of_content(b"old")})
    write(workspace, "a.txt", if_match=tag_of_content(b"old"))
    write(workspace, "a.txt", b"newer", if_match="*")
    assert (folder / "a.txt").read_text() == "newer"
    assert code_of(lambda: write(workspace, "no.txt", if_match="*")) == "not-found"
    assert sorted(os.listdir(folder)) == ["a.txt"]


def test_a_file_that_changes_while_its_successor_arrives_refuses_it(workspace, folder):
    (folder / "a.txt").write_text("old")

    def slow():
        yield b"new"
        (folder / "a.txt").write_text("changed meanwhile")

    attempt = lambda: content.write(workspace, "a.txt", slow(), most=MOST, if_match=tag_of_content(b"old"))  # noqa: E731
    assert code_of(attempt) == "changed"
    assert (folder / "a.txt").read_text() == "changed meanwhile"


def test_only_one_of_two_writers_makes_a_new_file(workspace, folder):
    def slow():
        write(workspace, "a.txt", b"first", only_new=True)
        yield b"second"

    assert code_of(lambda: content.write(workspace, "a.txt", slow(), most=MOST, only_new=True)) == "exists"
    assert (folder / "a.txt").read_text() == "first"
    assert hidden(folder) == []


def test_a_folder_swapped_for_a_link_during_a_write_does_not_move_it(workspace, folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("old")

    def slow():
        (folder / "sub").rename(folder / "moved")
        (folder / "sub").symlink_to("../outside")
        yield b"new"

    content.write(workspace, "sub/a.txt", slow(), most=MOST, if_match=tag_of_content(b"old"))
    assert (folder / "moved" / "a.txt").read_text() == "new"
    assert os.listdir(folder.parent / "outside") == ["secret.txt"]


def test_a_link_at_the_last_place_is_replaced_and_not_followed(workspace, folder):
    (folder / "a.txt").symlink_to("../outside/secret.txt")
    write(workspace, "a.txt")
    assert not (folder / "a.txt").is_symlink()
    assert (folder.parent / "outside" / "secret.txt").read_text() == "secret"


def test_a_folder_is_not_replaced_by_a_file(workspace, folder):
    (folder / "sub").mkdir()
    assert code_of(lambda: write(workspace, "sub")) == "is-folder"
    (folder / "plain").write_text("")
    assert code_of(lambda: write(workspace, "plain/below")) == "not-folder"


@pytest.mark.parametrize(
    ("offset", "length", "found"), [(0, None, b"0123456789"), (3, 4, b"3456"), (8, 9, b"89"), (20, 5, b"")]
)
def test_a_range_of_a_file_is_read(workspace, folder, offset, length, found):
    (folder / "a").write_bytes(b"0123456789")
    with (folder.parent / "out").open("wb") as output:
        facts = content.read(workspace, "a", output.fileno(), offset=offset, length=length)
    assert (folder.parent / "out").read_bytes() == found
    assert (facts["length"], facts["size"]) == (len(found), 10)


def test_a_file_that_is_another_one_by_now_is_not_read_on(workspace, folder):
    (folder / "a").write_bytes(b"new")
    assert code_of(lambda: content.read(workspace, "a", 1, etag=tag_of_content(b"old"))) == "changed"


def test_a_system_that_writes_less_than_was_asked_loses_nothing(workspace, folder, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, bytes(data[:4])))
    write(workspace, "a", b"content of ours")
    with (folder.parent / "out").open("wb") as output:
        assert content.read(workspace, "a", output.fileno())["length"] == 15
    assert (folder.parent / "out").read_bytes() == (folder / "a").read_bytes() == b"content of ours"


@pytest.mark.parametrize("most_hashed", [100, 3])
def test_what_is_read_has_the_tag_that_is_returned_though_the_file_changes(workspace, folder, monkeypatch, most_hashed):
    (folder / "a").write_bytes(b"old content")
    monkeypatch.setattr(files_of_workspace, "MOST_HASHED", most_hashed)
    real = content.write_all

    def changing(output, data):
        (folder / "a").write_bytes(b"new")
        real(output, data)

    monkeypatch.setattr(content, "write_all", changing)
    with (folder.parent / "out").open("wb") as output:
        if most_hashed == 3:  # a large file is sent as it is read
            assert code_of(lambda: content.read(workspace, "a", output.fileno())) == "changed"
            return
        facts = content.read(workspace, "a", output.fileno())
    assert (facts["etag"], facts["size"]) == (tag_of_content(b"old content"), 11)
    assert (folder.parent / "out").read_bytes() == b"old content"


def test_size_and_tag_are_of_one_content_though_the_file_grows(workspace, folder, monkeypatch):
    (folder / "a").write_bytes(b"old")
    real = os.fstat

    def growing(file):
        status = real(file)
        (folder / "a").write_bytes(b"old and new")
        return status

    monkeypatch.setattr(os, "fstat", growing)
    facts = content.stat_path(workspace, "a")
    assert (facts["size"], facts["etag"]) == (11, tag_of_content(b"old and new"))


def test_the_tag_of_what_was_written_is_not_that_of_what_a_guest_made_of_it(workspace, folder, monkeypatch):
    real = os.rename

    def changing(*args, **given):
        real(*args, **given)
        (folder / "a").write_bytes(b"the guest's")

    monkeypatch.setattr(os, "rename", changing)
    facts = write(workspace, "a", b"ours")
    assert (facts["size"], facts["etag"]) == (4, tag_of_content(b"ours"))


def test_the_facts_of_a_file_are_of_one_file_though_it_is_swapped(workspace, folder, monkeypatch):
    (folder / "a").write_bytes(b"old")
    real = os.stat

    def swapping(*args, **given):
        status = real(*args, **given)
        (folder / "b").write_bytes(b"another")
        (folder / "b").rename(folder / "a")
        return status

    monkeypatch.setattr(os, "stat", swapping)
    facts = content.stat_path(workspace, "a")
    assert (facts["size"], facts["etag"]) == (7, tag_of_content(b"another"))


def test_folders_are_removed_with_all_that_is_in_them_only_when_asked(workspace, folder):
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "way").symlink_to("../../outside")
    with pytest.raises(OSError) as refused:
        content.delete(workspace, "sub")
    problem = problem_of(refused.value, "sub")
    assert (problem.code, "`?recursive=true`" in problem.detail) == ("not-empty", True)
    content.delete(workspace, "sub", recursive=True)
    assert os.listdir(folder) == []
    assert os.listdir(folder.parent / "outside") == ["secret.txt"]


def test_a_link_is_removed_and_not_what_it_names(workspace, folder):
    (folder / "way").symlink_to("../outside")
    assert content.delete(workspace, "way", recursive=True)["type"] == "link"
    assert (folder.parent / "outside" / "secret.txt").exists()


def test_a_folder_swapped_for_a_link_is_not_removed_through_it(workspace, folder, monkeypatch):
    (folder / "sub").mkdir()
    real = os.stat

    def swapping(name, **given):
        status = real(name, **given)
        if name == "sub" and not (folder / "sub").is_symlink():
            (folder / "sub").rename(folder / "moved")
            (folder / "sub").symlink_to("../outside")
        return status

    monkeypatch.setattr(os, "stat", swapping)
    assert code_of(lambda: content.delete(workspace, "sub", recursive=True)) in ("failed", "not-folder", "link")
    assert (folder.parent / "outside" / "secret.txt").exists()


def test_a_tag_binds_what_is_removed(workspace, folder):
    (folder / "a").write_bytes(b"new")
    assert code_of(lambda: content.delete(workspace, "a", if_match="0")) == "changed"
    content.delete(workspace, "a", if_match=tag_of_content(b"new"))
    assert os.listdir(folder) == []


def test_a_folder_is_copied_with_modes_and_links_as_links(workspace, folder):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "run").write_text("x")
    (folder / "a" / "b" / "run").chmod(0o775)
    (folder / "a" / "way").symlink_to("../../outside")
    content.copy(workspace, "a", "new/c")
    assert stat.S_IMODE((folder / "new/c/b/run").stat().st_mode) == 0o775
    assert os.readlink(folder / "new/c/way") == "../../outside"
    assert hidden(folder) == []


@pytest.mark.parametrize("operation", [content.copy, content.move])
def test_what_is_at_the_target_is_kept_unless_it_is_a_file_to_be_replaced(workspace, folder, operation):
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    (folder / "sub").mkdir()
    assert code_of(lambda: operation(workspace, "a", "b")) == "exists"
    assert code_of(lambda: operation(workspace, "a", "sub", overwrite=True)) == "exists"
    operation(workspace, "a", "b", overwrite=True)
    assert (folder / "b").read_text() == "a"
    assert (folder / "a").exists() == (operation is content.copy)


@pytest.mark.parametrize("operation", [content.copy, content.move])
@pytest.mark.parametrize("source", ["file", "link", "sub"])
def test_what_a_guest_makes_at_the_target_meanwhile_is_kept(workspace, folder, monkeypatch, operation, source):
    (folder / "file").write_text("ours")
    (folder / "link").symlink_to("file")
    (folder / "sub").mkdir()
    real = content.check_free

    def checked(*args, **given):
        real(*args, **given)
        (folder / "to").write_text("the guest's")

    monkeypatch.setattr(content, "check_free", checked)
    with pytest.raises(Problem, match="'to' is there already"):
        operation(workspace, source, "to")
    assert (folder / "to").read_text() == "the guest's"
    assert sorted(os.listdir(folder)) == ["file", "link", "sub", "to"]


@pytest.mark.parametrize("operation", [content.copy, content.move])
def test_a_folder_does_not_go_into_itself_and_what_is_not_there_makes_no_folder(workspace, folder, operation):
    (folder / "a").mkdir()
    assert code_of(lambda: operation(workspace, "a", "a/b/c")) == "invalid"
    assert code_of(lambda: operation(workspace, "no", "new/b")) == "not-found"
    assert [path.name for path in folder.rglob("*")] == ["a"]


def test_a_link_replaces_a_file_when_it_is_copied_over_it(workspace, folder):
    (folder / "way").symlink_to("nowhere")
    (folder / "b").write_text("b")
    content.copy(workspace, "way", "b", overwrite=True)
    assert os.readlink(folder / "b") == "nowhere"


def test_what_is_neither_file_nor_folder_is_not_copied(workspace, folder):
    os.mkfifo(folder / "pipe")
    assert code_of(lambda: content.copy(workspace, "pipe", "b")) == "not-file"


def test_files_are_combined_below_lines_with_their_paths(workspace, folder):
    (folder / "a").write_text("one")
    (folder / "b").write_text("two\n")
    (folder / "c").write_text("")
    content.combine(workspace, ["a", "b", "c"], "all", headers=True, most=MOST)
    assert (folder / "all").read_text() == "==> a <==\none\n==> b <==\ntwo\n==> c <==\n"
    content.combine(workspace, ["a", "b"], "a", headers=False, most=MOST, overwrite=True)
    assert (folder / "a").read_text() == "onetwo\n"


def test_files_are_not_combined_over_one_that_is_there_nor_beyond_the_size(workspace, folder):
    (folder / "a").write_text("one")
    (folder / "b").write_text("two")
    combine = lambda *paths, **given: content.combine(workspace, list(paths), "b", headers=False, **given)  # noqa: E731
    assert code_of(lambda: combine("a", most=MOST)) == "exists"
    assert code_of(lambda: combine("a", most=2, overwrite=True)) == "too-large"
    with pytest.raises(Problem, match="'no'"):
        combine("no", most=MOST, overwrite=True)
    assert (folder / "b").read_text() == "two"
    assert hidden(folder) == []
