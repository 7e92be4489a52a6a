"""Constraint following: every check of the set tells a good answer from a bad one, and loose is looser than strict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assistant import release
from assistant.settings import bundled
from tests.answering import answering
from tests.chatting import chatting, completion
from tests.conftest import Command


def rows(out: str) -> dict[str, str]:
    """The measures of a table: the last system's value of each."""
    found = {}
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if len(cells) > 1:
            found[cells[0]] = cells[-1]
    return found


@pytest.fixture
def constraints(thousand: Command, registry: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """`thousand evaluate constraints` with a chat model that says what it is told to; its measures."""
    answering(monkeypatch, first=lambda prompt: "no")

    def run(says: Callable[[str], str], *options: object) -> dict[str, str]:
        with chatting(lambda asked: completion(says(asked))) as server:
            result = thousand("evaluate", "constraints", "--endpoint", server.url, *options)
        assert result.code == 0, result.err
        return rows(result.out)

    return run


def written(kind: str) -> Callable[[str], str]:
    """The answers of one kind (`good` or `bad`) that were written to try the checks that come along."""
    lines = (bundled("dialogues") / "constraints_test.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = {line["id"]: line["messages"][-1]["content"] for line in map(json.loads, lines)}
    tried = map(json.loads, (Path(__file__).parent / "constraint_answers.jsonl").read_text("utf-8").splitlines())
    answers = {prompts[line["id"]]: line[kind] for line in tried}
    assert len(answers) == len(prompts) == 100
    return lambda asked: answers.get(asked, "Hello")


def test_every_check_that_comes_along_tells_a_good_answer_from_a_bad_one(
    constraints: Callable[..., dict[str, str]],
) -> None:
    good = constraints(written("good"))
    assert (good["prompts"], good["prompts_strict"], good["checks_loose"]) == ("100", "1 [0.963, 1]", "1 [0.963, 1]")
    assert constraints(written("bad"))["prompts_strict"] == "0 [0, 0.037]"
    assert release.read(release.path("first")).scores["constraints"]["prompts"] == 100


def test_how_many_were_asked_a_test_set_is_told_and_of_dev_and_own_sets_nothing(
    thousand: Command, registry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch, first=lambda prompt: "no", second=lambda prompt: "yes")
    told = "constraints: {} answered this test set here. Choose by the dev prompts"
    first, second = (
        ("evaluate", "constraints", "--release", "first"),
        ("evaluate", "constraints", "--release", "second"),
    )
    for command, said in ((first, "1 system has"), (second, "2 systems have"), (first, "2 systems have")):
        assert told.format(said) in thousand(*command).out
    own = write(tmp_path / "own.jsonl", ("Say yes.", {"must_include": ["yes"]}))
    for command in ((*first, "--prompts", own), ("evaluate", "dev", "--release", "first")):
        assert "answered this test set here" not in thousand(*command).out
    assert thousand("evaluate", "report", "first").code == 0
    assert told.format("2 systems have") in (release.path("first") / "report.md").read_text(encoding="utf-8")


def write(file: Path, *lines: tuple[str, dict[str, Any] | None]) -> Path:
    asked = [
        {"messages": [{"role": "user", "content": text}], **({"checks": checks} if checks else {})}
        for text, checks in lines
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in asked), encoding="utf-8")
    return file


def test_loosely_an_opening_a_closing_and_asterisks_do_not_count(
    constraints: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    answers = {
        "opening": "Sure, here it is:\nyes",
        "closing": "yes\nI hope this helps!",
        "both": "Sure:\n**yes**\nBye",
        "neither": "no",
        "apart": "Sure:\nyes no",
    }
    word = {"regex": r"\Ayes\Z"}
    file = write(
        tmp_path / "mine.jsonl",
        ("opening", word),
        ("closing", word),
        ("both", word),
        ("neither", word),
        ("apart", {"regex": r"\Ayes no\Z", "min_words": 3}),
        ("free", None),
    )
    found = constraints(lambda asked: answers.get(asked, "Hello"), "--prompts", file)
    assert found["prompts"] == "5", "a prompt without checks is not asked"
    assert found["prompts_strict"] == "0 [0, 0.434]"
    assert found["prompts_loose"].startswith("0.8 "), "each check may hold in another form of the answer"
    assert found["checks_strict"].startswith("0.1 ")
    assert found["checks_loose"].startswith("0.8 ")
    assert found["regex loose"].startswith("0.8 ")
    assert found["min_words strict"] == "1 [0.206, 1] of 1"


def test_silence_keeps_no_rule(constraints: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", ("go", {"not_contains": ["x"], "max_words": 3}))
    found = constraints(lambda asked: "", "--prompts", file)
    assert found["checks_strict"] == found["checks_loose"] == found["max_words loose"] == "0 [0, 0.793]"


def test_prompts_without_any_check_cannot_be_measured(thousand: Command, registry: Path, tmp_path: Path) -> None:
    result = thousand("evaluate", "constraints", "--prompts", write(tmp_path / "mine.jsonl", ("go", None)))
    assert result.code == 1
    assert "holds no prompt that can be measured here" in result.err
