"""The review page in a real browser: one key decides, an answer is changed in place, and others than the operator see nothing."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr

from assistant.dialogue import read_dialogues
from serve.keys import Keys
from serve.review import queue
from serve.store import Store
from tests.browser import browsing, seen_by_everybody
from tests.conftest import Command
from tests.test_gate import bundle, fill, typed
from tests.test_keys import ALICE, keys_file
from tests.told import KEY, Told, ToldEngine, told_app

pytestmark = pytest.mark.browser
__all__ = ["bundle"]


def test_one_key_decides_and_an_answer_is_changed_in_place(
    home: Path, thousand: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("Lamps, made by hand.", "Write to ada@lovelace.org about it.", "Only chairs, and one table.", "Books.")
    typed(monkeypatch, "q")
    assert "4 still wait" in thousand("data", "review").out  # what is embedded here, the page finds
    with told_app(ToldEngine(end_after=2), page=True) as told, browsing(str(told.client.base_url)) as page:
        page.goto(f"{told.client.base_url}/review")
        where = page.locator("#review-where")
        expect(where).to_contain_text("4 to review", timeout=60_000)
        expect(page.locator("#review")).to_contain_text("Lamps, made by hand.")
        expect(page.locator("#review")).to_contain_text("What the assistant had answered before")
        expect(page.locator("#review .note")).to_contain_text("general.jsonl:")
        page.keyboard.press("a")
        expect(where).to_contain_text("3 to review", timeout=20_000)
        expect(page.locator("#review .error")).to_contain_text("ada@lovelace.org")
        seen_by_everybody(page, "review-warned")
        page.keyboard.press("e")
        box = page.locator("#review-text textarea")
        expect(box).to_be_focused(timeout=20_000)
        box.fill("Ask at the market.")  # the letters a, e, r and s in it decide nothing
        seen_by_everybody(page, "review-editing")
        page.get_by_role("button", name="Use this text").click()
        expect(page.locator("#review .error")).to_have_count(0, timeout=20_000)
        expect(page.locator("#review")).to_contain_text("Ask at the market.")
        page.get_by_role("button", name="Accept (a)").click()
        expect(where).to_contain_text("2 to review", timeout=20_000)
        page.keyboard.press("s")
        expect(where).to_contain_text("1 to review", timeout=20_000)
        page.keyboard.press("r")
        expect(where).to_contain_text("That was all", timeout=20_000)
    answers = [dialogue.answers for dialogue in read_dialogues([home / "kept.jsonl"])]
    assert answers == [["Lamps, made by hand."], ["Ask at the market."]]
    assert [item.dialogue.answers for item in queue(Store())] == [["Only chairs, and one table."]]


def called(told: Told, function: dict[str, Any], session: str) -> str:
    """What one of the page's functions answers who is logged in."""
    body = {"data": [None] * len(function["inputs"]), "fn_index": function["id"], "session_hash": session}
    told.client.post("/gradio_api/queue/join", json=body).raise_for_status()
    with told.client.stream("GET", f"/gradio_api/queue/data?session_hash={session}", timeout=60) as response:
        return next(line for line in response.iter_lines() if "process_completed" in line)


def test_only_the_operator_reviews(home: Path, tmp_path: Path) -> None:
    fill("Lamps, made by hand.")
    keys = Keys(SecretStr(KEY), keys_file(tmp_path, f"alice {ALICE}"))
    with told_app(page=True, keys=keys) as told:
        for key, seen in ((ALICE, False), (KEY, True)):
            told.client.post("/login", data={"username": "anybody", "password": key}).raise_for_status()
            functions = told.client.get("/config").json()["dependencies"]
            (load, take) = (
                max(f["id"] for f in functions if f["api_name"].rstrip("_1234567890") == n) for n in ("load", "take")
            )
            by_id = {function["id"]: function for function in functions}
            assert ("Lamps" in called(told, by_id[load], key)) == seen
            assert ("Only the operator" in called(told, by_id[take], key)) != seen
            assert (queue(Store()) == []) == seen, "hers decided nothing"
