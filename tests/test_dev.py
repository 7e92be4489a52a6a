"""The dev evaluation: what is measured is what was said."""

import json
from pathlib import Path

import pytest

from assistant import release
from assistant.dialogue import Dialogue, Message
from evaluation.dev import Answer, repeated_share, score
from tests.conftest import Command


def answer(
    text: str, stopped: bool = True, failed: tuple[str, ...] = (), checks: dict[str, int] | None = None
) -> Answer:
    prompt = Dialogue.model_validate({"messages": [Message(role="user", content="x").model_dump()], "checks": checks})
    return Answer(prompt, text, 3, stopped, failed)


def test_the_repeated_share_counts_word_ngrams_seen_before() -> None:
    assert repeated_share("a b c d e f g h") == 0
    assert repeated_share("a b c d a b c d") == pytest.approx(1 / 5)
    assert repeated_share("a a a a a a a") == pytest.approx(3 / 4)
    assert repeated_share("too short") == 0


def test_scores_are_shares_of_what_was_said() -> None:
    answers = [
        answer("a b"),
        answer("c", stopped=False),
        answer("d", checks={"max_words": 1}),
        answer("d e", failed=("max_words",), checks={"max_words": 1}),
    ]
    scores = score(answers)
    assert scores["prompts"] == 4
    assert scores["prompts_with_checks"] == 2
    assert scores["stopped"]["mean"] == 0.75
    assert scores["checks_passed"]["mean"] == 0.5
    assert scores["words"]["mean"] == 1.5
    assert scores["stopped"]["low"] <= 0.75 <= scores["stopped"]["high"]


def test_release_and_base_side_by_side_on_a_page(thousand: Command, real_home: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "dev.jsonl"
    lines = [
        {"id": f"dev-{n}", "messages": [{"role": "user", "content": text}]} for n, text in enumerate(["Hi!", "Why?"])
    ]
    prompts.write_text("\n".join(map(json.dumps, lines)) + "\n")
    page = tmp_path / "page.md"
    before = release.read(release.path(release.current()))
    result = thousand("evaluate", "dev", "--base", "--prompts", prompts, "--max-tokens", 12, "--page", page)
    assert result.code == 0, result.err
    assert "stopped" in result.out
    text = page.read_text()
    assert text.count("**base model gemma3-270m**") == 2
    assert text.count(f"**{before.name}**") == 2
    assert release.read(release.path(before.name)) == before, "scores on other prompts are not the release's dev scores"


def test_broken_prompts_are_reported_with_their_line(thousand: Command, real_home: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text("{}\n")
    result = thousand("evaluate", "dev", "--prompts", tmp_path / "dev.jsonl")
    assert result.code == 1
    assert "dev.jsonl:1: messages: is missing" in result.err
