"""The whole loop in a browser, on the embedded base, its training cut short: chat, correct, review, retrain, promote, go back."""

import json
import re
import shutil
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from assistant import release
from assistant.dialogue import read_dialogues
from assistant.lineage import DIALOGUES, read_lineage
from assistant.settings import bundled, settings
from tests.browser import ask, browsing
from tests.server import serving, wait_until

WITHIN = 420_000
"""Milliseconds that training on a few dialogues and answering all prompts twice may take on a busy machine."""
QUESTION, WANTED = "What does our shop sell?", "Lamps, and nothing but lamps."


def short_home(home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`place` as THOUSAND_HOME, with the base of `home`: the release that comes along, under another name and with a recipe that is soon done."""
    place.mkdir()
    (place / "base").symlink_to(home / "base")
    known = release.read(release.path(release.current()))
    shutil.copytree(release.path(known.name), place / "releases" / "short")
    shutil.copyfile(bundled("releases") / known.name / DIALOGUES, place / "releases" / "short" / DIALOGUES)
    (place / "merged").mkdir()
    for file in (home / "merged").glob(f"{known.name}-*.gguf"):  # named by what went into it, behind the release's name
        (place / "merged" / file.name.replace(known.name, "short", 1)).symlink_to(file)
    recipe = {**known.recipe, "epochs": 0.02, "max_tokens": 128, "dev_tokens": 8}
    monkeypatch.setenv("THOUSAND_HOME", str(place))
    settings.cache_clear()
    release.write(release.path("short"), known.model_copy(update={"name": "short", "recipe": recipe}))
    release.promote("short")


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
    release.install_bundled()
    home = tmp_path / "home"
    short_home(real_home, home, monkeypatch)
    with serving(home) as address, browsing(address) as page:
        ask(page, QUESTION, 1)
        expect(page.get_by_test_id("facts")).to_contain_text("short")
        say_what_was_wanted(page)

        page.goto(f"{address}/review")
        expect(page.locator("#review")).to_contain_text(WANTED, timeout=60_000)
        page.keyboard.press("a")
        expect(page.locator("#review-where")).to_contain_text("Nothing waits", timeout=20_000)
        (kept,) = read_dialogues([home / "kept.jsonl"])
        assert kept.answers == [WANTED]
        assert kept.provenance is not None
        assert (kept.provenance.release, kept.provenance.corrected) == ("short", True)

        page.goto(f"{address}/retrain")
        expect(page.get_by_text("1 new")).to_be_visible(timeout=60_000)
        page.get_by_role("button", name="Begin retraining").click()
        expect(page.get_by_role("progressbar").first).to_be_visible(timeout=WITHIN)
        page.reload()  # which stops nothing
        heading = page.get_by_role("heading", name=re.compile("retrained-.* beside short"))
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
        page.get_by_role("button", name="Go back to short").click()
        wait_until(lambda: httpx.get(f"{address}/ready").json()["release"] == "short", "the old one chats again", 120)
    decided = json.loads((home / "releases" / "registry.json").read_text())
    assert decided["promoted"][-1] == "short"
