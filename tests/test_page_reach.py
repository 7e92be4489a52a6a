"""The chat page for everybody: with a keyboard only, on a narrow screen, in the dark, and as a screen reader has it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import ask, browsing_context, chromium, findings, opened
from tests.told import Told, ToldEngine, told_app

pytestmark = pytest.mark.browser

SHARE = ToldEngine(
    end_after=6,
    word="a `word` of **it** and\n\n```\nprint('a line of code that is longer than a narrow screen')\n```\n\n",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def told(home: Path) -> Iterator[Told]:
    with told_app(SHARE, page=True) as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 320])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    browser: Browser, told: Told, scheme: Any, width: int
) -> None:
    address = str(told.client.base_url)
    size: Any = {"width": width, "height": 800}
    with browsing_context(browser, address, viewport=size, color_scheme=scheme) as context:
        page = opened(context, address)
        assert findings(page) == []
        ask(page, "An unusually-long-word-that-goes-on-and-on-and-on-and-on-and-on-and-on " * 2, 1)
        page.get_by_label("Give another answer in place of answer 1").click()
        expect(page.get_by_test_id("version")).to_have_text("2 / 2")
        page.get_by_label("Write the answer you wanted in place of answer 1").click()
        for name in ("Keep this conversation", "Settings", "Help"):
            page.get_by_role("button", name=name).click()
        expect(page.get_by_text("Alt+M goes to the message box")).to_be_visible()
        assert findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every(c => c < 60)"
        )
        assert dark == (scheme == "dark")


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what a screen reader calls so."""
    called = "() => { const at = document.activeElement; return at.ariaLabel || at.labels?.[0]?.innerText || at.innerText || ''; }"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(called).strip().startswith(name):
            return
    raise AssertionError(f"{name} is not reached with Tab")


def test_all_is_done_with_a_keyboard_only(browser: Browser, told: Told) -> None:
    address = str(told.client.base_url)
    with browsing_context(browser, address) as context:
        page = opened(context, address)
        page.keyboard.press("Alt+M")
        page.keyboard.type("First line")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("second line")
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("bot")).to_have_count(1, timeout=20_000)
        assert page.get_by_test_id("user").inner_text().strip() == "First line\nsecond line"
        page.keyboard.press("Alt+N")
        expect(page.get_by_test_id("user")).to_have_count(0)
        tab_to(page, "First line")
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("bot")).to_have_count(1)
        tab_to(page, "Edit question 1")
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        assert page.get_by_label("Your question").count() == 0
        page.keyboard.press("Enter")
        expect(page.get_by_label("Your question")).to_be_focused()
        page.keyboard.press("Control+A")
        page.keyboard.type("Edited")
        told.engine.end_after = None
        page.keyboard.press("Control+Enter")
        expect(page.get_by_test_id("live")).to_contain_text("word")
        page.keyboard.press("Escape")
        expect(page.get_by_test_id("facts")).to_contain_text("stopped")
        told.engine.end_after = 6
        expect(page.get_by_test_id("version")).to_have_text("2 / 2")
        tab_to(page, "Previous version of this question")
        page.keyboard.press("Space")
        expect(page.get_by_test_id("version")).to_have_text("1 / 2")
        tab_to(page, "Settings")
        page.keyboard.press("Enter")
        expect(page.get_by_label("System prompt")).to_be_visible()
