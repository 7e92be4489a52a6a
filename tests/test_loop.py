"""The whole loop in a browser, on the embedded base, its training cut short: chat, correct, review, retrain, promote, go back."""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Page, expect

from assistant import release
from assistant.dialogue import read_dialogues
from assistant.lineage import read_lineage
from assistant.settings import settings
from tests.browser import ask, browsing
from tests.few import TRAINED_SHORT, few
from tests.server import serving, wait_until

WITHIN = 300_000
"""Milliseconds that training on a few dialogues, and answers to a few prompts, may take on a busy machine."""
(BUNDLED,) = release.bundled_names()
QUESTION, WANTED = "What does our shop sell?", "Lamps, and nothing but lamps."


def cut_short(home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`place` as THOUSAND_HOME, with what `home` has made once; the page begins retrainings that are soon done."""
    release.install_bundled()
    place.mkdir()
    for made in ("base", "merged"):
        (home / made).mkdir(exist_ok=True)
        (place / made).symlink_to(home / made)
    shutil.copytree(home / "releases" / BUNDLED, place / "releases" / BUNDLED)
    options = [*TRAINED_SHORT]
    for option, name in {"--dev": "dev", "--conversations": "multiturn_test", "--safety": "safety_test"}.items():
        options.append(f"{option} {few(place, name)}")
    monkeypatch.setenv("THOUSAND_RETRAIN_OPTIONS", " ".join(options))
    monkeypatch.setenv("THOUSAND_HOME", str(place))
    settings.cache_clear()
    release.promote(BUNDLED)


def hasten(home: Path) -> None:
    """Retraining leaves the machine to who chats, and here the other tests would have all of it."""
    wait_until((home / "retrain" / "state.json").exists, "it has begun", 180)
    with suppress(psutil.Error):
        psutil.Process(json.loads((home / "retrain" / "state.json").read_text())["pid"]).nice(0)


def say_what_was_wanted(page: Page) -> None:
    page.get_by_label("Write the answer you wanted in place of answer 1").click()
    form = page.locator("#talk form")
    form.locator("textarea").fill(WANTED)
    form.get_by_role("checkbox").check()
    form.get_by_role("button", name="Send").click()
    expect(page.get_by_test_id("wanted")).to_contain_text(WANTED, timeout=20_000)


@pytest.mark.browser
def test_from_a_corrected_answer_to_a_release_that_learnt_it_and_back(
    real_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    cut_short(real_home, home, monkeypatch)
    with serving(home) as address, browsing(address) as page:
        ask(page, QUESTION, 1)
        expect(page.get_by_test_id("facts")).to_contain_text(BUNDLED)
        say_what_was_wanted(page)

        page.goto(f"{address}/review")
        expect(page.locator("#review")).to_contain_text(WANTED, timeout=60_000)
        page.keyboard.press("a")
        expect(page.locator("#review-where")).to_contain_text("Nothing waits", timeout=20_000)
        (kept,) = read_dialogues([home / "kept.jsonl"])
        assert kept.answers == [WANTED]
        assert kept.provenance is not None
        assert (kept.provenance.release, kept.provenance.corrected) == (BUNDLED, True)

        page.goto(f"{address}/retrain")
        expect(page.get_by_text("1 new")).to_be_visible(timeout=60_000)
        page.get_by_role("button", name="Begin retraining").click()
        expect(page.get_by_role("progressbar").first).to_be_visible(timeout=WITHIN)
        hasten(home)
        page.reload()  # which stops nothing
        heading = page.get_by_role("heading", name=re.compile(f"retrained-.* beside {BUNDLED}"))
        expect(heading).to_be_visible(timeout=WITHIN)
        name = heading.inner_text().split()[0]
        learnt = read_lineage(name)
        assert learnt is not None
        assert kept.id in {known.id for known in learnt}
        blocked = page.get_by_label("Why it should chat all the same")
        promote = page.get_by_role("button", name=f"Promote {name}")
        expect(promote.or_(blocked)).to_be_visible(timeout=20_000)
        if blocked.is_visible():  # a model that was trained for seconds may well be worse
            blocked.fill("It is a test.")
            promote = page.get_by_role("button", name="Promote all the same")
        promote.click()
        wait_until(lambda: httpx.get(f"{address}/ready").json()["release"] == name, "the new one chats", 120)

        page.goto(address)
        expect(page.get_by_text(f"Release {name}")).to_be_visible(timeout=20_000)
        ask(page, QUESTION, 2)
        expect(page.get_by_test_id("facts").last).to_contain_text(name)

        page.goto(f"{address}/retrain")
        page.get_by_role("button", name=f"Go back to {BUNDLED}").click()
        wait_until(lambda: httpx.get(f"{address}/ready").json()["release"] == BUNDLED, "the old one chats again", 120)
    decided = json.loads((home / "releases" / "registry.json").read_text())
    assert decided["promoted"][-1] == BUNDLED
