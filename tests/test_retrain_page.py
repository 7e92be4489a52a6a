"""The retraining page in a real browser, from a kept dialogue to the release that chats and back again."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio
import pytest
from playwright.sync_api import expect

from assistant import base_model, release
from evaluation.compare import Comparison
from evaluation.sets import SetName
from serve.access import Access
from serve.keys import Keys
from serve.ui.operator import attempt, may_operate
from tests.browser import browsing, seen_by_everybody
from tests.retraining import keep, kept
from tests.test_keys import ALICE, keys_file
from tests.told import ToldEngine, told_app
from train.retrain.plan import make_plan
from train.retrain.work import begin, work

WITHIN = 60_000
REASON = "It repeats itself more in its answers."


def retrain_here(trained: Path) -> None:
    """What the process in the background does, in this one; its candidate answers otherwise than the current release, and is
    blocked."""
    prompts: dict[SetName, Path] = {
        "dev": trained / "dev" / "two.jsonl",
        "conversations": trained / "talks.jsonl",
        "safety": trained / "safety.jsonl",
    }
    state = begin(make_plan(), "second", prompts, base_model.quiet)
    work(state, (), base_model.quiet, lambda *_: None)
    place = release.path("second")
    whole = json.loads((place / "comparison.json").read_text())
    for number, turns in enumerate(whole["sets"][0]["candidate"]):
        turns[0]["text"] = f"<b>an answer</b> of another kind {number}"
    (place / "comparison.json").write_text(json.dumps(whole))
    assert Comparison.read("second").set("dev").candidate[0][0].text.startswith("<b>")
    record = release.read(place)
    guard = release.Guard(against="first", compared=release.now(), reasons=[REASON])
    release.write(place, record.model_copy(update={"guard": guard}))


@pytest.mark.browser
def test_from_a_kept_dialogue_to_the_release_that_chats_and_back(
    own: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(own, [kept(1)])
    monkeypatch.setattr("train.retrain.background.start", lambda *_: retrain_here(trained))
    monkeypatch.setattr("train.watch.Watch.signals", lambda _: nullcontext())  # which only a main thread gets
    with told_app(ToldEngine(end_after=3), page=True) as told, browsing(str(told.client.base_url)) as page:
        page.goto(f"{told.client.base_url}/retrain")
        expect(page.get_by_text("Since first was trained: 1 new; 10 dialogues are as before.")).to_be_visible(
            timeout=WITHIN
        )
        page.get_by_text("New: question 1").click()
        expect(page.get_by_text("so it is.")).to_be_visible()
        seen_by_everybody(page, "retrain-new")
        page.get_by_role("button", name="Begin retraining").click()
        expect(page.get_by_role("heading", name="second beside first")).to_be_visible(timeout=WITHIN)
        expect(page.get_by_text(REASON)).to_be_visible()
        expect(page.get_by_role("cell", name="none that can be told").first).to_be_visible()
        expect(page.get_by_text("<b>an answer</b> of another kind")).to_be_visible()
        for number, key in enumerate("12", 1):
            expect(page.get_by_text(f"Pair {number} of 2")).to_be_visible(timeout=WITHIN)
            page.keyboard.press(key)
        expect(page.get_by_text("Human preference (me), 2 prompts:")).to_be_visible(timeout=WITHIN)
        seen_by_everybody(page, "retrain-compared")
        page.get_by_role("button", name="Promote all the same").click()
        expect(page.get_by_text("second is not promoted")).to_be_visible(timeout=WITHIN)
        assert release.current() == "first"
        page.get_by_label("Why it should chat all the same").fill("Its manner is what we want.")
        page.get_by_role("button", name="Promote all the same").click()
        expect(page.get_by_text("because: Its manner is what we want.")).to_be_visible(timeout=WITHIN)
        assert release.current() == "second"
        page.get_by_role("button", name="Go back to first").click()
        expect(page.get_by_role("button", name="Keep first")).to_be_visible(timeout=WITHIN)
        assert release.current() == "first"
        page.get_by_role("button", name="Keep first").click()
        expect(page.get_by_role("button", name="Keep first")).to_have_count(0, timeout=WITHIN)
        page.reload()
        expect(page.get_by_role("heading", name="second beside first")).to_be_visible(timeout=WITHIN)
        expect(page.get_by_role("button", name="Promote all the same")).to_have_count(0)


@pytest.mark.browser
def test_who_is_not_the_operator_sees_nothing_of_it(own: Path, tmp_path: Path) -> None:
    keep(own, [kept(1)])
    keys = Keys(file=keys_file(tmp_path, f"alice {ALICE}"))
    with told_app(ToldEngine(), page=True, keys=keys) as told, browsing(str(told.client.base_url)) as page:
        page.goto(f"{told.client.base_url}/retrain")
        seen_by_everybody(page, "login", but="document-title")  # Gradio's own page, which has none
        page.locator("input").first.fill("me")
        page.locator("input[type=password]").fill(ALICE)
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_text("Only the operator of this server may do that")).to_be_visible(timeout=WITHIN)
        expect(page.get_by_text("question 1")).to_have_count(0)
        expect(page.get_by_role("button", name="Begin retraining")).to_have_count(0)


def test_what_somebody_else_asks_for_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gradio, "Warning", lambda text, **_: said.append(text))
    access = Access(hosts=[], keys=Keys(file=keys_file(tmp_path, f"alice {ALICE}")))
    alice = cast(gradio.Request, SimpleNamespace(username="alice"))
    attempt(access, alice, lambda: pytest.fail("it was done"))
    assert "Only the operator" in said[0]
    assert not may_operate(access, alice)
    assert may_operate(access, cast(Any, SimpleNamespace(username="default")))
    assert may_operate(Access(hosts=[], keys=Keys()), cast(Any, SimpleNamespace(username=None)))
