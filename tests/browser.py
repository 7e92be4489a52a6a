"""Headless Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
AXE = files("axe_playwright_python").joinpath("axe.min.js")
VIEWS: list[tuple[int, Literal["light", "dark"]]] = [(1200, "dark"), (320, "light")]
STILL = """
document.head.append(Object.assign(document.createElement("style"), {textContent: "* { transition: none !important }"}));
const moved = Element.prototype.animate;
Element.prototype.animate = function (frames, options) {
  return moved.call(this, frames, {...(typeof options === "object" ? options : {}), duration: 0, delay: 0});
};
for (const one of document.getAnimations()) if (one.effect.getComputedTiming().endTime !== Infinity) one.finish();
"""
"""Ends what moves: colours on their way are looked at by nobody."""
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


def findings(page: Page) -> list[str]:
    """What axe finds that is serious or worse."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("() => axe.run()")
    return [
        f"{each['id']}: {node['html'][:200]} {node['any'][:1]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def seen_by_everybody(page: Page, name: str, but: str = "nothing") -> None:
    """Wide, narrow and dark, axe finds nothing serious `but` one rule, and nothing is cut off; pictures of it where SCREENSHOTS
    names a folder."""
    page.evaluate(STILL)
    for width, scheme in VIEWS:
        page.set_viewport_size({"width": width, "height": 850})
        page.emulate_media(color_scheme=scheme)
        found = [finding for finding in findings(page) if not finding.startswith(but)]
        assert not found, (name, width, scheme, found)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if folder := os.environ.get("SCREENSHOTS"):
            picture = f"{folder}/{name}-{width}-{scheme}.png"
            page.screenshot(path=picture, full_page=True, animations="disabled")
    page.set_viewport_size({"width": 1200, "height": 850})
    page.emulate_media(color_scheme="light")
