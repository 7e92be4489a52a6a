"""The judge: grades that it gave, and failures that are never taken for grades."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from assistant import settings
from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from evaluation import judge_model
from evaluation.dev import Answer
from evaluation.judge import grade_all, read_grade
from evaluation.judge_model import Judge, from_settings
from tests.judging import Reply, completion, judging


def answer(text: str) -> Answer:
    prompt = Dialogue.model_validate(
        {
            "id": text,
            "messages": [{"role": "user", "content": f"ask {text}"}, {"role": "assistant", "content": "the reference"}],
        }
    )
    return Answer(prompt, text, 3, True, ())


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_model, "BACK_OFF", 0.0)


def test_truth_9_a_judge_that_fails_is_counted_as_failed_never_as_a_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_model, "PATIENCE", 0.5)
    monkeypatch.setattr(judge_model, "GIVE_UP", 99)
    over, tries = threading.Event(), {"flaky": 0}

    def reply(question: str) -> Reply:
        if "ask slow" in question:
            over.wait(30)
        if "ask flaky" in question:
            tries["flaky"] += 1
            if tries["flaky"] < 3:
                return 503, "later"
        if "ask broken" in question:
            return 500, "6"
        if "ask refused" in question:
            return 400, "Grade: 6"
        if "ask other" in question:
            return 200, json.dumps({"grade": 6})
        if "ask chatter" in question:
            return completion("A fine answer, I would give it a 6.")
        if "ask seven" in question:
            return completion("Grade: 7")
        if "ask cut" in question:
            return completion("It would be", "length")
        return completion("It says what to do.\n\n**Grade: 4**")

    asked = ["good", "chatter", "seven", "cut", "broken", "refused", "other", "slow", "flaky"]
    with judging(reply) as seen:
        try:
            grades = grade_all(Judge(seen.url, "m"), [answer(text) for text in asked], tmp_path / "replies.jsonl")
        finally:
            over.set()
        assert dict(zip(asked, grades, strict=True)) == {**dict.fromkeys(asked), "good": 4, "flaky": 4}
        assert {text: seen.about(f"ask {text}") for text in asked} == {
            **dict.fromkeys(asked, 1),
            "broken": judge_model.ATTEMPTS,
            "slow": judge_model.ATTEMPTS,
            "flaky": 3,
        }
        assert seen.paths == {"/v1/chat/completions"}
    kept = lines(tmp_path / "replies.jsonl")
    assert [line["id"] for line in kept] == asked
    assert kept[0] == {"id": "good", "grade": 4, "reply": "It says what to do.\n\n**Grade: 4**", "failure": None}
    assert kept[1]["reply"] == "A fine answer, I would give it a 6."
    assert "cut at 400 tokens" in str(kept[3]["failure"])
    assert "HTTP 500" in str(kept[4]["failure"])
    assert "Timeout" in str(kept[7]["failure"])
    assert all((line["grade"] is None) == (line["failure"] is not None) for line in kept)


def test_a_judge_that_is_down_is_not_waited_for_again_and_again(tmp_path: Path) -> None:
    with judging(lambda _: (503, "")) as seen:
        grades = grade_all(Judge(seen.url, "m"), [answer(str(n)) for n in range(40)], tmp_path / "replies.jsonl")
        assert grades == [None] * 40
        assert len(seen.requests) <= (judge_model.GIVE_UP + judge_model.CONCURRENT) * judge_model.ATTEMPTS
    kept = lines(tmp_path / "replies.jsonl")
    assert len(kept) == 40
    assert "not asked" in str(kept[-1]["failure"])


def test_the_judge_is_asked_a_few_at_once_with_its_key_and_without_the_reference(tmp_path: Path) -> None:
    together = threading.Barrier(judge_model.CONCURRENT)

    def reply(_: str) -> Reply:
        together.wait(20)  # breaks, and fails the request, unless as many as are allowed are on their way
        return completion("Grade: 6")

    count: list[int] = []
    with judging(reply) as seen:
        answers = [answer(str(n)) for n in range(judge_model.CONCURRENT * 2)]
        chosen = Judge(seen.url, "the-model", SecretStr("secret"))
        grades = grade_all(chosen, answers, tmp_path / "replies.jsonl", lambda done, total: count.append(done))
        assert grades == [6] * len(answers)
        assert seen.keys == {"Bearer secret"}
        assert {request["model"] for request in seen.requests} == {"the-model"}
        assert not seen.about("the reference")
    assert count == list(range(1, len(answers) + 1))
    assert "secret" not in (tmp_path / "replies.jsonl").read_text()


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("Grade: 1", 1),
        ("Good.\nGrade: 6/6\n", 6),
        ("Good.\n\n**Grade:** 3.", 3),
        ("grade: 2", 2),
        ("", None),
        ("5", None),
        ("Grade: 0", None),
        ("Grade: 45", None),
        ("Grade: 4.5", None),
        ("Grade: 5\nBut one could argue for less.", None),
        ("Somewhere between Grade: 4 and Grade: 5", None),
    ],
)
def test_a_grade_is_read_from_the_last_line_or_not_at_all(reply: str, grade: int | None) -> None:
    assert read_grade(reply) == grade


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    settings.settings.cache_clear()
    yield monkeypatch
    settings.settings.cache_clear()


def test_the_environment_names_the_judge(environment: pytest.MonkeyPatch) -> None:
    assert from_settings() is None
    settings.settings.cache_clear()
    environment.setenv("THOUSAND_JUDGE_URL", "http://127.0.0.1:1/v1/")
    environment.setenv("THOUSAND_JUDGE_MODEL", "m")
    environment.setenv("THOUSAND_JUDGE_KEY", "k")
    assert from_settings() == Judge("http://127.0.0.1:1/v1", "m", SecretStr("k"))


@pytest.mark.parametrize(
    ("url", "model", "said"),
    [("localhost:8000", "m", "no address"), ("", "m", "no address"), ("http://x/v1", "", "THOUSAND_JUDGE_MODEL")],
)
def test_a_judge_named_in_part_is_refused(environment: pytest.MonkeyPatch, url: str, model: str, said: str) -> None:
    environment.setenv("THOUSAND_JUDGE_URL", url)
    environment.setenv("THOUSAND_JUDGE_MODEL", model)
    with pytest.raises(ThousandError, match=said):
        from_settings()
