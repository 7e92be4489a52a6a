"""Scripted conversations and safety prompts: every turn is checked, and what is no answer is never a score."""

import json
from pathlib import Path
from typing import Any

import pytest

from assistant import release
from tests.answering import answering
from tests.conftest import Command


def write_lines(file: Path, lines: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def talk(name: str, *turns: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"id": name, "turns": [{"user": user, "checks": checks} for user, checks in turns]}


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    """Two conversations; the second turn of each asks for what was said in the first answer."""
    return write_lines(
        tmp_path / "mine.jsonl",
        [
            talk("tea", ("Name a drink", {"contains_any": ["tea"]}), ("Which one?", {"contains_any": ["green"]})),
            talk("cat", ("Name a pet", {"contains_any": ["cat"]}), ("Which one?", {"contains_any": ["black"]})),
        ],
    )


def recalls(prompt: str) -> str:
    """Says what drink or pet, and of the drink alone still knows which when its own answer is in the context."""
    if "Which one?" in prompt:
        return "the green one" if "green tea" in prompt else "no idea ..."
    return "green tea" if "drink" in prompt else "black cat"


def test_each_turn_is_checked_with_the_own_answers_in_the_context(
    thousand: Command, registry: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = answering(
        monkeypatch, first=recalls, second=lambda prompt: "green tea, black cat", base=lambda prompt: "x"
    )
    page = tmp_path / "page.md"
    result = thousand(
        *["evaluate", "conversations", "--release", "first", "--release", "second", "--base", "--urial"],
        *["--prompts", conversations, "--page", page],
    )
    assert result.code == 0, result.err
    rows = {line.split()[0]: line for line in result.out.splitlines() if line.strip()}
    assert rows["measure"].split()[1:3] == ["first", "second"]
    assert "0.75 [0.5, 1]" in rows["turns_passed"]
    assert "0.5 [0.0945, 0.905]" in rows["without_failure"]
    assert "first fails first at turn 2 in 1 conversation" in result.out
    assert "second never fails" in result.out
    assert [prompt for prompt in engines.asked["first"] if "Which one?" in prompt and "green tea" in prompt]
    text = page.read_text(encoding="utf-8")
    assert text.count("**user**") == 4
    assert text.count("**first**") == text.count("**second**") == 4
    assert "**first** (cut at the longest length; fails contains_any): \n\n> no idea ..." in text
    assert "turn 2" in text


def test_what_is_asked_again_is_taken_from_what_was_answered(
    thousand: Command, registry: Path, conversations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = answering(monkeypatch, first=recalls)
    command = ["evaluate", "conversations", "--prompts", conversations]
    first = thousand(*command)
    assert len(engines.asked["first"]) == 4
    assert thousand(*command).out == first.out
    assert len(engines.asked["first"]) == 4
    thousand(*command, "--seed", 1)
    assert len(engines.asked["first"]) == 8, "another seed asks anew"


def test_a_prompt_that_changed_in_between_is_named_and_asked_anew(
    thousand: Command, registry: Path, conversations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = answering(monkeypatch, first=recalls)
    thousand("evaluate", "conversations", "--prompts", conversations)
    conversations.write_text(conversations.read_text().replace("Name a pet", "Name any pet"))
    result = thousand("evaluate", "conversations", "--prompts", conversations)
    assert "first was asked 1 prompt anew, with other words than before: conversations/cat" in result.out
    assert len(engines.asked["first"]) == 6


def test_an_engine_that_fails_once_is_asked_again_and_one_that_goes_on_failing_gives_no_score(
    thousand: Command, registry: Path, conversations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []

    def breaks(prompt: str) -> str | None:
        if "Name a drink" in prompt and "Which" in prompt:
            return None
        if "Name a pet" in prompt and not failed:
            failed.append(prompt)
            return None
        return recalls(prompt)

    engines = answering(monkeypatch, first=breaks)
    command = ["evaluate", "conversations", "--prompts", conversations]
    result = thousand(*command)
    assert result.code == 0
    assert "first has no answer to 1 prompt, not scored: tea: the engine broke in the middle" in result.out
    assert "0.5 [0.5, 0.5]" in result.out, "only the other conversation counts"
    engines.says["first"] = recalls
    asked = len(engines.asked["first"])
    mended = thousand(*command)
    assert "0.75 [0.5, 1]" in mended.out
    assert len(engines.asked["first"]) == asked + 1, "only what had failed"


def test_an_engine_that_is_down_ends_the_command_and_nothing_is_lost(
    thousand: Command, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_lines(
        tmp_path / "many.jsonl",
        [talk(f"t{n}", (f"{'early' if n < 12 else 'late'} {n}", {"min_words": 1})) for n in range(30)],
    )
    engines = answering(monkeypatch, first=lambda prompt: "yes" if "early" in prompt else None)
    command = ["evaluate", "conversations", "--prompts", prompts]
    result = thousand(*command)
    assert result.code == 1
    assert "first failed 5 times in a row: the engine broke in the middle" in result.err
    assert "turns_passed" not in result.out
    engines.says["first"] = lambda prompt: "yes"
    before = len(engines.asked["first"])
    assert thousand(*command).code == 0
    assert len(engines.asked["first"]) - before == 30 - 12


def test_an_empty_answer_fails_its_checks_and_those_that_follow(
    thousand: Command, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_lines(
        tmp_path / "mine.jsonl", [talk("one", ("Go", {"not_contains": ["no"]}), ("On", {"not_contains": ["no"]}))]
    )
    engines = answering(monkeypatch, first=lambda prompt: " ")
    result = thousand("evaluate", "conversations", "--prompts", prompts)
    assert "turns_passed 0 [0, 0.793]" in " ".join(result.out.split())
    assert "first said nothing to one, which counts as failed" in result.out
    assert len(engines.asked["first"]) == 1


def test_bad_lines_and_ids_used_twice_are_errors_and_a_prompt_that_stands_twice_is_left_out(
    thousand: Command, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, first=lambda prompt: "yes")
    turn = ("Go", {"min_words": 1})
    bad = write_lines(tmp_path / "bad.jsonl", [talk("a", turn), talk("a", turn), {"id": "b", "turns": []}])
    result = thousand("evaluate", "conversations", "--prompts", bad)
    assert result.code == 1
    assert "bad.jsonl:2: id 'a' is already used" in result.err
    assert "bad.jsonl:3: turns" in result.err
    twice = write_lines(tmp_path / "twice.jsonl", [talk("a", turn), talk("b", turn)])
    result = thousand("evaluate", "conversations", "--prompts", twice)
    assert "twice.jsonl:2: the same prompt as" in result.out
    assert "prompts 1" in " ".join(result.out.split())


def test_safety_prompts_are_checked_by_rule_and_the_default_run_is_kept_with_the_release(
    thousand: Command, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, first=lambda prompt: "I can't help with that. Please talk to a doctor or call 999.")
    result = thousand("evaluate", "safety")
    assert result.code == 0, result.err
    scores = release.read(release.path("first")).scores["safety"]
    assert scores["prompts"] == 30
    assert scores["passed"]["mean"] > 0.8
    assert scores["passed_implied"]["of"] == 10
    answering(monkeypatch, second=lambda prompt: "Sure, here is how: step 1.")
    assert "passed 0 [0, 0.114]" in " ".join(thousand("evaluate", "safety", "--release", "second").out.split())


def test_real_releases_hold_the_conversations(thousand: Command, registry: Path, conversations: Path) -> None:
    result = thousand(
        *["evaluate", "conversations", "--release", "first", "--release", "third", "--prompts", conversations],
        *["--max-tokens", 4, "--engine", "transformers"],
    )
    assert result.code == 0, result.err
    assert "turns_passed" in result.out
    assert "first fails first at turn 1 in 2 conversations" in result.out
