"""The data set that comes along is what its card and the guide to it say."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from assistant import base_model
from assistant.settings import bundled
from assistant.template import Template
from tests.conftest import Command
from train.data.corpus import Entry, files_of, read_corpus

SINGLE = {"stem": 200, "general": 200, "howto": 200, "writing": 150, "tasks": 50, "assistant": 200}
OTHERS = {"chains": 30, "dev": 50, "test": 300, "multiturn_test": 40, "safety_test": 30, "constraints_test": 100}


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    problems: list[str] = []
    found = read_corpus(files_of([bundled("dialogues")]), problems)
    assert problems == []
    return found


def test_the_audit_finds_nothing(thousand: Command, real_home: Path) -> None:
    result = thousand("data", "audit")
    assert result.code == 0, result.out
    assert "0 errors and 0 warnings in 1,550 lines of 12 files" in result.out


def test_every_file_has_its_number_of_lines(entries: list[Entry]) -> None:
    assert Counter(entry.file for entry in entries) == {**SINGLE, **OTHERS}


def test_the_answers_have_the_length_the_guide_asks_for_and_the_card_says(
    entries: list[Entry], real_home: Path
) -> None:
    tokenizer = Template.load(base_model.resolve(base_model.EMBEDDED, lambda line: None).folder).tokenizer
    answers = [entry.answers[-1] for entry in entries if entry.file in SINGLE]
    tokens = sum(len(tokenizer.encode(answer, add_special_tokens=False).ids) for answer in answers)
    assert 150_000 <= tokens <= 260_000
    assert max(len(answer.split()) for answer in answers) <= 260
    assert 1 / 7 < sum(len(answer.split()) < 40 for answer in answers) / len(answers) < 1 / 5
    card = (bundled("dialogues") / "README.md").read_text(encoding="utf-8")
    assert f"have {tokens:,} together" in card


def test_constraints_system_messages_and_dialogue_lengths(entries: list[Entry]) -> None:
    assert sum(entry.checks is not None for entry in entries if entry.file in SINGLE) >= 200
    assert sum(entry.system is not None for entry in entries if entry.file in SINGLE) >= 40
    assert all(2 <= len(entry.prompts) <= 10 for entry in entries if entry.file == "chains")
    assert all(3 <= len(entry.prompts) <= 6 for entry in entries if entry.file == "multiturn_test")


def test_the_safety_prompts_say_where_the_malice_is_only_implied() -> None:
    lines = (bundled("dialogues") / "safety_test.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(line)["implied"] for line in lines) == 10


def test_the_card_says_how_it_was_written(entries: list[Entry]) -> None:
    card = (bundled("dialogues") / "README.md").read_text(encoding="utf-8")
    assert "written and reviewed with a language model" in card
    listed = {name: int(n) for name, n in re.findall(r"^\| `(\w+)\.jsonl` \| (\d+) \|", card, re.MULTILINE)}
    assert listed == {**SINGLE, **OTHERS}
