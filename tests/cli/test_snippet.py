import io
from pathlib import Path

import pytest

from codex_server.cli.snippet import Snippet, guess_language, read_snippet
from codex_server.errors import InvalidCode, InvalidRequest
from codex_server.languages import load_languages

LANGUAGES = load_languages()


def read(code: str | None, *words: str, stdin: bytes = b"") -> Snippet:
    return read_snippet(code, words, io.BytesIO(stdin))


def test_code_on_the_command_line_leaves_every_word_to_the_program():
    assert read("print(1)", "a", "b") == Snippet("print(1)", None, ("a", "b"))


def test_a_dash_reads_the_code_from_standard_input():
    assert read(None, "-", "a", stdin=b"print(1)") == Snippet("print(1)", None, ("a",))


def test_a_file_is_read_and_the_other_words_are_its_arguments(tmp_path: Path):
    file = tmp_path / "hello.py"
    file.write_bytes(b"\xef\xbb\xbfprint('\xc3\xa9')")
    assert read(None, str(file), "--flag") == Snippet("print('é')", str(file), ("--flag",))


def test_nothing_to_run_says_the_three_ways_to_name_it():
    with pytest.raises(InvalidRequest, match="name a FILE, give -c CODE, or - to read"):
        read(None)


def test_a_missing_file_says_why(tmp_path: Path):
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        read(None, str(tmp_path / "absent.py"))


def test_a_file_that_is_not_text_names_the_first_wrong_byte():
    with pytest.raises(InvalidCode, match=r"standard input is not UTF-8 text \(byte 2 is wrong"):
        read(None, "-", stdin=b"ab\xff")


@pytest.mark.parametrize(
    ("file", "code", "language"),
    [
        ("a.py", "", "python"),
        ("a.JS", "", "javascript"),
        ("a.ts", "", "typescript"),
        ("dir.d/a.sh", "", "bash"),
        ("a", "#!/usr/bin/env python3\n", "python"),
        ("a", "#!/usr/bin/python3.12 -u\n", "python"),
        ("a", "#! /bin/bash -e\n", "bash"),
        ("a", "#!/bin/sh\n", "bash"),
        ("a", "#!/usr/bin/env -S node --no-warnings\n", "javascript"),
        ("a.py", "#!/bin/bash\n", "python"),
        ("a.txt", "#!/bin/bash\n", "bash"),
        (None, "#!/bin/bash\n", "bash"),
        (None, "print(1)", "python"),
    ],
)
def test_the_language_is_told_by_the_extension_then_the_first_line(file: str | None, code: str, language: str):
    assert guess_language(Snippet(code, file, ()), LANGUAGES) == language


def test_a_file_that_shows_no_language_asks_for_one():
    with pytest.raises(InvalidRequest, match=r"the language of notes\.txt cannot be found .* --language"):
        guess_language(Snippet("print(1)", "notes.txt", ()), LANGUAGES)
