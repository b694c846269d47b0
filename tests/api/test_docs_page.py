"""``GET /docs`` in a real browser: it fits a phone and a desk, in both colours, and runs a program from its form."""

import asyncio
import socket
import threading

import pytest
import uvicorn

from codex_server.app import create_app
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import Settings
from tests.api.conftest import TOKEN
from tests.browser import open_browser

SCREENS = [(390, 844), (1280, 900)]
THEMES = {"light": "rgb(255, 255, 255)", "dark": "rgb(28, 32, 34)"}
OPEN_SOME = """(() => {
    const closed = [...document.querySelectorAll('.opblock:not(.is-open) .opblock-summary-control')];
    closed.filter((_, index) => index % 12 === 0).forEach((each) => each.click());
    return document.querySelectorAll('.opblock').length - closed.length + Math.ceil(closed.length / 12);
})()"""
"""One in twelve: a browser takes minutes to draw all of them at once."""
SHOW_SCHEMAS = "[...document.querySelectorAll('.tabitem:not(.active) button')].slice(0, 6).forEach((e) => e.click())"
WIDTH = "document.documentElement.scrollWidth"
BEHIND = "getComputedStyle(document.documentElement).backgroundColor.replace('rgba(0, 0, 0, 0)', 'rgb(255, 255, 255)')"


class Server(threading.Thread):
    """The app in a thread of its own: the browser's driver blocks."""

    def __init__(self, app):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None))

    def run(self):
        asyncio.run(self.server.serve(sockets=[self.listener]))


@pytest.fixture
def server():
    # The document names another address than the one that the page came from: a tunnel, a container's port.
    settings = Settings(api_token=TOKEN, rate_limit="", public_url="https://elsewhere.example")
    server = Server(create_app(settings, backend=FakeBackend(), languages=fake_languages()))
    server.start()
    yield server
    server.server.should_exit = True
    server.join(30)
    assert not server.is_alive()


@pytest.mark.tier("change")
def test_the_page_fits_each_screen_in_both_colours_and_runs_a_program(server):
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{server.url}/docs")
        page.wait_for_selector(".opblock")
        _fits(page)
        _run_a_program(page)
        _fits(page)
        opened = page.evaluate(OPEN_SOME)
        page.locator(".opblock.is-open").nth(opened - 1).wait_for()
        page.evaluate(SHOW_SCHEMAS)
        page.locator(".json-schema-2020-12").first.wait_for()
        _fits(page)
        assert said == [], "a browser that finds fault with the policy says so"


def _fits(page):
    """There is nothing to scroll to at the side, whatever the screen and the colours of the system."""
    for theme, colour in THEMES.items():
        page.emulate_media(color_scheme=theme)
        for width, height in SCREENS:
            page.set_viewport_size({"width": width, "height": height})
            assert (page.evaluate(WIDTH), page.evaluate(BEHIND)) == (width, colour)


def _run_a_program(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("button.authorize")
    page.fill(".modal-ux input", TOKEN)
    page.click(".modal-ux button[type=submit]")
    page.click(".modal-ux .btn-done")
    page.click("#operations-execution-executeCode .opblock-summary-control")
    page.fill("textarea.body-param__text", '{"code": "print from a browser"}')
    page.click("button.execute")
    page.wait_for_selector(".live-responses-table .response-col_description code")
    assert "from a browser" in page.inner_text(".live-responses-table")
