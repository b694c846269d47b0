"""Edits: each finds its one place, or nothing is changed."""

import pytest

from codex_server.sandboxes.files import content, edits
from codex_server.sandboxes.files.edits import Edit, edit, warnings_of
from codex_server.sandboxes.files.problem import Problem
from codex_server.sandboxes.files.workspace import tag_of_content


def edited(workspace, folder, text, *blocks, name="a.txt"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    facts = edit(workspace, name, [Edit(*block) for block in blocks])
    return (folder / name).read_bytes().decode(), facts


def refused(workspace, folder, text, *blocks):
    with pytest.raises(Problem) as problem:
        edited(workspace, folder, text, *blocks)
    assert (folder / "a.txt").read_bytes() == text.encode()
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    return problem.value


def test_edits_are_made_one_after_the_other(workspace, folder):
    text, facts = edited(workspace, folder, "one\ntwo\nthree\n", ("two", "2"), ("2\nthree", "2\n3"))
    assert text == "one\n2\n3\n"
    assert facts["applied"] == [{"line": 2, "match": "exact"}, {"line": 2, "match": "exact"}]
    assert (facts["was"], facts["etag"]) == (tag_of_content(b"one\ntwo\nthree\n"), tag_of_content(text.encode()))


def test_a_text_that_stands_twice_is_refused_with_its_lines(workspace, folder):
    problem = refused(workspace, folder, "x\ny\nx\n", ("y", "z"), ("x", "z"))
    assert (problem.code, problem.facts) == ("ambiguous", {"edit": 1, "lines": [1, 3]})
    assert refused(workspace, folder, "aaa", ("aa", "b")).facts["lines"] == [1, 1]
    assert refused(workspace, folder, "a  \na \t\n", ("a\n", "b\n")).facts["lines"] == [1, 2]


def test_a_text_that_is_not_there_is_refused_with_the_closest_lines(workspace, folder):
    problem = refused(workspace, folder, "alpha = 1\nbeta = 2\ngamma = 3\n", ("betta = 2\ngamma", "x"))
    assert problem.code == "no-match"
    assert problem.facts["closest"] == {"line": 2, "text": "beta = 2\ngamma = 3\n"}
    assert "from line 2 on" in problem.detail
    problem = refused(workspace, folder, "alpha\n", ("#############", "x"))
    assert (problem.facts["closest"], problem.detail.endswith("and no line is like it")) == (None, True)


def test_the_closest_lines_are_found_by_the_longest_of_the_search(workspace, folder):
    text = "if True:\n    pass\n\ntry:\n    total = price * count\nfinally:\n    pass\n"
    problem = refused(workspace, folder, text, ("with x:\n    totals = prices * count\nelse:", "x"))
    assert problem.facts["closest"] == {"line": 4, "text": "try:\n    total = price * count\nfinally:"}


@pytest.mark.parametrize(
    ("text", "search", "replace", "result", "match"),
    [
        ("a  \nb\n", "a\nb", "c", "c\n", "trailing-whitespace"),
        ("  a\n  b\n", "a\nb\n", "c\n  d\n", "  c\n    d\n", "indentation"),
        ("a\n", "    a", "    b\n      c", "b\n  c\n", "indentation"),
        ("\ta\n", "    a", "    b\n        c", "\tb\n\t    c\n", "indentation"),
        ("    a\n", "\ta", "\tb\n\t\tc\n", "    b\n    \tc\n\n", "indentation"),
        ("a  \nb\n", "a\n", "", "b\n", "trailing-whitespace"),
        ("a\n", "a ", "c\n", "c\n\n", "trailing-whitespace"),
        ("if x:\n    a \n\n    b\n", "a\n\nb", "c\n\nd", "if x:\n    c\n\n    d\n", "indentation"),
    ],
)
def test_white_space_is_forgiven_and_reported(workspace, folder, text, search, replace, result, match):
    found, facts = edited(workspace, folder, text, (search, replace))
    assert (found, facts["applied"][0]["match"]) == (result, match)


def test_line_ends_and_a_byte_order_mark_are_kept(workspace, folder):
    text, _ = edited(workspace, folder, b"\xef\xbb\xbfone\r\ntwo\r\n", ("one\ntwo", "1\n2\n3"))
    assert text == "\ufeff1\r\n2\r\n3\r\n"
    text, _ = edited(workspace, folder, "one\r\ntwo\n", ("two", "2"))
    assert text == "one\r\n2\n"


def test_a_text_can_be_removed_and_be_of_any_script(workspace, folder):
    assert edited(workspace, folder, "añb\n", ("ñ", ""))[0] == "ab\n"
    assert edited(workspace, folder, "日本語\n", ("本", "🎉"))[0] == "日🎉語\n"


def test_an_edit_of_nothing_and_one_that_cannot_be_written_are_refused(workspace, folder):
    assert refused(workspace, folder, "a", ("", "b")).code == "invalid"
    (folder / "a.txt").write_text("a")
    with pytest.raises(UnicodeEncodeError):
        edit(workspace, "a.txt", [Edit("a", "\ud800")])
    assert [path.read_text() for path in folder.iterdir()] == ["a"]


def test_a_file_that_changes_between_reading_and_writing_keeps_its_change(workspace, folder, monkeypatch):
    real = edits.read_text

    def changing(*args):
        found = real(*args)
        (folder / "a.txt").write_text("changed meanwhile")
        return found

    monkeypatch.setattr(edits, "read_text", changing)
    with pytest.raises(Problem) as problem:
        edited(workspace, folder, "old", ("old", "new"))
    assert problem.value.code == "changed"
    assert (folder / "a.txt").read_text() == "changed meanwhile"


def test_a_tag_that_does_not_fit_refuses_the_edit(workspace, folder):
    (folder / "a.txt").write_text("a")
    with pytest.raises(Problem) as problem:
        edit(workspace, "a.txt", [Edit("a", "b")], if_match="0")
    assert problem.value.code == "changed"
    edit(workspace, "a.txt", [Edit("a", "b")], if_match=tag_of_content(b"a"))


def test_links_and_what_is_no_text_are_not_edited(workspace, folder):
    (folder / "way").symlink_to("../outside/secret.txt")
    for name, code in (("way", "link"), ("no", "not-found")):
        with pytest.raises(Problem) as problem:
            edit(workspace, name, [Edit("secret", "x")])
        assert problem.value.code == code
    assert (folder.parent / "outside" / "secret.txt").read_text() == "secret"


def test_the_mode_of_an_edited_file_is_kept(workspace, folder):
    content.write(workspace, "a.sh", iter([b"old"]), most=9)
    (folder / "a.sh").chmod(0o755)
    edit(workspace, "a.sh", [Edit("old", "new")])
    assert (folder / "a.sh").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("name", "text", "warnings"),
    [
        ("a.py", "def f(:\n", ["line 1: invalid syntax"]),
        ("a.py", "f(1)\n", []),
        ("a.txt", "def f(:\n", []),
        ("a.json", '{"a": 1}', []),
        ("a.json", "{", ["Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"]),
    ],
)
def test_syntax_errors_of_the_result_are_warnings(name, text, warnings):
    assert warnings_of(name, text) == warnings


@pytest.mark.parametrize(("name", "text"), [("a.json", "[" * 100_000), ("a.py", "-" * 100_000 + "1"), ("a.py", "\0")])
def test_a_text_that_the_parser_cannot_take_is_a_warning(name, text):
    assert warnings_of(name, text)
