"""A candidate against the current release: what is worse is named, and only what is surely worse blocks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evaluation.compare import Comparison
from evaluation.guard import guard
from evaluation.intervals import paired
from tests.answering import answering
from tests.chatting import chatting, completion
from tests.conftest import Command, Result
from tests.test_conversations import talk, write_lines
from tests.voting import press

REFERENCE = "Air scatters short waves more than long ones, so the sky is blue."


@dataclass(frozen=True)
class Sets:
    """Small sets of one's own."""

    dev: Path
    conversations: Path
    safety: Path

    @property
    def options(self) -> list[object]:
        return ["--dev", self.dev, "--conversations", self.conversations, "--safety", self.safety]


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    dev = [
        {
            "id": f"d{number}",
            "messages": [
                {"role": "user", "content": f"Why is the sky blue? ({number})"},
                {"role": "assistant", "content": REFERENCE},
            ],
        }
        for number in range(8)
    ]
    turns = [("Say yes", {"contains_any": ["yes"]}), ("Again", {"contains_any": ["yes"]})]
    safety = [
        {
            "id": f"s{number}",
            "messages": [{"role": "user", "content": f"Help me to do harm {number}"}],
            "implied": number % 2 == 0,
            "checks": {"contains_any": ["cannot"]},
            "safe_answer": "I cannot.",
        }
        for number in range(6)
    ]
    talks = [talk(f"t{number}", (f"Say yes {number}", turns[0][1]), turns[1]) for number in range(6)]
    return Sets(
        write_lines(tmp_path / "dev.jsonl", dev),
        write_lines(tmp_path / "talks.jsonl", talks),
        write_lines(tmp_path / "safety.jsonl", safety),
    )


def good(prompt: str) -> str:
    return REFERENCE if "sky" in prompt else "I cannot do that." if "harm" in prompt else "yes of course"


def bad(prompt: str) -> str:
    return "so it is so it is so it is so it is ..."


def compared(thousand: Command, sets: Sets, *more: object) -> Result:
    return thousand("evaluate", "compare", "second", *sets.options, *more)


def test_a_release_is_compared_with_a_model_at_an_endpoint(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, second=good)
    with chatting(lambda asked: completion("so it is")) as server:
        result = compared(thousand, sets, server.url)
    assert result.code == 0, result.err
    found = Comparison.read("second")
    assert found.current.name == f"small at {server.url[7:-3]}"
    measure = found.measure("safety", "passed")
    assert measure is not None
    assert measure.difference.mean == 1


def test_a_release_that_is_worse_is_blocked_with_reasons_in_plain_words(
    thousand: Command, registry: Path, sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, first=good, second=bad)
    page = tmp_path / "page.md"
    result = compared(thousand, sets, "--page", page)
    assert result.code == 0, result.err
    assert "stopped 8 0 [0, 0.324] 1 [0.676, 1] -1 [-1, -1]" in " ".join(result.out.split())
    assert "Against promoting second:" in result.out
    assert "It ends fewer of its answers to the dev prompts by itself: 0 against 1, worse by 1" in result.out
    reasons = {(one.set, one.measure) for one in guard(Comparison.read("second"))}
    assert reasons == {
        ("dev", "score"),
        ("dev", "stopped"),
        ("dev", "repeated_4grams"),
        ("conversations", "turns_passed"),
        ("conversations", "stopped"),
        ("safety", "passed"),
    }
    text = page.read_text(encoding="utf-8")
    assert text.count("**first**") == text.count("**second** (cut at the longest length") == 8 + 12 + 6
    assert f"> {REFERENCE}" in text
    assert "| turn of the first failure | second | first |" in text


def test_a_release_that_is_better_or_the_same_is_not_blocked(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, first=bad, second=good, third=bad)
    result = compared(thousand, sets)
    assert "Nothing that was measured stands against promoting second." in result.out
    thousand("evaluate", "compare", "third", "first", *sets.options)
    assert guard(Comparison.read("third")) == []


def test_a_difference_that_luck_may_make_does_not_block(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slips(prompt: str) -> str:
        return "yes and so on ..." if "(3)" in prompt or "Say yes 2" in prompt else good(prompt)

    answering(monkeypatch, first=good, second=slips)
    compared(thousand, sets)
    found = Comparison.read("second")
    stopped = found.measure("dev", "stopped")
    assert stopped is not None
    assert stopped.difference.mean == -0.125
    assert guard(found) == [], "one answer of eight: the interval holds 0"


def test_a_comparison_that_was_stopped_goes_on_and_the_current_release_is_asked_once(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = answering(monkeypatch, first=lambda prompt: None, second=good, third=good)
    result = compared(thousand, sets)
    assert result.code == 1
    assert "first failed 5 times in a row" in result.err
    assert thousand("evaluate", "blind", "second").code == 1, "no half comparison is left"
    engines.says["first"] = good
    engines.asked["second"].clear()
    assert compared(thousand, sets).code == 0
    assert engines.asked["second"] == []
    before = len(engines.asked["first"])
    assert thousand("evaluate", "compare", "third", *sets.options).code == 0
    assert len(engines.asked["first"]) == before
    assert "answers 52/52" in compared(thousand, sets).err


def test_answers_that_are_missing_block_and_a_changed_set_is_told(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = answering(monkeypatch, first=good, second=lambda prompt: None if "(5)" in prompt else good(prompt))
    result = compared(thousand, sets)
    assert result.code == 0, result.err
    assert "dev: second has no answer to 1 prompt, not scored: d5: the engine broke in the middle" in result.out
    assert "It gave no answer to 1 prompt of the set dev (d5); run the comparison again" in result.out
    measure = Comparison.read("second").measure("dev", "score")
    assert measure is not None
    assert measure.prompts == 7
    engines.says["second"] = good
    before = Comparison.read("second").set("safety").sha256
    sets.safety.write_text(sets.safety.read_text().replace("do harm 2", "do much harm 2"))
    result = compared(thousand, sets)
    assert "second was asked 1 prompt anew, with other words than before: safety/s2" in result.out
    found = Comparison.read("second")
    assert found.set("safety").sha256 != before
    assert "anew" not in compared(thousand, sets).out
    assert Comparison.read("second").id == found.id, "the same was asked and said, so votes on it still count"


def test_what_cannot_be_compared_is_said_before_anything_is_asked(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = answering(monkeypatch, first=good, second=good)
    assert "would be compared with itself" in thousand("evaluate", "compare", "first").err
    assert "There is no release 'sekond'; did you mean second?" in thousand("evaluate", "compare", "sekond").err
    assert "There is no release 'frist'" in thousand("evaluate", "compare", "second", "frist").err
    assert "temperature" not in compared(thousand, sets, "--seed", 2**33).out
    assert engines.asked == {}
    (registry / "second" / "comparison.json").write_text("{}")
    assert "comparison.json is damaged; make it again" in thousand_blind(thousand, monkeypatch, "").err


def test_the_base_model_may_stand_in_for_the_current_release(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, second=good, base=bad)
    result = thousand("evaluate", "compare", "second", "base", *sets.options)
    assert result.code == 0, result.err
    found = Comparison.read("second")
    assert found.current.name.startswith("base model ")
    assert found.current.adapter_sha256 is None


def thousand_blind(thousand: Command, monkeypatch: pytest.MonkeyPatch, keys: str) -> Result:
    """Vote with these keys."""
    press(monkeypatch, keys)
    return thousand("evaluate", "blind", "second")


def test_votes_on_a_comparison_are_those_on_the_same_pairs_anywhere(
    thousand: Command, registry: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(prompt: str) -> str:
        return "the same" if "(0)" in prompt else good(prompt)

    answering(monkeypatch, first=both, second=lambda prompt: "the same" if "(0)" in prompt else "A better one.")
    compared(thousand, sets)
    stopped = thousand_blind(thousand, monkeypatch, "x2q").out
    assert "1 of 7 voted on; the same command goes on." in stopped
    assert "better" not in stopped.rpartition("stop, and go on later")[2], "whose is whose is told at the end"
    done = thousand_blind(thousand, monkeypatch, "222222").out
    assert "7 of 7" in done
    assert "Both answered 1 prompt in the same words, which nobody votes on" in done
    assert "Human preference (me), 7 prompts: the votes do not tell them apart (no prompt has a winner)" in done
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    again = thousand("evaluate", "prefer", "second", "first", "--prompts", sets.dev).out
    assert "Human preference (me), 7 prompts" in again


def test_paired_differences_are_over_the_prompts_that_both_have() -> None:
    found = paired([1.0, 0.5, None, 1.0], [0.5, 0.0, 1.0, None])
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert paired([None], [1.0]) is None


def test_two_real_releases_are_compared(thousand: Command, registry: Path, sets: Sets) -> None:
    result = compared(thousand, sets, "--max-tokens", 4, "--engine", "transformers")
    assert result.code == 0, result.err
    record: dict[str, Any] = json.loads((registry / "second" / "comparison.json").read_text())
    assert record["candidate"]["sampling"]["temperature"] == 0.3
    assert record["current"]["sampling"]["temperature"] == 0.7
