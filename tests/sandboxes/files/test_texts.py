"""Texts read by lines."""

import os

import pytest

from codex_server.sandboxes.files import texts
from codex_server.sandboxes.files.texts import lines_of, read_texts


def only(workspace, path, **given):
    (found,) = read_texts(workspace, [path], **given)["files"]
    return found


@pytest.mark.parametrize(
    ("asked", "content", "lines"),
    [
        ("a", "1\n2\n3\n4", [1, 4]),
        ("a:2-3", "2\n3\n", [2, 3]),
        ("a:3", "3\n", [3, 3]),
        ("a:3-", "3\n4", [3, 4]),
        ("a:0-1", "1\n", [1, 1]),
        ("a:9-12", "", None),
        ("a:4-999999999", "4", [4, 4]),
    ],
)
def test_lines_of_a_file_are_read(workspace, folder, asked, content, lines):
    (folder / "a").write_text("1\n2\n3\n4")
    found = only(workspace, asked)
    assert (found["content"], found["lines"], found["total_lines"], found["error"]) == (content, lines, 4, None)


def test_lines_are_numbered_as_wide_as_the_last(workspace, folder):
    (folder / "a").write_text("".join(f"line {number}\n" for number in range(1, 12)))
    assert only(workspace, "a:9-10", line_numbers=True)["content"] == " 9  line 9\n10  line 10\n"


def test_a_file_whose_name_looks_like_a_range_is_that_file(workspace, folder):
    (folder / "a:1-2").write_text("itself")
    assert only(workspace, "a:1-2")["content"] == "itself"


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\n\nb", "a\r\nb\r\n", "form\x0cfeed\u2028\x85 \x1c\n"])
def test_lines_end_at_line_feeds_alone(text):
    lines = lines_of(text)
    assert "".join(lines) == text
    assert len(lines) == text.count("\n") + (not text.endswith("\n") and text != "")


def test_a_text_that_cannot_be_read_is_an_error_beside_the_others(workspace, folder):
    (folder / "good").write_text("fine")
    (folder / "bytes").write_bytes(b"\xff\xfe")
    (folder / "way").symlink_to("../outside/secret.txt")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    asked = ["good", "bytes", "way", "sub", "pipe", "no", "../x", "good:3-2"]
    found = read_texts(workspace, asked)["files"]
    codes = [file["error"] and file["error"]["code"] for file in found]
    assert codes == [None, "not-text", "link", "is-folder", "not-file", "not-found", "invalid", "invalid"]


def test_texts_fit_into_one_response_together(workspace, folder):
    for name in "abc":
        (folder / name).write_text("12345")
    found = read_texts(workspace, ["a", "b", "c"], most=12)["files"]
    assert [file["error"] and file["error"]["code"] for file in found] == [None, None, "too-large"]


def test_a_text_that_is_too_large_is_refused(workspace, folder, monkeypatch):
    monkeypatch.setattr(texts, "MOST_TEXT", 4)
    (folder / "a").write_text("12345")
    assert only(workspace, "a")["error"]["code"] == "too-large"


def test_the_tag_is_that_of_the_text_though_the_file_changes_meanwhile(workspace, folder, monkeypatch):
    (folder / "a").write_text("old")
    before = only(workspace, "a")["etag"]
    real = texts.head_of

    def changing(file, most):
        content = real(file, most)
        (folder / "a").write_text("new")
        return content

    monkeypatch.setattr(texts, "head_of", changing)
    found = only(workspace, "a")
    assert (found["content"], found["etag"]) == ("old", before)
