"""A run from its beginning to its chosen checkpoint: what `thousand train` and its sweep do."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from assistant import base_model
from assistant.base_model import Say
from assistant.errors import BadData
from assistant.sampling import Sampling
from assistant.template import Template
from evaluation.dev import read_prompts
from evaluation.judge_model import from_settings
from train import processes
from train.choose import DevTest, Scored, choose, read_choices, score_checkpoint
from train.curves import read_log
from train.faults import OutOfMemory, full_disk_told
from train.fit import Fitted, fit
from train.model import Learner
from train.run import Run, resume_run
from train.trainer import WEIGHTS, forget, load_weights, weights_of
from train.watch import Step

DEV_SEED = 0
"""All checkpoints, and all runs, answer the dev prompts with the same random numbers."""


def dev_test(run: Run) -> DevTest:
    """What the run's checkpoints are asked. Raises BadData for prompts that cannot be read."""
    prompts = read_prompts(None if run.dev is None else Path(run.dev))
    sampling = Sampling(max_tokens=run.recipe.dev_tokens, seed=DEV_SEED)
    return DevTest(run.folder, prompts, sampling, from_settings())


@dataclass
class Examiner:
    """Has each checkpoint answer the dev prompts while its weights are loaded."""

    run: Run
    test: DevTest
    say: Say

    def check(self, positions: int | None, template: Template) -> None:
        """Raises BadData naming every dev prompt that has more tokens, its reference included, than the model reads."""
        if positions is None:
            return
        tokens = {prompt.where: len(template.render(prompt.messages).ids) for prompt in self.test.prompts}
        problems = [
            f"{where}: has {count} tokens with its reference, and the base model reads {positions}"
            for where, count in tokens.items()
            if count > positions
        ]
        if problems:
            raise BadData(problems)

    def __call__(self, learner: Learner, step: int, template: Template, epoch: float) -> None:
        """Score the checkpoint of that step, once."""
        if any(scored.step == step for scored in read_choices(self.run.folder)):
            return
        self.say(f"step {step}: answering {len(self.test.prompts)} dev prompts")
        losses = [record["loss"] for record in read_log(self.run.log) if step - 10 < record["step"] <= step]
        mixed = learner.dtype == torch.bfloat16 and self.run.recipe.method == "full"
        with torch.autocast(learner.causal.device.type, dtype=torch.bfloat16, enabled=mixed):
            scored = score_checkpoint(
                learner.model,
                template,
                self.test,
                step=step,
                epoch=epoch,
                train_loss=fmean(losses),
                say=self.say,
            )
        self.say(
            f"step {step}: dev score {scored.score.mean:.3f}, {scored.stop_rate:.0%} stopped, dev loss {scored.dev_loss:.3f}"
        )
        if self.run.recipe.method == "full":
            self._keep_the_best(step)

    def _keep_the_best(self, newest: int) -> None:
        """All weights of every checkpoint would fill a disk."""
        known = read_choices(self.run.folder)
        # The judge may fail at a later one, and then what a program can tell decides.
        kept = {newest, choose(known).step, max(known, key=lambda scored: scored.score.mean).step}
        for scored in known:
            if scored.step not in kept:
                forget(weights_of(self.run.checkpoints, scored.step))


@dataclass(frozen=True)
class Chosen:
    """A run at its end, with the chosen checkpoint's weights in the learner."""

    fitted: Fitted
    scored: Scored
    candidates: list[Scored]


def train_and_choose(
    run: Run, report: Callable[[Step], None], say: Say, *, until_epoch: float | None = None
) -> Chosen | None:
    """Train a run to its end, or for so many epochs, and load its best checkpoint. None in every process but the first.

    Raises what `train.fit.fit` raises.
    """
    base = base_model.resolve(run.base, say)
    examiner = Examiner(run, dev_test(run), say)
    fitted = fit(run, base, report, say, judge=examiner, until_epoch=until_epoch)
    if processes.rank() > 0:
        return None
    with full_disk_told(run.folder, run.go_on):
        _examine_the_others(fitted, examiner)
    candidates = [
        scored for scored in read_choices(run.folder) if (weights_of(run.checkpoints, scored.step) / WEIGHTS).exists()
    ]
    best = choose(candidates)
    load_weights(fitted.learner, weights_of(run.checkpoints, best.step))
    return Chosen(fitted, best, candidates)


def train_in_less(
    run: Run, label: str, report: Callable[[Step], None], say: Say, *, until_epoch: float | None = None
) -> Chosen:
    """`train_and_choose` in one process, in smaller micro-batches where memory runs out: they change nothing that is learnt.

    Raises what that raises.
    """
    while True:
        try:
            chosen = train_and_choose(run, report, say, until_epoch=until_epoch)
        except OutOfMemory as error:
            if error.fits is None:
                raise
            fits = error.fits
        else:
            assert chosen is not None  # of several processes the others return None
            return chosen
        gc.collect()
        say(
            f"{label}: out of memory; goes on with tokens_per_micro_batch at {fits}, which changes nothing that is learnt"
        )
        run = resume_run(run.name, [f"tokens_per_micro_batch={fits}"])


def _examine_the_others(fitted: Fitted, examiner: Examiner) -> None:
    """What an interruption, or the loss of choices.jsonl, left unexamined."""
    run = fitted.run
    known = {scored.step for scored in read_choices(run.folder)}
    for step in fitted.saved:
        place = weights_of(run.checkpoints, step)
        if step not in known and (place / WEIGHTS).exists():
            load_weights(fitted.learner, place)
            examiner(fitted.learner, step, fitted.template, step * run.recipe.epochs / fitted.saved[-1])
