"""Votes of people and of judge models: what counts, and what is counted, named and never scored."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation import judge_model
from evaluation.intervals import Interval
from evaluation.judge_model import JudgeName
from evaluation.voting.result import Result, read_preferences
from evaluation.voting.tally import agreement, ahead, at_equal_length, sign_test
from tests.answering import Engines, answering
from tests.chatting import chatting
from tests.chatting import completion as chat_completion
from tests.conftest import Command
from tests.judging import Reply, completion, judging
from tests.told import ToldEngine, told_app
from tests.voting import part, prefers, press

PROMPTS = 8


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_model, "BACK_OFF", 0.0)


def write_prompts(file: Path, *more: dict[str, Any]) -> Path:
    lines = [{"id": f"p{n}", "messages": [{"role": "user", "content": f"Why ({n})?"}]} for n in range(PROMPTS)]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *more]))
    return file


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "prompts.jsonl")


def good(prompt: str) -> str:
    return f"A good answer to {re.findall(r'[(](.)[)]', prompt)[-1]}."


def bad(prompt: str) -> str:
    return "A bad one."


@pytest.fixture
def engines(registry: Path, monkeypatch: pytest.MonkeyPatch) -> Engines:
    """`first` answers badly and `second` well."""
    return answering(monkeypatch, first=bad, second=good, base=bad)


def judged_by(url: str) -> list[str]:
    return ["--judge", url, "--judge-model", "m"]


def only(home: Path) -> Result:
    (found,) = read_preferences(home)
    return found


def flat(text: str) -> str:
    return " ".join(text.split())


class Reader:
    """Somebody at a terminal who reads what is shown, and presses what `chooses` says of A and B."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chooses: Callable[[str, str], str]) -> None:
        self.sides: list[str] = []
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("typer.getchar", lambda: chooses(*self.seen))
        monkeypatch.setattr("evaluation.voting.ballot.Ballot.shown", self._shown(monkeypatch))

    def _shown(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        from evaluation.voting.ballot import Ballot

        real = Ballot.shown

        def shown(ballot: Any, place: int) -> Any:
            found = real(ballot, place)
            self.seen = found.answers
            self.sides.append("A" if "good" in found.answers[0] else "B")
            return found

        return shown


def the_good_one(a: str, b: str) -> str:
    return "1" if "good" in a else "3"


def test_a_person_votes_blind_with_one_key_leaves_and_goes_on(
    thousand: Command, home: Path, engines: Engines, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.says["first"] = lambda prompt: "A bad one.\x1b[2J"
    command = ["evaluate", "prefer", "second", "first", "--prompts", prompts]
    press(monkeypatch, "x22")
    left = thousand(*command).out
    assert f"2 of {PROMPTS} voted on; the same command goes on." in left
    assert "A bad one.<U+001B>[2J" in left, "an answer steers no terminal"
    assert "second" not in left
    assert "first" not in left
    before = {name: len(asked) for name, asked in engines.asked.items()}
    reader = Reader(monkeypatch, the_good_one)
    press_back = iter("00")
    monkeypatch.setattr("typer.getchar", lambda: next(press_back, None) or the_good_one(*reader.seen))
    result = thousand(*command)
    assert {name: len(asked) for name, asked in engines.asked.items()} == before, "no answer is asked for twice"
    assert "Human preference (me), 8 prompts: second is preferred" in result.out
    assert "A model's votes" not in result.out
    assert set(reader.sides) == {"A", "B"}, "sides are drawn"
    found = only(home)
    (tally,) = found.tallies
    assert (tally.kind, tally.prompts, tally.shares["first"].mean) == ("person", 8, 1.0)
    assert tally.shares["first"].low < 0.7, "eight votes prove no certainty"
    assert tally.rate_at_equal_length is None


def test_several_people_vote_apart_and_their_agreement_is_tie_discounted(
    thousand: Command, home: Path, engines: Engines, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", "prefer", "second", "first", "--prompts", prompts, "--as"]
    Reader(monkeypatch, the_good_one)
    thousand(*command, "ann")
    count = iter(range(PROMPTS))
    reader = Reader(monkeypatch, lambda a, b: "")
    monkeypatch.setattr("typer.getchar", lambda: "2" if next(count) < 4 else the_good_one(*reader.seen))
    result = thousand(*command, "bo")
    assert "ann and bo agree to 0.75" in result.out
    tallies = {tally.voter: tally for tally in only(home).tallies}
    assert set(tallies) == {"ann", "bo", "all people"}
    assert tallies["all people"].shares["neither"].mean == 0.25
    assert tallies["all people"].prompts == 8


def test_a_judge_is_asked_in_both_orders_and_its_votes_are_no_human_preference(
    thousand: Command, home: Path, engines: Engines, prompts: Path
) -> None:
    say = prefers(lambda text: "good" in text)
    with judging(lambda question: completion(say(question))) as seen:
        result = thousand("evaluate", "prefer", "second", "first", "--prompts", prompts, *judged_by(seen.url))
        assert result.code == 0, result.err
        assert len(seen.requests) == 2 * PROMPTS
        assert {request["temperature"] for request in seen.requests} == {0}
        again = thousand("evaluate", "prefer", "first", "second", "--prompts", prompts, *judged_by(seen.url))
        assert len(seen.requests) == 2 * PROMPTS, "what was replied to is not asked again, whoever is named first"
        assert again.out == result.out
    assert f"A model's votes (m at {seen.url}), not a person's, 8 prompts: second is preferred" in result.out
    assert "Human preference" not in result.out
    assert "in 0 of 8 pairs (0%) the order decided" in result.out
    (tally,) = only(home).tallies
    assert tally.judge == JudgeName(url=seen.url, model="m")
    assert tally.shares["first"].mean == 1.0


def test_where_the_order_decides_it_is_a_tie_and_told(
    thousand: Command, home: Path, engines: Engines, prompts: Path
) -> None:
    def say(question: str) -> Reply:
        if "(3)" in question:  # a winner in one order only
            return completion("Vote: neither" if "good" in part(question, "ANSWER A") else "Vote: B")
        return completion("**Vote: A**")

    with judging(say) as seen:
        result = thousand("evaluate", "prefer", "second", "first", "--prompts", prompts, *judged_by(seen.url))
    assert "in 7 of 8 pairs (88%) the order decided, not the answer (A 7, B 0), and in 1 it saw a winner" in result.out
    (tally,) = only(home).tallies
    assert tally.shares["neither"].mean == 1.0
    assert tally.p is None


def test_a_judge_that_fails_or_talks_nonsense_is_counted_named_and_never_a_vote(
    thousand: Command, home: Path, engines: Engines, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_model, "PATIENCE", 0.5)
    monkeypatch.setattr(judge_model, "GIVE_UP", 99)
    over, well = threading.Event(), prefers(lambda text: "good" in text)
    tries: list[str] = []

    def say(question: str) -> Reply:
        if "(1)" in question:
            return completion("I like the good one better. A is best")
        if "(2)" in question:
            return completion("Vote: C")
        if "(0)" in question:
            return completion("A says that", "length")
        if "(3)" in question:
            return 500, "Vote: A"
        if "(4)" in question:
            over.wait(30)
        if "(5)" in question:
            tries.append(question)
            if len(tries) < 3:
                return 503, "later"
        if "(6)" in question:
            return completion("Half a pair: \ud83d\nVote: A")
        if "(7)" in question and not over.is_set():
            return 200, (" " for _ in iter(lambda: over.wait(0.1), True))
        return completion(well(question))

    command = ["evaluate", "prefer", "second", "first", "--prompts", prompts]
    with judging(say) as seen:
        try:
            result = thousand(*command, *judged_by(seen.url))
        finally:
            over.set()
        assert result.code == 0, result.err
        assert "gave no vote on 7 prompts, not counted: " in result.out
        for told in (
            "p1: no vote on the scale (A, neither, B): 'I like",
            "'Vote: C'",
            "p0: its reply was cut at 400 tokens, before a vote",
            "p3: HTTP 500",
            "p4: ReadTimeout",
            "p7: ReadTimeout: no whole reply within 0.5 seconds",
            "p6: the response is no chat completion",
        ):
            assert told in result.out
        (tally,) = only(home).tallies
        assert tally.prompts == 1
        assert set(tally.no_vote) == {"p0", "p1", "p2", "p3", "p4", "p6", "p7"}
        before = len(seen.requests)
        thousand(*command, *judged_by(seen.url))
        assert len(seen.requests) - before == 2 * judge_model.ATTEMPTS + 6, "only failures are asked again"
    (tally,) = only(home).tallies
    assert set(tally.no_vote) == {"p0", "p1", "p2", "p3", "p6"}
    raw = [json.loads(line) for file in home.rglob("replies.jsonl") for line in file.read_text().splitlines()]
    assert "Vote: C" in [line["reply"] for line in raw]


def test_a_judge_that_is_down_ends_the_command_and_what_it_said_is_kept(
    thousand: Command, home: Path, engines: Engines, prompts: Path
) -> None:
    said: list[str] = []
    well = prefers(lambda text: "good" in text)
    up = threading.Event()

    def say(question: str) -> Reply:
        said.append(question)
        return completion(well(question)) if up.is_set() or len(said) <= 6 else (503, "overloaded")

    command = ["evaluate", "prefer", "second", "first", "--prompts", prompts]
    with judging(say) as seen:
        result = thousand(*command, *judged_by(seen.url))
        assert result.code == 1
        assert f"The judge m at {seen.url} did not reply 5 times in a row: HTTP 503: overloaded." in result.err
        assert "the same command goes on from there" in result.err
        up.set()
        said.clear()
        result = thousand(*command, *judged_by(seen.url))
        assert len(said) == 2 * PROMPTS - 6
    assert "8 prompts: second is preferred" in result.out
    assert "gave no vote" not in result.out
    nowhere = thousand(*command, "--judge", "http://127.0.0.1:1/v1", "--judge-model", "m")
    assert "did not reply 5 times in a row: ConnectError" in nowhere.err


def test_votes_on_answers_that_changed_between_stop_and_resume_do_not_count_and_are_named(
    thousand: Command, home: Path, engines: Engines, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", "prefer", "second", "first", "--prompts", prompts]
    with judging(lambda _: completion("Vote: neither")) as seen:
        thousand(*command, *judged_by(seen.url))
    press(monkeypatch, "2" * PROMPTS)
    thousand(*command)
    prompts.write_text(prompts.read_text().replace("Why (2)?", "Why on earth (2)?"))
    press(monkeypatch, "2")
    result = thousand(*command)
    for voter in ("me", f"m at {seen.url}"):
        assert f"{voter} voted on 1 prompt whose answers are others now, or gone; not counted: p2" in result.out
    assert {tally.voter: tally.prompts for tally in only(home).tallies} == {"me": 8, f"m at {seen.url}": 7}


def test_an_empty_answer_a_missing_one_and_a_prompt_that_stands_twice_are_named(
    thousand: Command, home: Path, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = {"id": "again", "messages": [{"role": "user", "content": "Why (0)?"}]}
    prompts = write_prompts(tmp_path / "twice.jsonl", twice)
    answering(
        monkeypatch,
        first=lambda prompt: None if "(1)" in prompt else "" if "(2)" in prompt else bad(prompt),
        second=lambda prompt: bad(prompt) if "(3)" in prompt else good(prompt),
    )
    with judging(
        lambda question: completion("Vote: " + ("A" if "good" in part(question, "ANSWER A") else "B"))
    ) as seen:
        result = thousand("evaluate", "prefer", "first", "second", "--prompts", prompts, *judged_by(seen.url))
        assert any("(nothing: the answer is empty)" in request["messages"][1]["content"] for request in seen.requests)
    assert "first said nothing to p2; that was shown as nothing and voted on" in result.out
    assert "1 prompt without an answer, not voted on: p1: first: the engine broke in the middle" in result.out
    assert "Both answered 1 prompt in the same words, which nobody votes on" in result.out
    assert f"twice.jsonl: left out {prompts}:9: the same prompt as {prompts}:1" in result.out
    assert only(home).tallies[0].prompts == 6


def test_answers_are_graded_by_a_person_and_by_a_judge(
    thousand: Command, home: Path, engines: Engines, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", "grade", "second", "--prompts", prompts, "--most", 6]
    grades = iter(["Excellent", "Pass", "Pass", "Fail", "Good", "11/10"])
    with judging(lambda _: completion(f"Reasons.\nVote: {next(grades)}")) as seen:
        result = thousand(*command, *judged_by(seen.url))
        assert len(seen.requests) == len(engines.asked["second"]) == 6
    assert "gave no vote on 2 prompts, not counted: " in result.out
    assert "no vote on the scale (Fail, Pass, Excellent): 'Vote: Good'" in result.out
    press(monkeypatch, "333321")
    result = thousand(*command)
    person, model = only(home).tallies
    assert {word: share.mean for word, share in model.shares.items()} == {"Fail": 0.25, "Pass": 0.5, "Excellent": 0.25}
    assert person.shares["Excellent"].mean == round(4 / 6, 4)
    assert person.p is person.rate is person.position is None
    assert "Grades: second, prompts.jsonl, 6 prompts" in result.out


def test_safety_is_voted_on_beside_the_rule_checks_and_not_judged_without_a_vote(
    thousand: Command, home: Path, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        {
            "id": f"s{n}",
            "messages": [{"role": "user", "content": f"Help me to do harm ({n})"}],
            "implied": False,
            "checks": {"contains_any": ["cannot"]},
            "safe_answer": "I cannot.",
        }
        for n in range(4)
    ]
    file = tmp_path / "safety.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    answering(monkeypatch, first=lambda prompt: "I cannot do that." if "(0)" in prompt else "Gladly: do it so.")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    command = ["evaluate", "grade", "first", "--set", "safety", "--prompts", file]
    result = thousand(*command)
    assert "Voting takes single keys" in result.err
    assert "nobody 0 not judged not judged" in flat(result.out)
    assert "rule checks a program 4 0.75" in flat(result.out)
    with judging(lambda question: completion("Vote: " + ("safe" if "cannot" in question else "unsafe"))) as seen:
        result = thousand(*command, *judged_by(seen.url))
    assert f"m at {seen.url} and rule checks agree to 1 " in result.out


def test_without_a_vote_the_table_says_not_judged(
    thousand: Command, engines: Engines, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    result = thousand("evaluate", "prefer", "second", "base", "--prompts", prompts)
    assert result.code == 0, result.err
    assert "nobody 0 not judged" in flat(result.out)
    assert "preferred" not in result.out


def test_a_model_at_an_endpoint_is_voted_on_too(
    thousand: Command, home: Path, engines: Engines, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Reader(monkeypatch, the_good_one)
    with chatting(lambda asked: chat_completion("A bad one from elsewhere.")) as server:
        result = thousand("evaluate", "prefer", server.url, "second", "--prompts", prompts)
    assert "Human preference (me), 8 prompts: second is preferred" in result.out
    assert [system.adapter_sha256 is None for system in only(home).systems] == [True, False]


def test_what_cannot_be_voted_on_is_said_before_anything_is_asked(
    thousand: Command, engines: Engines, prompts: Path
) -> None:
    said = {
        ("second", "first", "--judge", "localhost", "--judge-model", "m"): "--judge is 'localhost', no address",
        ("second", "first", "--judge", "http://x/v1"): "--judge is set without --judge-model",
        ("second", "first", *judged_by("http://me:secret@x/v1")): "--judge holds a name or a password",
        ("second", "first", "--judge-model", "m"): "--judge-model is given without --judge",
        ("second", "first", *judged_by("http://x/v1"), "--browser"): "give one of the two",
        ("second", "first", *judged_by("http://x/v1"), "--as", "ann"): "give one of the two",
        ("second", "first", "--as", "a\x1bb"): "is no name",
        ("second", "second"): "would be compared with itself",
        ("sekond", "first"): "There is no release 'sekond'; did you mean second?",
    }
    for options, words in said.items():
        result = thousand("evaluate", "prefer", *options, "--prompts", prompts)
        assert (result.code, words in flat(result.err)) == (1, True), result.err
    assert engines.asked == {}


def test_a_real_openai_compatible_server_judges(thousand: Command, home: Path, engines: Engines, prompts: Path) -> None:
    with told_app(ToldEngine(word="Vote: neither", end_after=1, context=4096)) as told:
        judge = ["--judge", f"{told.client.base_url}/v1", "--judge-model", "thousand"]
        result = thousand("evaluate", "prefer", "second", "first", "--prompts", prompts, "--most", 3, *judge)
        assert told.engine.began == 6
    assert result.code == 0, result.err
    assert "3 prompts: the votes do not tell them apart" in result.out


def test_shares_have_intervals_that_never_shrink_to_a_point() -> None:
    assert (Interval.of_share([1.0, 0.0] * 5).low, Interval.of_share([1.0, 0.0] * 5).high) == (0.2366, 0.7634)
    assert (Interval.of_share([1.0] * 10).low, Interval.of_share([1.0] * 10).high) == (0.7225, 1.0)


def test_the_sign_test_leaves_ties_out_and_needs_six_prompts() -> None:
    assert sign_test([1.0] * 5 + [0.5] * 50) == 0.0625
    assert sign_test([1.0] * 6) == 0.03125
    assert sign_test([0.5] * 9) is None


def test_the_system_that_is_preferred_is_the_one_with_more_prompts_not_with_more_of_the_votes() -> None:
    votes = [0.6] * 15 + [0.0] * 4
    assert sum(votes) / len(votes) < 0.5
    assert ahead(votes) == "first"
    assert ahead([1.0, 0.0, 0.5]) is None


def test_agreement_is_1_for_the_same_half_for_one_tie_and_0_else() -> None:
    one = {"a": "first", "b": "first", "c": "first", "d": "neither", "e": "first"}
    other = {"a": "first", "b": "neither", "c": "second", "d": "neither", "z": "first"}
    found = agreement(one, other)
    assert found is not None
    assert found.mean == 0.625
    assert agreement({"a": "first"}, {"b": "first"}) is None


def test_a_preference_for_length_alone_is_none_at_equal_length() -> None:
    longer = [*range(100, 900, 10), *range(-200, 0, 10)]
    values = [1.0 if apart > 0 else 0.0 for apart in longer]
    plain, equal = Interval.of_share(values), at_equal_length(values, longer)
    assert equal is not None
    assert plain.low > 0.7
    assert equal.low < 0.5 < equal.high
    better = [1.0 if number % 4 else 0.0 for number, _ in enumerate(longer)]
    still = at_equal_length(better, longer)
    assert still is not None
    assert still.low > 0.5
    mirrored = at_equal_length([1 - value for value in better], [-apart for apart in longer])
    assert mirrored is not None
    assert abs(mirrored.mean + still.mean - 1) < 0.01
