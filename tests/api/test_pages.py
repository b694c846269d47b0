"""``/docs`` and ``/problems``: pages that load nothing from elsewhere. ``test_docs_page.py`` opens one in a browser."""

import re
from html.parser import HTMLParser

import pytest

from codex_server.api.problems import kinds
from codex_server.api.viewer import NAMES

pytestmark = pytest.mark.anyio


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.loads, self.handlers = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            if name == "src" or (name == "href" and tag == "link"):
                self.loads.append(value)
            if name.startswith("on") or name == "style":
                self.handlers.append((tag, name))


@pytest.mark.parametrize(
    ("path", "loads", "policy"),
    [
        (
            "/docs",
            {"data:,", *(f"docs/{name}" for name in NAMES)},
            r"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; ",
        ),
        ("/problems", set(), r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; "),
    ],
)
async def test_a_page_loads_nothing_from_elsewhere_and_its_policy_allows_nothing_else(door, path, loads, policy):
    response = await door.client.get(path)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(response.text)
    assert (set(page.loads), page.handlers) == (loads, [])
    assert not re.search(r"https?://", response.text)
    rest = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    assert re.fullmatch(policy + rest, response.headers["content-security-policy"])
    assert "<script>" not in response.text


@pytest.mark.parametrize("name", NAMES)
async def test_the_page_gets_its_files_from_here_packed_where_that_is_understood(door, name):
    address = f"/docs/{name}"
    packed = await door.client.get(address, headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    kind = "text/javascript" if name.endswith(".js") else "text/css"
    assert packed.headers["content-type"] == f"{kind}; charset=utf-8"
    for refuses in ("identity", "gzip;q=0", ""):
        plain = await door.client.get(address, headers={"Accept-Encoding": refuses})
        assert "content-encoding" not in plain.headers
        assert plain.content == packed.content
        assert plain.headers["vary"] == "Accept-Encoding"
    known = await door.client.get(address, headers={"If-None-Match": packed.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize("name", ["__init__.py", "..%2fviewer.py", "docs.html", "swagger-ui.css.map"])
async def test_no_other_file_is_handed_out(door, name):
    assert (await door.client.get(f"/docs/{name}")).status_code == 404


async def test_every_problem_type_leads_to_its_paragraph(door):
    page = Page((await door.client.get("/problems")).text)
    assert {kind.slug for kind in kinds()} <= page.ids
