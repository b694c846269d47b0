"""``service/signed_links.py``: a link holds for one file and one time, and nobody else can make it."""

from urllib.parse import parse_qs, urlsplit

import pytest

from codex_server.service.signed_links import SignedLinks

LINKS = SignedLinks(b"s" * 32, "https://code.example.org")


def signature_of(url):
    return parse_qs(urlsplit(url).query)["signature"][0]


def test_a_link_is_the_address_the_id_the_time_and_a_signature():
    url = LINKS.url("art_1", 2000)
    assert url.startswith("https://code.example.org/artifacts/art_1?expires=2000&signature=")
    assert LINKS.is_genuine("art_1", 2000, signature_of(url))


def test_without_an_address_it_is_a_path():
    assert SignedLinks(b"s" * 32).url("art_1", 2000).startswith("/artifacts/art_1?")


@pytest.mark.parametrize(("file_id", "expires"), [("art_2", 2000), ("art_1", 2001), ("art_1\n2", 000), ("", 2000)])
def test_the_signature_holds_for_nothing_else(file_id, expires):
    assert not LINKS.is_genuine(file_id, expires, signature_of(LINKS.url("art_1", 2000)))


@pytest.mark.parametrize("signature", ["", "x", "é", "\ud800", "A" * 22, "A" * 1000])
def test_what_is_no_signature_is_refused(signature):
    assert not LINKS.is_genuine("art_1", 2000, signature)


def test_another_secret_makes_another_signature():
    assert not SignedLinks(b"t" * 32).is_genuine("art_1", 2000, signature_of(LINKS.url("art_1", 2000)))
