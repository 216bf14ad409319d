"""A real Chromium without a window, by Playwright: the system's own, nothing is downloaded."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

from tests.patience import PATIENCE_SECONDS

#: No GPU, no root's sandbox, and no word to anybody but the pages that a test opens.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """A browser that waits as long as other tests do. While it is open, this thread can run no other event loop."""
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()
