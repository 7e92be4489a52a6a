"""Headless Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Browser]:
    assert CHROMIUM, "install Chromium (Debian: apt-get install chromium), or name it in CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def browsing_context(browser: Browser, address: str, **settings: Any) -> Iterator[BrowserContext]:
    """A browser of somebody's own; at the end it has called nothing outside, and nothing that it asked for was missing."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 850}, **settings})
    outside: list[str] = []
    missing: list[str] = []
    context.on("response", lambda response: missing.append(response.url) if response.status == 404 else None)
    context.on(
        "request",
        lambda request: (
            outside.append(request.url) if not request.url.startswith((address, "data:", "blob:")) else None
        ),
    )
    yield context
    context.close()
    assert outside == []
    assert missing == []


@contextmanager
def browsing(address: str) -> Iterator[Page]:
    """A page in a browser of its own."""
    with chromium() as browser, browsing_context(browser, address) as context:
        page = context.new_page()
        page.goto(address)
        yield page


def opened(context: BrowserContext, address: str) -> Page:
    """The chat page, once it can be used."""
    page = context.new_page()
    page.goto(address)
    expect(page.get_by_text("Ask something. It may be wrong").or_(page.locator("article").first)).to_be_visible(
        timeout=20_000
    )
    return page


def begin(page: Page, question: str) -> None:
    """Type a question and send it with Enter."""
    box = page.get_by_label("Your message")
    box.fill(question)
    box.press("Enter")


def ask(page: Page, question: str, answers: int) -> str:
    """Ask, and wait until the answer is whole, which is the `answers`th that is shown."""
    begin(page, question)
    expect(page.get_by_test_id("bot")).to_have_count(answers, timeout=60_000)
    return page.get_by_test_id("bot").last.inner_text()
