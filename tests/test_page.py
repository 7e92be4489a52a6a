"""The chat page in a real browser: headless Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from assistant import release
from tests.server import serving, wait_until

CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
QUESTIONS = [
    "My name is Ada and I live in Porto. What is a good way to spend a rainy morning?",
    "Why is that a good way?",
]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(shared_home: Path) -> Iterator[str]:
    with serving(shared_home) as found:
        yield found


@contextmanager
def browsing(address: str) -> Iterator[Page]:
    assert CHROMIUM, "install Chromium (Debian: apt-get install chromium), or name it in CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 850})
        outside: list[str] = []
        page.on(
            "request",
            lambda request: (
                outside.append(request.url) if not request.url.startswith((address, "data:", "blob:")) else None
            ),
        )
        page.goto(address)
        yield page
        browser.close()
    assert outside == [], "the page calls nothing outside"


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with browsing(address) as page:
        yield page


def ask(page: Page, question: str, answers: int) -> str:
    """Type a question, send it with Enter, and wait until its answer is whole."""
    box = page.locator("textarea").first
    box.fill(question)
    box.press("Enter")
    retry = page.get_by_label("Retry")
    expect(page.get_by_test_id("bot")).to_have_count(answers, timeout=60_000)
    expect(retry).to_be_visible(timeout=120_000)
    expect(page.locator(".stop-button")).to_have_count(0, timeout=120_000)
    return page.get_by_test_id("bot").last.inner_text()


def setting(page: Page, label: str, value: str) -> None:
    page.get_by_label(f"number input for {label}").fill(value)
    page.get_by_label(f"number input for {label}").press("Tab")


def test_a_conversation_whose_third_answer_sees_the_first_turn_and_which_outlives_a_reload(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    setting(page, "Temperature", "0")
    setting(page, "Repetition penalty", "1.1")
    saved = "Object.entries(localStorage).find(([key]) => key.startsWith('_saved'))?.[1] ?? null"

    def kept(question: str, count: int) -> str:
        """Its answer, once the page has kept the conversation up to it."""
        before = page.evaluate(saved)
        answer = ask(page, question, count)
        page.wait_for_function(f"before => ({saved}) !== before", arg=before)
        return answer

    for count, question in enumerate(QUESTIONS, 1):
        assert kept(question, count).strip()
    assert "Ada" in kept("Tell me my name, please.", 3)
    if shots := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(shots) / "chat.png")
    page.reload()
    page.get_by_role("gridcell").first.click()
    expect(page.get_by_test_id("user")).to_have_count(3, timeout=20_000)


def test_stop_retry_and_edit(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    setting(page, "Temperature", "2")
    setting(page, "Repetition penalty", "2")
    page.get_by_label("Seed").fill("1")
    box = page.locator("textarea").first
    box.fill("Tell me a very long story about a lighthouse keeper and the sea.")
    box.press("Enter")
    expect(page.get_by_test_id("bot")).to_have_count(1, timeout=60_000)
    page.locator(".stop-button").click(timeout=20_000)
    expect(page.locator(".stop-button")).to_have_count(0, timeout=20_000)
    page.get_by_label("Retry").click()
    expect(page.get_by_label("Retry")).to_be_visible(timeout=120_000)
    expect(page.locator(".stop-button")).to_have_count(0, timeout=120_000)
    page.get_by_label("Edit").first.click()
    page.locator("textarea").first.fill("Say hello.")
    page.get_by_label("Submit").first.click()
    expect(page.get_by_test_id("user")).to_have_text(["Say hello."], timeout=20_000)
    expect(page.get_by_test_id("bot")).to_have_count(1, timeout=60_000)


def test_an_invalid_seed_is_a_message_on_the_page(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    seed = page.get_by_label("Seed")
    seed.fill("minus one")
    seed.press("Tab")
    expect(seed).to_have_value("minus one")
    box = page.locator("textarea").first
    box.fill("Hello")
    box.press("Enter")
    expect(page.get_by_test_id("toast-body")).to_contain_text("seed", timeout=20_000)
    page.get_by_label("Seed").fill("")
    assert ask(page, "Hello again", 1).strip(), "the page goes on as if nothing had happened"


def test_the_page_tells_which_release_answers_and_stands_at_its_defaults_after_another_became_current(
    home: Path, registry: Path
) -> None:
    options = ("--engine", "llama.cpp", "--context", "256")
    with serving(home, *options) as address, browsing(address) as page:
        expect(page.get_by_text("Release first")).to_be_visible(timeout=20_000)
        release.promote("second")
        wait_until(lambda: httpx.get(f"{address}/ready").json()["release"] == "second", "it answers")
        page.reload()
        expect(page.get_by_text("Release second")).to_be_visible(timeout=20_000)
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_label("number input for Temperature")).to_have_value("0.3")
