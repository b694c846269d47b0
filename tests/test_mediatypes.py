"""``codex_server.mediatypes``: what a file is by its name, whatever the host knows."""

import mimetypes

import pytest

from codex_server.mediatypes import media_type

_OFFICE = "application/vnd.openxmlformats-officedocument"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("book.xlsx", f"{_OFFICE}.spreadsheetml.sheet"),
        ("a/letter.docx", f"{_OFFICE}.wordprocessingml.document"),
        ("slides.pptx", f"{_OFFICE}.presentationml.presentation"),
        ("text.odt", "application/vnd.oasis.opendocument.text"),
        ("picture.webp", "image/webp"),
        ("table.parquet", "application/vnd.apache.parquet"),
        ("font.ttf", "font/ttf"),
        ("lines.jsonl", "application/jsonl"),
        ("conf.yaml", "application/yaml"),
        ("README.md", "text/markdown"),
        ("main.py", "text/x-python"),
        ("data.sqlite", "application/vnd.sqlite3"),
        ("x.gz", "application/gzip"),
        ("backup.tar.gz", "application/gzip"),
        ("table.csv.gz", "application/gzip"),
        ("backup.tgz", "application/gzip"),
        ("table.csv.zst", "application/zstd"),
        ("IMAGE.PNG", "image/png"),
        ("archive.v2/plain", "text/plain"),
        (".gitignore", "text/plain"),
        (".csv", "text/plain"),
        ("dot.", "text/plain"),
        ("what.unheard-of", "text/plain"),
    ],
)
def test_a_name_tells_the_type(path: str, expected: str) -> None:
    assert media_type(path, text=True) == expected


def test_where_the_name_says_nothing_or_two_things_the_content_does() -> None:
    assert media_type("blob", text=False) == "application/octet-stream"
    assert (media_type("a.ts", text=True), media_type("a.ts", text=False)) == ("text/x-typescript", "video/mp2t")


def test_what_the_host_knows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "knownfiles", [])
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_: ("text/of-the-host", None))
    assert media_type("a.xlsx", text=False) == f"{_OFFICE}.spreadsheetml.sheet"
