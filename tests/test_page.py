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
from serve.keys import Keys
from tests.server import serving, wait_until
from tests.test_keys import ALICE, keys_file
from tests.told import ToldEngine, told_app

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
    """The page in a browser; at the end it has called nothing outside, and nothing that it asked for was missing."""
    assert CHROMIUM, "install Chromium (Debian: apt-get install chromium), or name it in CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 850})
        outside: list[str] = []
        missing: list[str] = []
        page.on("response", lambda response: missing.append(response.url) if response.status == 404 else None)
        page.on(
            "request",
            lambda request: (
                outside.append(request.url) if not request.url.startswith((address, "data:", "blob:")) else None
            ),
        )
        page.goto(address)
        yield page
        browser.close()
    assert outside == []
    assert missing == []


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with browsing(address) as found:
        yield found


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


def test_who_has_a_key_logs_in_with_it(home: Path, tmp_path: Path) -> None:
    keys = Keys(file=keys_file(tmp_path, f"alice {ALICE}"))
    with told_app(ToldEngine(end_after=3), page=True, keys=keys) as told, browsing(str(told.client.base_url)) as page:
        page.locator("input[type=password]").fill("a-wrong-key-of-nobody")
        page.locator("input").first.fill("me")
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_text("Incorrect Credentials")).to_be_visible(timeout=20_000)
        page.locator("input").first.fill("me")
        page.locator("input[type=password]").fill(ALICE)
        page.get_by_role("button", name="Login").click()
        assert ask(page, "Hello", 1).strip() == "word word word"
