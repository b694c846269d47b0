"""A real browser for tests of pages: Chromium, driven by playwright; ``levels.NAMES`` has its name."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.levels import out_of_reach

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_QUIET = (
    "--disable-background-networking", "--disable-component-update", "--disable-gpu", "--disable-quic",
    "--no-default-browser-check", "--no-first-run",
    "--no-sandbox",  # tests run as root, and load pages of their own server alone
)  # fmt: skip


@contextmanager
def open_browser() -> Iterator["Browser"]:
    """A browser, or a skip that says what is missing."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        out_of_reach("browser", "there is no chromium on the PATH (Debian: apt install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        out_of_reach("browser", error)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        try:
            yield browser
        finally:
            browser.close()
