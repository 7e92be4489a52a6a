"""A checkpoint is chosen by what it says: a good answer scores above a bad one, and losses have no say."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from rich.console import Console
from transformers import AutoModelForCausalLM

from assistant.base_model import quiet
from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.template import IGNORE, Template
from evaluation.dev import Answer, read_prompts
from evaluation.intervals import Interval
from evaluation.judge_model import Judge
from evaluation.quality import Quality, qualities, said_before
from tests.judging import completion, judging
from train.choice_report import agreement, plot_choice, table
from train.choose import CHOICES, DevTest, Scored, answers_file, choose, dev_loss, read_choices, score_checkpoint


def answer(prompt: Dialogue, text: str, stopped: bool = True) -> Answer:
    failed = tuple(prompt.checks.failed(text)) if prompt.checks else ()
    return Answer(prompt, text, 3, stopped, failed)


def scores(answers: Sequence[Answer]) -> list[float]:
    return [quality.score(with_grade=False) for quality in qualities(answers, quiet)]


def test_a_reference_scores_above_every_way_of_spoiling_it(home: Path) -> None:
    prompts = read_prompts()[:16]
    references = [prompt.answers[0] for prompt in prompts]
    spoilt = {
        "empty": [answer(prompt, "") for prompt in prompts],
        "the prompt echoed": [answer(prompt, prompt.messages[0].content) for prompt in prompts],
        "cut at the longest length": [
            answer(prompt, " ".join(text.split()[: len(text.split()) * 2 // 3]), stopped=False)
            for prompt, text in zip(prompts, references, strict=True)
        ],
        "a sentence repeated": [
            answer(prompt, " ".join([text.partition(". ")[0] + "."] * 12))
            for prompt, text in zip(prompts, references, strict=True)
        ],
        "another prompt's reference": [
            answer(prompt, text) for prompt, text in zip(prompts, references[1:] + references[:1], strict=True)
        ],
    }
    good = scores([answer(prompt, text) for prompt, text in zip(prompts, references, strict=True)])
    assert min(good) > 0.99
    for name, answers in spoilt.items():
        bad = scores(answers)
        assert all(one < other - 0.1 for one, other in zip(bad, good, strict=True)), name
        if name in ("empty", "the prompt echoed", "a sentence repeated"):
            assert sum(bad) / len(bad) < 0.25, name
    assert scores(spoilt["empty"]) == [0.0] * len(prompts)


def test_an_answer_that_only_copies_what_the_reference_copies_is_its_own(home: Path) -> None:
    prompt = Dialogue.model_validate(
        {
            "messages": [
                {"role": "user", "content": "Put in a comma: when it rains the cat from next door stays in"},
                {"role": "assistant", "content": "When it rains, the cat from next door stays in."},
            ]
        }
    )
    assert said_before(prompt.answers[0], prompt.messages[0].content) > 0.9
    assert scores([answer(prompt, prompt.answers[0])])[0] > 0.99
    assert said_before("a b c d e", "") == 0
    assert said_before("A, b c d a b c d", "") == pytest.approx(1 / 5)


def test_parts_that_an_answer_lacks_do_not_count() -> None:
    assert Quality({"stopped": 1.0, "length": 1.0}, own=1.0).score(with_grade=True) == pytest.approx(1.0)
    graded = Quality({"stopped": 1.0, "length": 1.0, "grade": 0.0}, own=1.0)
    assert graded.score(with_grade=False) == pytest.approx(1.0)
    assert graded.score(with_grade=True) == pytest.approx(0.3 / 1.3)


@pytest.fixture(scope="module")
def template(tiny_base: Path) -> Template:
    return Template.load(tiny_base)


@pytest.fixture
def model(tiny_base: Path) -> PeftModel:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    config = LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config)
    adapted.train()
    return adapted


def dev_prompt(number: int) -> Dialogue:
    return Dialogue.model_validate(
        {
            "id": f"dev-{number}",
            "messages": [
                {"role": "user", "content": f"why is question {number} so"},
                {"role": "assistant", "content": "Because air scatters short waves more. " * number},
            ],
            "checks": {"max_words": 5, "contains_any": ["so"]},
        }
    )


@pytest.fixture
def sat(tmp_path: Path, home: Path) -> DevTest:
    return DevTest(tmp_path / "run", [dev_prompt(n) for n in (1, 2, 3)], Sampling(seed=0, max_tokens=8))


def score(model: PeftModel, template: Template, sat: DevTest, step: int) -> Scored:
    return score_checkpoint(model, template, sat, step=step, epoch=step / 4, train_loss=2.5, say=quiet)


def test_a_scored_checkpoint_is_kept_with_its_answers_and_not_scored_twice(
    model: PeftModel, template: Template, sat: DevTest
) -> None:
    later, first = score(model, template, sat, 8), score(model, template, sat, 4)
    assert [first, later] == read_choices(sat.folder)
    assert first.score == later.score, "the same model says the same"
    kept = [json.loads(line) for line in answers_file(sat.folder, 4).read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in kept] == ["dev-1", "dev-2", "dev-3"]
    assert sum(line["score"] for line in kept) / 3 == pytest.approx(first.score.mean, abs=1e-3)
    assert sum(line["stopped"] for line in kept) / 3 == pytest.approx(first.stop_rate, abs=1e-3)
    assert (first.graded, first.judge_failed, first.graded_score) == (0, 0, None)

    answers_file(sat.folder, 4).unlink()
    assert score(model, template, sat, 4) == first
    assert not answers_file(sat.folder, 4).exists(), "it was looked up, not generated again"
    other = replace(sat, prompts=sat.prompts[:2])
    assert score(model, template, other, 4).test != first.test
    with pytest.raises(ThousandError, match="different prompts"):
        choose(read_choices(sat.folder))


def test_scoring_does_not_disturb_the_training(
    tiny_base: Path, template: Template, sat: DevTest, model: PeftModel
) -> None:
    def trained(between: bool) -> list[torch.Tensor]:
        weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        torch.manual_seed(7)
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
        ids = torch.tensor([template.render(sat.prompts[0].messages).ids])
        for _ in range(3):
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if between:
                states = random.getstate(), np.random.get_state()[1].tolist()
                score(model, template, sat, len(read_choices(sat.folder)))
                assert states == (random.getstate(), np.random.get_state()[1].tolist())
        after = [weight.detach().clone() for weight in model.parameters()]
        model.load_state_dict(weights)
        return after

    undisturbed = trained(between=False)
    assert all(torch.equal(one, other) for one, other in zip(undisturbed, trained(between=True), strict=True))
    assert len(read_choices(sat.folder)) == 3


def test_the_dev_loss_is_the_mean_over_the_supervised_tokens_of_all_references(
    model: PeftModel, template: Template, sat: DevTest
) -> None:
    losses, labels = [], []
    model.eval()
    for prompt in sat.prompts:
        rendered = template.render(prompt.messages)
        with torch.no_grad():
            logits = model(torch.tensor([rendered.ids])).logits[0]
        wanted = torch.tensor(rendered.labels)
        losses.append(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="none"))
        labels.append(wanted)
    model.train()
    expected = torch.cat(losses).sum() / (torch.cat(labels) != IGNORE).sum()
    assert dev_loss(model, template, sat.prompts) == pytest.approx(float(expected), rel=1e-5)
    assert model.training


def test_a_prompt_without_a_reference_is_named(model: PeftModel, template: Template, sat: DevTest) -> None:
    bare = Dialogue.model_validate({"id": "bare", "messages": [{"role": "user", "content": "why"}]})
    with pytest.raises(ThousandError, match="bare: has no reference answer"):
        score(model, template, replace(sat, prompts=[*sat.prompts, bare]), 1)


def test_a_judges_grades_count_where_they_came_and_failures_are_counted(
    model: PeftModel, template: Template, sat: DevTest
) -> None:
    with judging(lambda question: completion("Grade: 1")) as seen:
        graded = score(model, template, replace(sat, judge=Judge(seen.url, "m")), 1)
    assert (graded.graded, graded.judge_failed) == (3, 0)
    assert graded.parts["grade"] == 0
    assert graded.graded_score is not None
    assert graded.graded_score.mean < graded.score.mean
    with judging(lambda question: completion("Grade: 6" if "question 1" in question else "fine")) as seen:
        failing = score(model, template, replace(sat, judge=Judge(seen.url, "m")), 2)
    assert (failing.graded, failing.judge_failed, failing.graded_score) == (1, 2, None)
    assert failing.score == graded.score, "what a program can tell does not depend on the judge"


def scored(step: int, mean: float, dev: float, graded: float | None = None, test: str = "t") -> Scored:
    return Scored(
        step=step,
        epoch=step / 64,
        test=test,
        train_loss=2.5,
        dev_loss=dev,
        score=Interval(mean=mean, low=mean - 0.05, high=mean + 0.04),
        graded_score=None if graded is None else Interval(mean=graded, low=graded, high=graded),
        parts={"meaning": mean, "stopped": 0.9, "own": 1.0},
        words=80.0,
    )


def test_whatever_the_loss_the_last_one_is_chosen_that_luck_may_have_kept_from_the_highest_score() -> None:
    candidates = [scored(64, 0.5, 1.0), scored(128, 0.7, 2.0), scored(192, 0.695, 3.0), scored(256, 0.69, 0.1)]
    assert choose(candidates).step == 192
    assert choose(candidates[::-1]).step == 192
    with pytest.raises(ThousandError, match="No checkpoint"):
        choose([])


def test_grades_decide_only_when_every_checkpoint_has_them() -> None:
    candidates = [scored(64, 0.5, 1.0, graded=0.9), scored(128, 0.7, 1.0, graded=0.8)]
    assert choose(candidates).step == 64
    assert choose([*candidates, scored(192, 0.6, 1.0)]).step == 128


def test_a_damaged_file_of_choices_is_named(tmp_path: Path) -> None:
    (tmp_path / CHOICES).write_text('{"step": 1}\n')
    with pytest.raises(ThousandError, match=r"choices\.jsonl is damaged; remove it"):
        read_choices(tmp_path)


def test_it_is_said_whether_loss_and_score_agree() -> None:
    rising = [scored(step, 0.4 + step / 1000, 3 - step / 1000) for step in (64, 128, 192, 256)]
    assert "go together (Spearman's rank correlation 1.00)" in agreement(rising)
    assert "lowest at the chosen checkpoint too" in agreement(rising)
    against = [scored(step, 0.4 + step / 1000, 2 + step / 1000) for step in (64, 128, 192, 256)]
    assert "lowest at step 64, and step 256 is chosen by the dev score" in agreement(against)
    assert "go against each other (Spearman's rank correlation -1.00)" in agreement(against)
    assert "cannot be told from 2 checkpoints" in agreement(rising[:2])


def test_the_table_and_the_picture_show_every_checkpoint(tmp_path: Path) -> None:
    candidates = [scored(64, 0.5, 2.9), scored(128, 0.71, 2.8)]
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    console.print(table(candidates))
    printed = [line for line in console.export_text().splitlines() if "[" in line]
    assert ["→" in line for line in printed] == [False, True]
    assert "0.710 [0.660, 0.750]" in printed[1]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": step, "loss": 4 - step / 100}) + "\n" for step in range(1, 130)))
    plot_choice(log, candidates, tmp_path / "choice.png", "a run")
    first = matplotlib.image.imread(tmp_path / "choice.png")
    plot_choice(log, candidates[:1], tmp_path / "one.png", "a run")
    assert first.shape[0] > 500
    assert not np.array_equal(first, matplotlib.image.imread(tmp_path / "one.png"))
