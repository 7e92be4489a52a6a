"""The conversations that a browser keeps: tabs, restarts, files, and being offline."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from assistant.dialogue import read_dialogues
from tests.browser import ask, begin, browsing_context, chromium, opened
from tests.server import free_port, wait_until
from tests.told import Told, ToldEngine, told_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def told(home: Path) -> Iterator[Told]:
    with told_app(ToldEngine(end_after=2), page=True) as found:
        yield found


@pytest.fixture
def context(browser: Browser, told: Told) -> Iterator[BrowserContext]:
    with browsing_context(browser, str(told.client.base_url)) as found:
        yield found


def tab(context: BrowserContext, told: Told) -> Page:
    return opened(context, str(told.client.base_url))


def shelf(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Your conversations").get_by_role("button")


def test_two_tabs_keep_both_their_conversations_and_both_branches_of_one(context: BrowserContext, told: Told) -> None:
    one, two = tab(context, told), tab(context, told)
    ask(one, "From the first tab", 1)
    ask(two, "From the second tab", 1)
    ask(one, "More", 2)
    for page in (one, two):
        expect(shelf(page)).to_have_text(["From the first tab", "From the second tab"])
    shelf(two).first.click()
    expect(two.get_by_test_id("user")).to_have_count(2)
    two.get_by_label("Give another answer in place of answer 2").click()
    expect(two.get_by_test_id("version")).to_have_text("2 / 2")
    expect(one.get_by_test_id("version")).to_have_text("1 / 2")
    one.reload()
    expect(one.get_by_test_id("user")).to_have_text(["From the first tab", "More"])
    expect(one.get_by_test_id("version")).to_have_text("2 / 2")


def test_what_one_tab_deletes_another_does_not_bring_back(context: BrowserContext, told: Told) -> None:
    one, two = tab(context, told), tab(context, told)
    ask(one, "To be deleted", 1)
    shelf(two).first.click()
    expect(two.get_by_test_id("bot")).to_have_count(1)
    told.engine.end_after = None
    begin(two, "And more")
    expect(two.get_by_test_id("live")).to_contain_text("word")
    one.on("dialog", lambda dialog: dialog.accept())
    one.get_by_role("button", name="Delete", exact=True).click()
    expect(shelf(two)).to_have_count(0)
    two.keyboard.press("Escape")
    expect(two.get_by_text("This conversation was deleted in another tab")).to_be_visible()
    expect(shelf(one)).to_have_count(0)
    two.reload()
    expect(shelf(two)).to_have_count(0)


def test_a_tab_that_is_closed_in_the_middle_of_an_answer_frees_its_place_and_keeps_what_was_said(
    context: BrowserContext, told: Told
) -> None:
    told.engine.end_after = None
    page = tab(context, told)
    begin(page, "Tell me a long story.")
    expect(page.get_by_test_id("live")).to_contain_text("word word word word")
    page.close()
    assert told.engine.closed.acquire(timeout=20)
    wait_until(lambda: told.life.under_way == 0, "the place is free")
    again = tab(context, told)
    shelf(again).first.click()
    expect(again.get_by_test_id("user")).to_have_text("Tell me a long story.")
    expect(again.get_by_test_id("bot")).to_contain_text("word word word")
    expect(again.get_by_test_id("facts")).to_contain_text("stopped")


def test_a_restart_of_the_server_loses_nothing(browser: Browser, home: Path) -> None:
    port = free_port()
    with browsing_context(browser, f"http://127.0.0.1:{port}") as context:
        with told_app(ToldEngine(end_after=2), page=True, port=port) as told:
            ask(tab(context, told), "Before", 1)
        with told_app(ToldEngine(end_after=2), page=True, port=port) as told:
            page = tab(context, told)
            shelf(page).first.click()
            expect(page.get_by_test_id("user")).to_have_text("Before")
            ask(page, "After", 2)


def test_conversations_are_renamed_deleted_exported_and_imported(
    context: BrowserContext, told: Told, tmp_path: Path
) -> None:
    page = tab(context, told)
    ask(page, "First question", 1)
    page.once("dialog", lambda dialog: dialog.accept("Of questions"))
    page.get_by_role("button", name="Rename").click()
    expect(shelf(page)).to_have_text(["Of questions"])
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_test_id("user")).to_have_count(0)
    ask(page, "Second question", 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export all").click()
    file = tmp_path / "all.jsonl"
    download.value.save_as(file)
    assert [dialogue.messages[0].content for dialogue in read_dialogues([file])] == [
        "Second question",
        "First question",
    ]

    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(shelf(page)).to_have_text(["Of questions"])
    page.locator("input[type=file]").set_input_files(file)
    expect(page.get_by_text("Imported 2 conversations.")).to_be_visible()
    expect(shelf(page)).to_have_text(["Second question", "First question", "Of questions"])

    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"messages": [{"role": "assistant", "content": "x"}]}) + "\nno JSON\n")
    page.locator("input[type=file]").set_input_files(bad)
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("bad.jsonl was not imported: line 1: ")
    expect(toast).to_contain_text("line 2: not JSON")
    expect(shelf(page)).to_have_count(3)


def test_offline_nothing_is_sent_and_nothing_is_lost(context: BrowserContext, told: Told) -> None:
    page = tab(context, told)
    ask(page, "Online", 1)
    context.set_offline(True)
    notice = page.locator("#notice")
    expect(notice).to_contain_text("You are offline. Conversations stay readable")
    begin(page, "Offline")
    expect(notice).to_contain_text("nothing was sent, and nothing is lost")
    page.get_by_label("Give another answer in place of answer 1").click()
    expect(page.get_by_label("Your message")).to_have_value("Offline")
    assert told.engine.began == 1
    context.set_offline(False)
    expect(notice).to_contain_text("The connection is back.")
    page.get_by_label("Your message").press("Enter")
    expect(page.get_by_test_id("bot")).to_have_count(2, timeout=20_000)


def test_a_connection_that_breaks_in_the_middle_is_told_and_what_came_is_kept(browser: Browser, home: Path) -> None:
    port = free_port()
    with browsing_context(browser, f"http://127.0.0.1:{port}") as context:
        with told_app(ToldEngine(), page=True, port=port) as told:
            page = tab(context, told)
            begin(page, "Tell me a long story.")
            expect(page.get_by_test_id("live")).to_contain_text("word word word word")
        expect(page.locator("#notice")).to_contain_text("broke off", timeout=20_000)
        with told_app(ToldEngine(end_after=2), page=True, port=port):
            page.reload()
            expect(page.get_by_test_id("bot")).to_contain_text("word word word", timeout=20_000)


def test_a_conversation_that_is_broken_in_the_browser_is_no_end(context: BrowserContext, told: Told) -> None:
    page = tab(context, told)
    ask(page, "why", 1)
    page.evaluate(
        """() => { for (const key of Object.keys(localStorage).filter((key) => key.startsWith('thousand.'))) {
        const one = JSON.parse(localStorage.getItem(key));
        for (const node of Object.values(one.messages)) node.parent = node.id;
        localStorage.setItem(key, JSON.stringify({ ...one, leaf: null })); } }"""
    )
    page.reload()
    expect(page.get_by_test_id("toast-body")).to_contain_text("cannot be read any more")
    ask(page, "and now", 1)
