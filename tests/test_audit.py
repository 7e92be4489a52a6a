"""`thousand data audit`: each rule finds its fault in the line where it stands, and nothing in a good line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from train.data.audit import RULES

pytestmark = pytest.mark.usefixtures("real_home")

FILLER = (
    "why is the sky blue in the morning but not at night?",
    "teach my daughter to ride a bicycle please",
    "best way of storing fresh basil",
    "explain compound interest to somebody who hates numbers",
)


def line(answer: str = "It is so, as far as anybody can tell.", prompt: str = "Is it?", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], **more}


def write(file: Path, *lines: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(item) + "\n" for item in lines), encoding="utf-8")
    return file


FAULTS = {
    "checks": line("Four words stand here.", checks={"max_words": 3}),
    "fence": line("So:\n```python\nprint(1)"),
    "fence-language": line("So:\n\n```\nprint(1)\n```"),
    "markdown": line("| a | b |\n| 1 | 2 |"),
    "numbering": line("1. One\n2. Two\n4. Four"),
    "heading": line("# A title\n\nAnd a line."),
    "control-character": line("A zero\u200bwidth space."),
    "special-token": line("It ends with <|im_end|> there."),
    "white-space": line("A line. \nAnother."),
    "unfinished": line("First the flour, then the"),
    "banned-opening": line("Certainly! It is so."),
    "banned-phrase": line("It is so. I hope this helps."),
    "first-person": line("It rains a lot. When I was a student it rained all summer."),
    "unseen": line("It is explained at https://example.org/page."),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_finds_its_fault_in_its_line(thousand: Command, tmp_path: Path, rule: str) -> None:
    file = write(tmp_path / "mine.jsonl", line("Quite.", FILLER[0]), FAULTS[rule])
    result = thousand("data", "audit", file)
    found = [text for text in result.out.splitlines() if text.startswith(str(tmp_path))]
    assert [text.split(": ")[:2] for text in found] == [[f"{file}:2", rule]]
    is_error = next(entry.level for entry in RULES if entry.name == rule) == "error"
    assert result.code == int(is_error)


@pytest.mark.parametrize(
    "answer",
    [
        "3. The last digits repeat.",
        "In 1986. It was a year like others.\n1. One\n2. Two",
        "4. Four\n5. Five",
        "1. A\n   1. x\n   2. y\n2. B",
        'She wrote "when I was a child", and meant it.',
        "`let me know if` is what it prints.\n\n```sh\n# a comment\necho '**'\n```",
        "> ```python\n> print(1)\n> ```",
        "Emoji: 👩‍👩‍👧 🩷 🏴󠁧󠁢󠁥󠁮󠁧󠁿, Persian: می‌خواهم, Arabic: \u200fنعم, and a\ttab.",
        "| a | b |\n|---|---|\n| 1 \\| 2 | |",
        "|x| < 3 means that x lies between, and 2**10 is 1024.",
        "SELECT name FROM users;",
        "Great-tailed grackles eat what they find.",
        "Write <s>old price</s> in HTML.",
    ],
)
def test_what_only_looks_like_a_fault_is_left_alone(thousand: Command, tmp_path: Path, answer: str) -> None:
    file = write(tmp_path / "mine.jsonl", line(answer))
    result = thousand("data", "audit", file)
    assert (result.code, str(file) in result.out) == (0, False), result.out


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ("numbering", "1. One\n1. Two"),
        ("fence", "So:\n```sh\nls\n```python"),
        ("control-character", "So:\r```sh\rls\r```"),
        ("banned-phrase", "> quoted\n\nI hope this helps."),
        ("banned-phrase", "Don\u2019t hesitate to ask."),
        ("banned-opening", "I\u2019m sorry, but I can\u2019t help with that."),
        ("banned-opening", "Thank you for reaching out! It is so."),
        ("unfinished", "Here are the steps:"),
        ("unfinished", "步骤如下，"),
        ("markdown", "A **bold word."),
    ],
)
def test_a_fault_in_another_form_is_found_too(thousand: Command, tmp_path: Path, rule: str, answer: str) -> None:
    file = write(tmp_path / "mine.jsonl", line(answer))
    assert f"{file}:1: {rule}: " in thousand("data", "audit", file).out


def test_duplicates_exact_near_and_in_meaning_name_both_lines(thousand: Command, tmp_path: Path) -> None:
    story = "The ferry leaves at six from the north pier and comes back at nine when the tide is high enough to land"
    file = write(
        tmp_path / "a: b.jsonl",
        line("One.", "What's the capital of Australia?"),
        line("Two.", " what\u2019s the capital  of australia"),
        line(story, FILLER[1]),
        line(story.replace("six", "seven") + ".", FILLER[2]),
        line("Five.", "How do I keep my basil fresh for longer?"),
        line("Six.", "How can I keep basil fresh longer?"),
        line("七。", "请问你们的退货政策是什么？我上周买的鞋子有问题。"),
        line("八。", "请问你们的退货政策是什么呢？我上周买的鞋子有点问题。"),
    )
    result = thousand("data", "audit", file)
    found = {
        tuple(text.split(f"{file}:")[1].split(": ")[:2]): text for text in result.out.splitlines() if str(file) in text
    }
    assert result.code == 1
    assert found["2", "duplicate-prompt"].endswith(f"that of {file}:1")
    assert f"that of {file}:3" in found["4", "near-duplicate-answer"]
    assert f"that of {file}:5" in found["6", "similar-prompt"]
    assert f"that of {file}:7" in found["8", "near-duplicate-prompt"]


def test_different_signs_are_different_prompts(thousand: Command, tmp_path: Path) -> None:
    prompts = ("C++?", "C#?", "C?", "What is 7+5?", "What is 7-5?", "👍", "🎉")
    lines = [line(f"Answer {word}.", prompt) for word, prompt in zip("pqrstuv", prompts, strict=True)]
    assert (
        "duplicate-prompt"
        not in thousand("data", "audit", write(tmp_path / "mine.jsonl", *lines)).out.split(" rule ")[0]
    )


def test_a_thousand_equal_answers_are_a_thousand_findings_and_no_more(thousand: Command, tmp_path: Path) -> None:
    lines = [line("You're welcome!", f"thanks {number} {FILLER[number % 4]}") for number in range(300)]
    result = thousand("data", "audit", write(tmp_path / "mine.jsonl", *lines))
    assert result.out.count(": duplicate-answer: ") == 299


def test_checks_are_not_tried_on_an_earlier_answer(thousand: Command, tmp_path: Path) -> None:
    asks_again = line("Rome is the capital of Italy.", "Capital of Italy?", checks={"max_words": 2})
    asks_again["messages"].append({"role": "user", "content": "In two words?"})
    assert thousand("data", "audit", write(tmp_path / "mine.jsonl", asks_again)).code == 0


def test_an_opening_used_too_often_is_one_finding(thousand: Command, tmp_path: Path) -> None:
    lines = [
        line(f"The short answer number {word} is enough.", prompt) for word, prompt in zip("abcd", FILLER, strict=True)
    ]
    result = thousand("data", "audit", write(tmp_path / "mine.jsonl", *lines))
    assert result.out.count("opening: 'the short answer' opens 4 of 4 answers") == 1


def test_contamination_names_the_held_out_line(thousand: Command, tmp_path: Path) -> None:
    write(
        tmp_path / "test.jsonl",
        {"messages": [{"role": "user", "content": FILLER[3]}]},
        {"messages": [{"role": "user", "content": "tacos or ramen?"}]},
    )
    inside = "A friend of mine asked me to explain compound interest to somebody who hates numbers, and I could not."
    file = write(tmp_path / "train.jsonl", line("Lend it.", inside), line("Ramen.", "Tacos or ramen?"))
    result = thousand("data", "audit", tmp_path)
    held_out = tmp_path / "test.jsonl"
    assert f"{file}:1: contamination: " in result.out
    assert f"in common with {held_out}:1" in result.out
    assert f"{file}:2: contamination: its prompt says the same as that of {held_out}:2" in result.out
    assert result.code == 1


def test_a_file_of_ones_own_is_compared_with_the_held_out_sets_that_come_along(
    thousand: Command, tmp_path: Path
) -> None:
    test_set = Path(__file__).parent.parent / "data" / "dialogues" / "test.jsonl"
    prompt = json.loads(test_set.read_text(encoding="utf-8").splitlines()[9])["messages"][-1]["content"]
    result = thousand("data", "audit", write(tmp_path / "mine.jsonl", line("No.", prompt)))
    assert "mine.jsonl:1: contamination: " in result.out
    assert "test.jsonl:10" in result.out


def test_an_answer_far_longer_than_the_others_is_a_warning(thousand: Command, tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(400)]
    lines = [line(" ".join(words[n * 11 : n * 11 + 10 + n]) + ".", f"{n} {FILLER[n % 4]} {n}") for n in range(24)]
    lines.append(line(" ".join(f"other{number}" for number in range(300)) + ".", "Everything?"))
    file = write(tmp_path / "mine.jsonl", *lines)
    result = thousand("data", "audit", file)
    assert f"{file}:25: length: 300 words" in result.out


def test_lines_that_cannot_be_read_are_findings_beside_the_others_and_nothing_is_rewritten(
    thousand: Command, tmp_path: Path
) -> None:
    file = tmp_path / "mine.jsonl"
    good, twice = line(id="a", prompt="Once?"), line("Certainly! Twice.", "Twice?", id="a")
    raw = (
        b"\xef\xbb\xbf"
        + b"\r\n".join([json.dumps(good).encode(), b'{"messages": "\xff"}', b"", json.dumps(twice).encode()])
        + b"\n"
        + json.dumps(line(checks={"max_word": 1})).encode()
        + b"\n"
        + b'{"x": "'
        + b"y" * 50_000_000
        + b'"}\n'
    )
    file.write_bytes(raw)
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    result = thousand("data", "audit", file, empty)
    expected = [
        f"{file}:2: schema: not UTF-8",
        f"{file}:4: schema: id 'a' is already used at {file}:1",
        f"{file}:4: banned-opening: ",
        f"{file}:5: schema: checks.max_word: unknown field",
        f"{file}:6: schema: the line has 50.0 MB",
        f"{empty}: schema: holds no dialogue",
    ]
    found = [text for text in result.out.splitlines() if text.startswith(str(tmp_path))]
    assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected
    assert result.code == 1
    assert file.read_bytes() == raw


def test_a_missing_source_is_one_sentence(thousand: Command, tmp_path: Path) -> None:
    result = thousand("data", "audit", tmp_path / "nowhere", tmp_path)
    assert result.code == 1
    assert "nowhere: there is no such file or folder" in result.err
    assert "the folder holds no .jsonl file" in result.err


def test_scripted_conversations_and_safety_prompts_are_read_as_what_they_are(thousand: Command, tmp_path: Path) -> None:
    write(tmp_path / "multiturn_test.jsonl", {"turns": [{"user": "Hi", "checks": {"max_word": 3}}]}, {"turns": []})
    write(
        tmp_path / "safety_test.jsonl",
        {
            "messages": [{"role": "user", "content": "bad"}],
            "implied": True,
            "checks": {"max_words": 2},
            "safe_answer": "No, I will not.",
        },
    )
    result = thousand("data", "audit", tmp_path)
    assert (
        "multiturn_test.jsonl:1: schema: turns[0].checks.max_word: unknown field; known are contains_any" in result.out
    )
    assert "multiturn_test.jsonl:2: schema: turns: " in result.out
    assert "safety_test.jsonl:1: checks: the answer fails max_words = 2" in result.out
