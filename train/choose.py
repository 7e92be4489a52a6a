"""Choosing a checkpoint by what it says to the dev prompts, never by its loss.

The paper found that the likelihood of held-out answers does not go with the quality of generated ones, and chose checkpoints by
hand from what they generated (Zhou et al. 2023, section 3 and appendix B). Here a program does: each checkpoint answers the dev prompts,
`evaluation.quality` scores the answers, and of those that cannot be told from the highest mean the last one wins. The loss on
the references is measured to be shown beside it.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch.nn.functional import cross_entropy

from assistant.base_model import Say
from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from assistant.files import write_text
from assistant.sampling import Sampling
from assistant.template import IGNORE, Template
from evaluation.dev import Answer
from evaluation.intervals import Interval
from evaluation.judge import grade_all
from evaluation.judge_model import Judge
from evaluation.quality import Quality, part_means, qualities, reference
from train.faults import Diverged
from train.generate import Generated, Model, answer_batch, evaluating

CHOICES = "choices.jsonl"
LUCK = 0.008
"""How far a score may be below the highest and not be told from it: the standard deviation between seeds of one recipe
(docs/training.md)."""
ENOUGH_GRADED = 0.9
"""A checkpoint of whose answers the judge graded fewer is compared by what a program can tell."""


class Scored(BaseModel):
    """What is known of one checkpoint; a line of `choices.jsonl`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int = Field(ge=0)
    epoch: float = Field(ge=0)
    test: str
    """A hash of the prompts, the sampling and the judge: only checkpoints that sat the same test are compared."""
    train_loss: float
    """Nats per supervised token."""
    dev_loss: float
    """Nats per supervised token of the dev references; shown, and never used to choose."""
    score: Interval
    """The mean over the answers of what a program can tell of them, in [0, 1]."""
    graded_score: Interval | None = None
    """The same with a judge's grades, over the answers that have one; None unless nearly all have."""
    parts: dict[str, float]
    """The mean of each part of the score (`quality.WEIGHTS`), and of `own`."""
    words: float
    """Mean length of an answer."""
    graded: int = 0
    judge_failed: int = 0

    @property
    def stop_rate(self) -> float:
        """Share of the answers that ended by themselves."""
        return self.parts["stopped"]


@dataclass(frozen=True)
class DevTest:
    """What every checkpoint of a run is asked, and where the results are kept (the run's folder)."""

    folder: Path
    prompts: Sequence[Dialogue]
    """Each ends with its reference answer."""
    sampling: Sampling
    """With a seed, so that checkpoints differ and not their luck."""
    judge: Judge | None = None

    @property
    def identity(self) -> str:
        """What `Scored.test` holds."""
        asked = [prompt.model_dump_json() for prompt in self.prompts]
        judge = [self.judge.url, self.judge.model] if self.judge else None
        whole = json.dumps([asked, self.sampling.model_dump_json(), judge])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def replies_file(self, step: int) -> Path:
        """What the judge wrote of it."""
        return self.folder / "answers" / f"{step}.judge.jsonl"


def answers_file(folder: Path, step: int) -> Path:
    """What a checkpoint of the run in a folder said, one line of JSON a prompt."""
    return folder / "answers" / f"{step}.jsonl"


def read_choices(folder: Path) -> list[Scored]:
    """The checkpoints that were scored, in the order of their steps. Raises ThousandError for a damaged file."""
    file = folder / CHOICES
    if not file.exists():
        return []
    try:
        found = [Scored.model_validate_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (ValidationError, UnicodeDecodeError):
        raise ThousandError(f"{file} is damaged; remove it, and checkpoints are scored anew.") from None
    return sorted(found, key=lambda scored: scored.step)


def _keep(folder: Path, scored: Scored) -> None:
    others = [known for known in read_choices(folder) if known.step != scored.step]
    lines = [known.model_dump_json() + "\n" for known in sorted([*others, scored], key=lambda known: known.step)]
    write_text(folder / CHOICES, "".join(lines))


@torch.no_grad()
def dev_loss(model: Model, template: Template, prompts: Sequence[Dialogue]) -> float:
    """Mean cross-entropy, in nats per supervised token, of the answers in `prompts`; the model is left as it was found."""
    nats, supervised = 0.0, 0
    with evaluating(model):
        for prompt in prompts:
            rendered = template.render(prompt.messages)
            labels = torch.tensor(rendered.labels, device=model.device)
            places = (labels != IGNORE).nonzero()[:, 0]
            ids = torch.tensor([rendered.ids], device=model.device)
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=places).logits[0]  # (supervised, V)
            nats += float(cross_entropy(logits.float(), labels[places], reduction="sum"))
            supervised += len(places)
    if not supervised:
        raise ThousandError("The dev prompts hold no reference answer, so they have no loss; add assistant turns.")
    return nats / supervised


def _as_answer(prompt: Dialogue, said: Generated) -> Answer:
    failed = tuple(prompt.checks.failed(said.text)) if prompt.checks else ()
    return Answer(prompt, said.text, said.tokens, said.stopped, failed)


def _write_answers(
    file: Path, answers: Sequence[Answer], found: Sequence[Quality], grades: Sequence[int | None]
) -> None:
    lines = [
        {
            "id": answer.prompt.id,
            "text": answer.text,
            "tokens": answer.tokens,
            "stopped": answer.stopped,
            "failed_checks": answer.failed_checks,
            "parts": {name: round(value, 4) for name, value in quality.parts.items()},
            "own": round(quality.own, 4),
            "score": round(quality.score(with_grade=False), 4),
            "grade": grade,
        }
        for answer, quality, grade in zip(answers, found, grades, strict=True)
    ]
    write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def score_checkpoint(
    model: Model,
    template: Template,
    test: DevTest,
    *,
    step: int,
    epoch: float,
    train_loss: float,
    say: Say,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Scored:
    """Let the model answer the dev prompts, score the answers, and keep both; what was scored before is only looked up.

    Neither the model nor any random state is changed, so training goes on as if this had not happened. `report` is told
    how many answers of how many are done. Raises ThousandError for a prompt without a reference answer, Diverged for a model
    whose loss is no number.
    """
    known = [scored for scored in read_choices(test.folder) if (scored.step, scored.test) == (step, test.identity)]
    if known:
        return known[0]
    spoken = [prompt.messages[:-1] for prompt in test.prompts if reference(prompt)]
    loss = dev_loss(model, template, test.prompts)
    if not math.isfinite(loss):
        raise Diverged(f"The dev loss at step {step} is no number; lower learning_rate and start a new run.")
    # The embedding model and the judge are others' code, which may draw from the global random state.
    with torch.random.fork_rng():
        said = answer_batch(model, template, spoken, test.sampling, report)
        answers = [_as_answer(prompt, answer) for prompt, answer in zip(test.prompts, said, strict=True)]
        grades: list[int | None] = [None] * len(answers)
        if test.judge is not None:
            grades = grade_all(test.judge, answers, test.replies_file(step))
        found = qualities(answers, say, grades)
    graded = [quality for quality in found if "grade" in quality.parts]
    _write_answers(answers_file(test.folder, step), answers, found, grades)
    scored = Scored(
        step=step,
        epoch=round(epoch, 4),
        test=test.identity,
        train_loss=round(train_loss, 5),
        dev_loss=round(loss, 5),
        score=Interval.of([quality.score(with_grade=False) for quality in found]),
        graded_score=Interval.of([quality.score(with_grade=True) for quality in graded])
        if len(graded) >= ENOUGH_GRADED * len(found)
        else None,
        parts=part_means(found),
        words=round(sum(len(answer.text.split()) for answer in answers) / len(answers), 1),
        graded=len(graded),
        judge_failed=len(found) - len(graded) if test.judge is not None else 0,
    )
    _keep(test.folder, scored)
    return scored


def comparable(scores: Sequence[tuple[Interval, Interval | None]]) -> list[Interval]:
    """Of scores without and with a judge's grades those to compare by: with grades, if every one has those."""
    graded = [with_grades for _, with_grades in scores if with_grades is not None]
    return graded if len(graded) == len(scores) else [without for without, _ in scores]


def compared_by(candidates: Sequence[Scored]) -> list[Interval]:
    """The score of each candidate that it is compared by."""
    return comparable([(scored.score, scored.graded_score) for scored in candidates])


def choose(candidates: Sequence[Scored]) -> Scored:
    """The last candidate whose mean score is within LUCK of the highest. Losses have no say.

    Of checkpoints that answer the dev prompts alike the last one knows best what only a few dialogues teach, which no dev prompt asks
    for: of 24 other questions about an invented company a retraining's second epoch had 40 % right, its first 29 % (`docs/log.md`).

    Raises ThousandError when there is none, or when they did not sit the same test.
    """
    if not candidates:
        raise ThousandError("No checkpoint has been scored, so there is none to choose.")
    if len({scored.test for scored in candidates}) > 1:
        raise ThousandError(
            "The checkpoints were scored on different prompts, sampling or judges, so they cannot be compared; start a new run."
        )
    means = [score.mean for score in compared_by(candidates)]
    good = [scored for scored, mean in zip(candidates, means, strict=True) if mean >= max(means) - LUCK]
    return max(good, key=lambda scored: scored.step)
