"""``/docs`` and ``/problems``: pages that load nothing from elsewhere."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from codex_server.api.problems import kinds
from codex_server.interpreters import find_interpreter

pytestmark = pytest.mark.anyio
WITHOUT_BROWSER = Path(__file__).with_name("docs_page.mjs")


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


@pytest.mark.parametrize("path", ["/docs", "/problems"])
async def test_a_page_loads_nothing_from_elsewhere_and_its_policy_allows_nothing_else(door, path):
    answer = await door.client.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    assert (page.loads, page.handlers) == ([], [])
    assert not re.search(r"https?://", answer.text)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == answer.text.count("<script>") + answer.text.count("<style>")


async def test_every_problem_type_leads_to_its_paragraph(door):
    page = Page((await door.client.get("/problems")).text)
    assert {kind.slug for kind in kinds()} <= page.ids


async def test_the_docs_page_shows_the_document_of_this_server(door):
    text = (await door.client.get("/docs")).text
    assert 'fetch("openapi.json")' in text
    assert (await door.client.get("/openapi.json")).json()["info"]["title"] == "Codex Server"
    assert "innerHTML" not in text


async def test_the_docs_page_explains_every_field_with_its_default_and_its_parts(door):
    node = find_interpreter("node")
    assert node, "the server's own Node.js is one of its dependencies"
    [script] = re.findall(r"<script>(.*?)</script>", (await door.client.get("/docs")).text, re.DOTALL)
    content = (await door.client.get("/openapi.json")).json()
    shown = json.loads(
        subprocess.run(
            [node.path, WITHOUT_BROWSER],
            input=json.dumps({"script": script, "content": content}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    )
    assert shown[0][1].startswith("Runs the code")
    schemas = content["components"]["schemas"]
    told = {text for tag, text in shown if tag == "code"}
    for name in ("ExecuteRequest", "RequestFile", "RequestLimits", "ExecuteAnswer", "Usage", "AnswerFile"):
        assert told >= set(schemas[name]["properties"])
    types = {text for tag, text in shown if tag == "td"}
    assert " | ".join(schemas["Status"]["enum"]) + ", required" in types
    assert not any(name in text for name in ("RequestFile", "RequestLimits", "Usage") for text in types)
    assert told >= {'"python"', "10", "/languages"}  # two defaults, and what stood between backticks
    assert not any("`" in text for tag, text in shown if tag not in ("pre", "textarea"))
    assert any("succeeded" in text for tag, text in shown if tag == "pre")
