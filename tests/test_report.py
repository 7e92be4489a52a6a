"""The report of a release: what was measured stands in it, what was not is named, and what a model said is text."""

import json
from pathlib import Path

import pytest

from assistant import release
from assistant.files import write_text
from assistant.settings import bundled
from evaluation.ablations import RECORD, Ablation, ArmResult, Measure, folder
from evaluation.intervals import Interval
from evaluation.sets import FILES
from tests.answering import answering
from tests.browser import browsing, seen_by_everybody
from tests.conftest import Command
from tests.judging import completion, judging
from tests.voting import prefers

EVIL = "<script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\"> `````` | sorry"


def written(registry: Path) -> tuple[str, str]:
    return (registry / "first/report.html").read_text("utf-8"), (registry / "first/report.md").read_text("utf-8")


def test_a_release_of_which_nothing_was_measured_has_a_report_that_says_so(thousand: Command, registry: Path) -> None:
    assert "no report yet: thousand evaluate report first" in thousand("releases", "show").out
    result = thousand("evaluate", "report")
    assert result.code == 0, result.err
    page, text = written(registry)
    record = release.read(registry / "first")
    for found in (page, text):
        assert record.adapter_sha256 in found
        assert record.base_checksum in found
        for name in ("dev", "constraints", "conversations", "safety"):
            assert f"thousand evaluate {name} --release first" in found
        assert "thousand evaluate compare first" in found
    shown = thousand("releases", "show").out
    assert "its report is report.html" in shown.partition("\n")[0]
    assert json.loads(shown.partition("\n")[2])["name"] == "first"


def test_scores_stand_beside_those_asked_with_it_and_answers_are_chosen_by_rule(
    thousand: Command, registry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(
        monkeypatch, first=lambda prompt: "true" if "spider has eight legs" in prompt else EVIL, base=lambda prompt: "x"
    )
    assert thousand("evaluate", "constraints", "--base").code == 0
    assert thousand("evaluate", "report", "--out", tmp_path / "out").code == 0
    page = (tmp_path / "out/report.html").read_text("utf-8")
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert not (registry / "first/report.html").exists()
    assert (tmp_path / "out/report-scores.png").read_bytes().startswith(b"\x89PNG")
    row = next(line for line in text.splitlines() if line.startswith("| prompts_strict"))
    assert row.count("[") == 2, "the release and the base"
    assert "among the best, passes 100%" in text
    assert text.count("among the worst, passes 0%") == 2
    assert "SHA-256, which is as good as drawing lots" in text
    assert "<script>" not in page
    assert "<script>" in text
    assert "```````text" in text, "the answer cannot end its own code block"
    again = text.partition("\n\n")[2].partition("\n\n")[2]
    assert thousand("evaluate", "report", "--out", tmp_path / "out").code == 0
    assert again in (tmp_path / "out/report.md").read_text("utf-8"), "the same answers are chosen"


def test_votes_stand_in_it_and_where_nobody_voted_it_says_not_judged(
    thousand: Command, registry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch, first=lambda prompt: "good", second=lambda prompt: "bad")
    prompts = tmp_path / "one.jsonl"
    prompts.write_text(json.dumps({"id": "p", "messages": [{"role": "user", "content": "Why?"}]}) + "\n")
    vote = ["evaluate", "prefer", "first", "second", "--prompts", prompts]
    assert thousand(*vote).code == 0
    thousand("evaluate", "report")
    text = written(registry)[1]
    assert "Preference: first against second" in text
    assert "| nobody |" in text
    assert "preference, by a person or a model: not judged" in text
    with judging(lambda question: completion(prefers(lambda answer: answer == "good")(question))) as judge:
        assert thousand(*vote, "--judge", judge.url, "--judge-model", "m").code == 0
    thousand("evaluate", "report")
    text = written(registry)[1]
    assert "A model's votes (" in text
    assert "preference, by a person or a model: not judged" not in text
    file = registry / "first" / release.RECORD
    file.write_text(json.dumps({**json.loads(file.read_text()), "adapter_sha256": "another"}))
    thousand("evaluate", "report")
    text = written(registry)[1]
    assert "A model's votes (" not in text, "they are on another release that had the name"
    assert "preference, by a person or a model: not judged" in text
    assert "grades, by a person or a model: not judged" in text


def test_ablations_on_the_same_base_stand_in_it(thousand: Command, registry: Path) -> None:
    known = release.read(registry / "first")
    apart = Interval(mean=-0.2, low=-0.3, high=-0.1)
    value = Interval(mean=0.4, low=0.3, high=0.5)
    measured = Measure(set="dev", name="score", prompts=50, value=value, seeds=(0.4,), difference=apart)
    for name, checksum in (("mine", known.base_checksum), ("foreign", "0" * 64)):
        record = Ablation(
            kind="quantity",
            name=name,
            made=release.now(),
            version="1",
            base=known.base,
            base_checksum=checksum,
            budget="one epoch",
            seeds=(0,),
            reference="1000",
            planned=2,
            arms=(ArmResult(name="62", what="62 examples", size=62, trained=(), measures=(measured,)),),
        )
        write_text(folder() / name / RECORD, record.model_dump_json())
    assert thousand("evaluate", "report").code == 0
    text = written(registry)[1]
    assert "quantity (mine" in text
    assert "| dev: score | 0.4 [0.3, 0.5] |" in text
    assert "| -0.2 [-0.3, -0.1] |" in text
    assert "Not whole: 0 of 2 arms" in text
    assert "foreign" not in text
    assert "thousand evaluate ablate chains" in text
    assert "thousand evaluate ablate quantity" not in text


def test_silence_where_conversations_fail_and_a_set_that_changed_stand_in_it(
    thousand: Command, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = json.loads((bundled("dialogues") / FILES["conversations"]).read_text("utf-8").splitlines()[0])
    answering(monkeypatch, first=lambda prompt: "" if silent["turns"][0]["user"] in prompt else "no")
    assert thousand("evaluate", "conversations").code == 0
    assert thousand("evaluate", "report").code == 0
    text = written(registry)[1]
    assert f"first said nothing to {silent['id']}, which counts as failed" in text
    assert "first fails first at turn 1 in " in text
    assert "of another version" not in text
    file = registry / "first/measured-conversations.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "sha256": "0" * 64}))
    thousand("evaluate", "report")
    assert "as multiturn_test.jsonl is now (the scores are of another version of it)" in written(registry)[1]


def test_what_is_damaged_is_named_and_the_rest_stands_in_it(
    thousand: Command, registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, first=lambda prompt: "no")
    for name in ("constraints", "safety"):
        assert thousand("evaluate", name).code == 0
    damaged = [
        registry / "first/measured-safety.json",
        home / "evaluations/polls/one/sheet.json",
        folder() / "mine" / RECORD,
    ]
    for file in damaged:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{")
    assert thousand("evaluate", "report").code == 0
    text = written(registry)[1]
    assert "| prompts_strict |" in text
    assert "![constraints: prompts_strict" in text
    assert "among the worst, passes" in text
    named = text.partition("## What was not measured")[2]
    assert all(named.count(f"{file} is damaged") == 1 for file in damaged)


@pytest.mark.browser
def test_the_page_needs_nothing_beside_it_and_runs_no_script(
    thousand: Command, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, first=lambda prompt: EVIL)
    thousand("evaluate", "constraints")
    thousand("evaluate", "report")
    with browsing((registry / "first/report.html").as_uri()) as page:
        assert page.title() == "first: evaluation report"
        assert page.get_by_text("<script>document.title").count() == 4
        seen_by_everybody(page, "report")
