"""The page on which a person votes, in a real browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from assistant.sampling import Sampling
from evaluation.systems import Asked
from evaluation.voting.ballot import Ballot
from evaluation.voting.poll import Poll
from evaluation.voting.result import read_preferences
from evaluation.voting.sheet import Item, Sheet
from serve.access import Access
from serve.life import Life
from serve.ui.vote_page import vote_app
from tests.browser import browsing, seen_by_everybody
from tests.server import serving_app, wait_until

WITHIN = 60_000
LONG = (
    "A long answer, <b>with what looks like a tag</b>.\n\n1. First this.\n2. Then that.\n\n"
    + "And so it goes on. " * 30
)


def a_poll() -> Poll:
    items = [
        Item(prompt=f"p{n}", system="Be brief." if n == 1 else None, user=f"Why is that so? ({n})", answers=(LONG, ""))
        for n in range(3)
    ]
    systems = [Asked(name=name, identity=name, sampling=Sampling()) for name in ("the-one", "the-other")]
    return Poll.of(
        Sheet(scale="preference", set="dev", file="dev.jsonl", sha256="0", systems=tuple(systems), items=tuple(items))
    )


@contextmanager
def voting_page(ballot: Ballot) -> Iterator[str]:
    life = Life()
    with serving_app(vote_app(ballot, Access(hosts=["127.0.0.1"]), life), life=life) as address:
        yield address


@pytest.mark.browser
def test_one_key_votes_and_nothing_tells_whose_answers_they_are(home: Path) -> None:
    poll = a_poll()
    with voting_page(Ballot(poll, "ann")) as address, browsing(address) as page:
        for number, key in enumerate("13", 1):
            expect(page.get_by_text(f"Pair {number} of 3")).to_be_visible(timeout=WITHIN)
            expect(page.get_by_role("region", name="A")).to_be_visible()
            expect(page.get_by_text("<b>with what looks like a tag</b>")).to_be_visible()
            expect(page.get_by_text("(nothing)")).to_be_visible()
            assert "the-o" not in page.content()
            page.keyboard.press(key)
        expect(page.get_by_text("Pair 3 of 3")).to_be_visible(timeout=WITHIN)
        seen_by_everybody(page, "vote-pair")
        page.reload()  # whoever leaves comes back to where it was
        expect(page.get_by_text("Pair 3 of 3")).to_be_visible(timeout=WITHIN)
        page.get_by_role("button", name="Take the last one back").click()
        expect(page.get_by_text("Pair 2 of 3")).to_be_visible(timeout=WITHIN)
        page.get_by_role("button", name="Neither is significantly better").click()
        expect(page.get_by_text("Pair 3 of 3")).to_be_visible(timeout=WITHIN)
        page.keyboard.press("2")
        expect(page.get_by_text("That was all, thank you.")).to_be_visible(timeout=WITHIN)
        seen_by_everybody(page, "vote-over")
    assert [vote.vote for vote in poll.votes()] == ["A", "B", None, "neither", "neither"]
    (tally,) = read_preferences(home)[0].tallies
    assert (tally.voter, tally.prompts, tally.shares["neither"].mean) == ("ann", 3, 0.6667)


@pytest.mark.browser
def test_a_key_that_is_pressed_while_the_vote_before_is_being_kept_is_not_lost(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballot, begun, go_on = Ballot(a_poll(), "ann"), threading.Event(), threading.Event()
    keep = ballot.vote

    def slowly(place: int, vote: str | None) -> None:
        begun.set()
        assert go_on.wait(WITHIN / 1000)
        keep(place, vote)

    monkeypatch.setattr(ballot, "vote", slowly)
    with voting_page(ballot) as address, browsing(address) as page:
        expect(page.get_by_text("Pair 1 of 3")).to_be_visible(timeout=WITHIN)
        page.keyboard.press("2")
        assert begun.wait(WITHIN / 1000)
        page.keyboard.press("2")
        go_on.set()
        wait_until(lambda: len(ballot.poll.votes()) == 2, "both are kept")
        expect(page.get_by_text("Pair 2 of 3")).to_be_visible(timeout=WITHIN)
    assert len({vote.prompt for vote in ballot.poll.votes()}) == 1, "both are on what was seen"


def test_only_this_machine_is_answered_and_only_what_the_page_needs(home: Path) -> None:
    with voting_page(Ballot(a_poll())) as address:
        assert httpx.get(address).status_code == 200
        assert httpx.get(address, headers={"Host": "elsewhere.example"}).status_code == 400
        assert httpx.post(f"{address}/gradio_api/upload", headers={"Origin": "http://x.example"}).status_code == 403
        assert httpx.get(f"{address}/gradio_api/file=/etc/passwd").status_code == 404
