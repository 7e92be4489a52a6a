"""The chat page in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from assistant import release
from serve.feedback import CONSENT
from serve.keys import Keys
from serve.store import Candidate, Opinion, Said, Store
from tests.browser import ask, begin, browsing_context, chromium, opened
from tests.server import serving, wait_until
from tests.test_keys import ALICE, keys_file
from tests.told import Told, ToldEngine, told_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def told(home: Path) -> Iterator[Told]:
    with told_app(ToldEngine(end_after=3), page=True) as found:
        yield found


@pytest.fixture
def page(browser: Browser, told: Told) -> Iterator[Page]:
    address = str(told.client.base_url)
    with browsing_context(browser, address) as context:
        yield opened(context, address)


def texts(page: Page, who: str) -> list[str]:
    return [text.strip() for text in page.get_by_test_id(who).all_inner_texts()]


def test_a_conversation_whose_third_answer_sees_the_first_turn_and_which_outlives_a_reload(
    page: Page, told: Told
) -> None:
    for count, question in enumerate(("My name is Ada.", "Why is that?", "Tell me my name."), 1):
        assert ask(page, question, count).strip() == "word word word"
        expect(page.get_by_test_id("facts").last).to_contain_text("3 tokens")
    assert "My name is Ada." in told.chat.template.tokenizer.decode(told.engine.prompts[-1])
    page.reload()
    expect(page.get_by_test_id("user")).to_have_text(["My name is Ada.", "Why is that?", "Tell me my name."])
    expect(page.get_by_role("navigation").get_by_role("button")).to_have_text(["My name is Ada."])


def test_stop_retry_edit_and_undo(page: Page, told: Told) -> None:
    told.engine.end_after = None
    begin(page, "Tell me a long story.")
    expect(page.get_by_test_id("live")).to_contain_text("word word word")
    page.get_by_role("button", name="Stop").click()
    assert told.engine.closed.acquire(timeout=10)
    expect(page.get_by_test_id("facts")).to_contain_text("stopped")
    wait_until(lambda: told.life.under_way == 0, "the place is free")
    long = texts(page, "bot")[0]

    told.engine.end_after = 2
    page.get_by_label("Give another answer in place of answer 1").click()
    expect(page.get_by_test_id("version")).to_have_text("2 / 2")
    assert texts(page, "bot") == ["word word"]
    page.get_by_label("Previous version of this answer").click()
    expect(page.get_by_test_id("version")).to_have_text("1 / 2")
    assert texts(page, "bot") == [long]

    page.get_by_label("Edit question 1").click()
    page.get_by_label("Your question").fill("Say hello.")
    page.get_by_role("button", name="Ask this instead").click()
    expect(page.get_by_test_id("user")).to_have_text("Say hello.")
    expect(page.get_by_test_id("bot")).to_have_text("word word")
    page.get_by_label("Previous version of this question").click()
    expect(page.get_by_test_id("user")).to_have_text("Tell me a long story.")
    expect(page.get_by_test_id("version")).to_have_text(["1 / 2", "2 / 2"])

    page.get_by_role("button", name="Undo last question").click()
    expect(page.get_by_test_id("user")).to_have_count(0)
    expect(page.get_by_label("Your message")).to_have_value("Tell me a long story.")


def test_what_is_wrong_is_told_and_nothing_is_lost(page: Page, told: Told) -> None:
    toast = page.get_by_test_id("toast-body")
    page.get_by_role("button", name="Settings").click()
    seed = page.get_by_label("Seed")
    seed.fill("minus one")
    seed.press("Tab")
    begin(page, "Hello")
    expect(toast).to_contain_text("seed", timeout=20_000)
    expect(page.get_by_label("Your message")).to_have_value("Hello")
    seed.fill("")
    seed.press("Tab")
    begin(page, "why " * 600)
    expect(toast.filter(has_text="the context holds 512")).to_be_visible(timeout=20_000)
    told.chat._most_turns = 0
    begin(page, "Hello")
    expect(toast.filter(has_text="try again in 2 s")).to_be_visible(timeout=20_000)
    told.chat._most_turns = 1
    told.engine.fail_after = 2
    assert ask(page, "Hello again", 1).strip() == "word word"
    expect(page.get_by_test_id("facts")).to_contain_text("the engine failed")
    expect(toast.filter(has_text="it broke")).to_be_visible(timeout=20_000)
    told.engine.fail_after = None
    assert ask(page, "And again", 2).strip() == "word word word", "the page goes on as if nothing had happened"


def test_markdown_is_shown_and_html_and_pictures_are_not(page: Page, told: Told) -> None:
    told.engine.end_after = 1
    told.engine.word = "**bold** <img src=http://192.0.2.1/a> ![x](http://192.0.2.1/b) [y](javascript:alert(1))"
    ask(page, "<b>Hello</b> <script>alert(1)</script>", 1)
    assert texts(page, "user") == ["<b>Hello</b> <script>alert(1)</script>"]
    answer = page.get_by_test_id("bot")
    expect(answer.locator("strong")).to_have_text("bold")
    assert answer.locator("img, script, a[href^=javascript]").count() == 0


def test_a_system_prompt_and_settings_are_sent_and_a_change_of_it_is_a_branch(page: Page, told: Told) -> None:
    page.get_by_role("button", name="Settings").click()
    system = page.get_by_label("System prompt")
    ask(page, "why", 1)
    system.fill("Answer in verse.")
    system.press("Tab")
    ask(page, "because", 2)
    assert "Answer in verse." in told.chat.template.tokenizer.decode(told.engine.prompts[-1])
    expect(page.get_by_test_id("version")).to_have_text("2 / 2")
    page.get_by_label("Previous version of this question").click()
    expect(page.get_by_test_id("bot")).to_have_count(1)


def test_which_release_answers_is_told_can_be_chosen_and_follows_the_current_one(
    browser: Browser, home: Path, registry: Path
) -> None:
    options = ("--engine", "llama.cpp", "--context", "256")
    with serving(home, *options) as address, browsing_context(browser, address) as context:
        page = opened(context, address)
        expect(page.get_by_text("Release first")).to_be_visible(timeout=20_000)
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Which release answers").click()
        page.get_by_role("option", name="third").click()
        page.get_by_label("number input for Longest answer").fill("4")
        page.get_by_label("number input for Longest answer").press("Tab")
        ask(page, "why", 1)
        expect(page.get_by_test_id("facts")).to_contain_text("third")
        release.promote("second")
        wait_until(lambda: httpx.get(f"{address}/ready").json()["release"] == "second", "it answers")
        page.reload()
        expect(page.get_by_text("Release second")).to_be_visible(timeout=20_000)
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_label("number input for Temperature")).to_have_value("0.3")


def test_who_has_a_key_logs_in_with_it(browser: Browser, home: Path, tmp_path: Path) -> None:
    keys = Keys(file=keys_file(tmp_path, f"alice {ALICE}"))
    with (
        told_app(ToldEngine(end_after=3), page=True, keys=keys) as told,
        browsing_context(browser, str(told.client.base_url)) as context,
    ):
        page = context.new_page()
        page.goto(str(told.client.base_url))
        page.locator("input[type=password]").fill("a-wrong-key-of-nobody")
        page.locator("input").first.fill("me")
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_text("Incorrect Credentials")).to_be_visible(timeout=20_000)
        page.locator("input").first.fill("me")
        page.locator("input[type=password]").fill(ALICE)
        page.get_by_role("button", name="Login").click()
        assert ask(page, "Hello", 1).strip() == "word word word"


def test_feedback_is_stored_with_the_branch_it_is_about_and_nothing_before(page: Page, home: Path) -> None:
    store = Store()

    def waiting() -> int:
        with store.session() as session:
            return len(list(session.scalars(select(Candidate))))

    ask(page, "One", 1)
    ask(page, "Two", 2)
    assert not store.exists
    page.get_by_label("Answer 1 is good").click()
    expect(page.get_by_label("Answer 1 is good")).to_have_attribute("aria-pressed", "true")
    with store.session() as session:
        assert [said.content.strip() for said in session.scalars(select(Said))] == ["One", "word word word"]
    page.get_by_label("Answer 2 is bad").click()
    page.get_by_label("What is wrong with it?").fill("Too short.")
    send = page.locator("article").get_by_role("button", name="Send")
    send.click()
    expect(page.get_by_label("Answer 2 is bad")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Write the answer you wanted in place of answer 2").click()
    form = page.get_by_label("The answer you wanted", exact=True)
    expect(form).to_have_value(re.compile("word word"))
    form.fill("Two it is.")
    send.click()
    assert waiting() == 0, "nothing is kept without consent"
    page.locator("article").get_by_label(CONSENT).check()
    send.click()
    expect(page.get_by_test_id("wanted")).to_contain_text("Two it is.")
    assert waiting() == 1
    page.get_by_role("button", name="Keep this conversation").click()
    page.get_by_label(CONSENT).check()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_text("Kept on this machine, to learn from")).to_be_visible()
    with store.session() as session:
        opinions = [(said.verdict, said.reason, said.wanted, said.keep) for said in session.scalars(select(Opinion))]
        releases = {said.release for said in session.scalars(select(Said)) if said.role == "assistant"}
    assert set(opinions) == {
        ("like", None, None, False),
        ("dislike", "Too short.", None, False),
        (None, None, "Two it is.", False),
        (None, None, None, True),
    }
    assert releases == {"told"}
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_test_id("toast-body").filter(has_text="What the server had of it is deleted")).to_be_visible()
    assert waiting() == 0
    store.close()
