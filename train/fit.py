"""Fitting: one run from its data to its trained weights, on one CPU, one GPU, or in several processes.

A run's folder in THOUSAND_HOME/runs holds its recipe, the hash of every data file, its checkpoints and one line of
measurements for each step. It can be interrupted, killed, and resumed.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from filelock import FileLock, Timeout
from transformers.trainer_callback import PrinterCallback

from assistant import base_model
from assistant.base_model import Base, Say
from assistant.dialogue import Dialogue, read_dialogues
from assistant.errors import ThousandError
from assistant.template import Template
from assistant.vocabulary import with_vocabulary
from train import processes
from train.batches import Examples, Steps, checkpoints, plan, render_all
from train.curves import read_log
from train.faults import Diverged, told
from train.memory import check_memory
from train.model import Learner, load_for_training
from train.run import Run, check_data
from train.trainer import StepTrainer, arguments, load_weights, step_of, whole_checkpoints
from train.watch import Step, Watch

ENOUGH = 1.03
"""The compact vocabulary costs 0.8 % more tokens on English dialogues; above this many more, something else is written."""


class Judge(Protocol):
    """Judges a checkpoint by what it says; called in the first process only, once for each saved step."""

    def __call__(self, learner: Learner, step: int, template: Template, epoch: float) -> None: ...

    def check(self, positions: int | None, template: Template) -> None:
        """Raises ThousandError, before the first step, for what no model of so many positions could be asked."""


@dataclass(frozen=True)
class Fitted:
    """A run that reached its end: the learner with its last weights, and what was measured."""

    run: Run
    base: Base
    """As it was trained: with the compact vocabulary, if the recipe says so."""
    examples: Examples
    template: Template
    learner: Learner
    saved: list[int]
    """The steps after which a checkpoint was to be saved."""
    measured: dict[str, float]


class Interrupted(ThousandError):
    """The run was stopped by Ctrl-C or SIGTERM; its checkpoint is saved."""


def fit(
    run: Run,
    base: Base,
    report: Callable[[Step], None],
    say: Say,
    *,
    judge: Judge | None = None,
    until_epoch: float | None = None,
) -> Fitted:
    """Train, from the last checkpoint if there is one, to the end of the plan (or for `until_epoch` epochs of it, with a checkpoint).

    Raises Interrupted after Ctrl-C or SIGTERM (a checkpoint is saved), Diverged when the loss is no number, ThousandError when
    nothing is supervised, when memory runs out, when the base or the data is not what the run began with, or when
    another process works on the same run. A run that fails before its first step leaves nothing.
    """
    if base.checksum != run.base_checksum:
        raise ThousandError(
            f"The base model {base.name} has changed since the run {run.name!r} began; start a new run with: {run.anew}"
        )
    if processes.rank() > 0:
        return _fit(run, base, report, say, judge, until_epoch)
    try:
        with FileLock(run.folder / "lock", timeout=0):
            try:
                return _fit(run, base, report, say, judge, until_epoch)
            except ThousandError:
                if not run.log.exists() and not run.checkpoints.exists():
                    shutil.rmtree(run.folder)
                raise
    except Timeout:
        raise ThousandError(
            f"Another process is training the run {run.name!r}; wait for it, or start another run."
        ) from None


def _examples(run: Run, dialogues: Sequence[Dialogue], template: Template, say: Say) -> Examples:
    examples = render_all(dialogues, template, run.recipe.max_tokens)
    check_data(run)
    for line in examples.cut:
        say(line)
    return examples


def _say_what_it_costs(whole: Base, template: Template, dialogues: Sequence[Dialogue], say: Say) -> None:
    """Data that the compact vocabulary was not made for (another language, say) is told of before it is trained on."""
    full = Template.load(whole.folder, template.stop_rule)
    some = dialogues[:: max(1, len(dialogues) // 200)]
    tokens, fewer = (sum(len(one.render(dialogue.messages).ids) for dialogue in some) for one in (template, full))
    if tokens > fewer * ENOUGH:
        say(
            f"The compact vocabulary writes these dialogues in {tokens / fewer - 1:.0%} more tokens than the full one, "
            "so it was hardly made for them; better: --set vocabulary=full"
        )


def planned(run: Run, examples: Examples) -> list[list[int]]:
    """The run's optimizer steps, each a list of example numbers."""
    lengths = [len(example.ids) for example in examples.rendered]
    return plan(lengths, run.recipe, [run.recipe.repeats(dialogue) for dialogue in examples.dialogues])


def _fit(
    run: Run, base: Base, report: Callable[[Step], None], say: Say, judge: Judge | None, until_epoch: float | None
) -> Fitted:
    recipe = run.recipe
    whole, base = base, with_vocabulary(base, recipe.vocabulary, say)
    weights = base_model.weights_folder(base, say)
    template = Template.load(weights, recipe.stop)
    if template.stop_rule != recipe.stop:
        ends = template.tokenizer.id_to_token(template.stop_id)
        lacks = "EOS" if recipe.stop == "eos" else "end-of-turn token"
        say(f"{base.name} has no {lacks} of its own, so answers end with {ends}")
    dialogues = read_dialogues(run.sources)
    if recipe.vocabulary == "compact":
        _say_what_it_costs(whole, template, dialogues, say)
    examples = _examples(run, dialogues, template, say)
    steps = planned(run, examples)
    lengths = [len(example.ids) for example in examples.rendered]
    tokens_by_step = [sum(lengths[number] for number in step) for step in steps]
    share = examples.supervised / examples.tokens
    say(
        f"{len(lengths)} dialogues, {examples.tokens:,} tokens, {share:.0%} supervised; "
        f"{len(steps)} steps of {recipe.dialogues_per_step} dialogues"
    )
    dtype = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
    learner = load_for_training(weights, recipe, dtype)
    positions = getattr(learner.causal.config, "max_position_embeddings", None)
    _check_length(positions, max(lengths))
    if judge is not None:
        judge.check(positions, template)
    if not learner.packed:
        say(f"{base.name} cannot be trained on packed dialogues; they go through it one by one")
    check_memory(learner, recipe, max(lengths), mixed=recipe.method == "full" and dtype == torch.bfloat16)
    saved = checkpoints(len(steps), recipe)
    epochs = recipe.epochs if until_epoch is None else until_epoch
    until = min(len(steps), math.ceil(len(steps) * epochs / recipe.epochs))

    def examine(step: int) -> None:
        if judge is not None and (step in saved or step == until):
            judge(learner, step, template, step * recipe.epochs / len(steps))

    watch = Watch(run.log, tokens_by_step, share, report, examine, saved=saved, until=until)
    data = Steps(
        examples.rendered, steps, recipe.tokens_per_micro_batch, rank=processes.rank(), processes=processes.count()
    )
    trainer = StepTrainer(
        model=learner,
        args=arguments(run.checkpoints, recipe, len(steps), dtype),
        train_dataset=data,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ThousandError(
            "Training with FSDP or DeepSpeed is not supported yet: each process has to hold the whole model. "
            "Leave them out of accelerate's configuration."
        )
    _train(trainer, run, watch, max(lengths))
    _say_how_it_ended(run, watch, trainer.state.global_step, len(steps))
    return Fitted(run, base, examples, template, learner, saved, _measured(run, tokens_by_step, share))


def _check_length(positions: int | None, longest: int) -> None:
    if positions is not None and longest > positions:
        raise ThousandError(
            f"The base model has {positions} positions and the longest dialogue {longest} tokens; lower max_tokens, "
            f"with --set max_tokens={positions}"
        )


def _train(trainer: StepTrainer, run: Run, watch: Watch, longest: int) -> None:
    whole = whole_checkpoints(run.checkpoints)
    with told(run.recipe, longest, run.folder, run.go_on):
        if whole and step_of(whole[-1]) >= watch.until:
            load_weights(trainer.model, whole[-1])
            trainer.state.global_step = step_of(whole[-1])
            watch.examined(trainer.state.global_step)
            return
        with watch.signals():
            trainer.train(resume_from_checkpoint=str(whole[-1]) if whole else None)


def _say_how_it_ended(run: Run, watch: Watch, done: int, planned_steps: int) -> None:
    if watch.failed_at is not None:
        what = "gradient became no number" if math.isfinite(watch.last_loss) else f"loss became {watch.last_loss}"
        raise Diverged(
            f"The {what} at step {watch.failed_at}; lower learning_rate "
            f"(it is {run.recipe.learning_rate:g}) and start a new run."
        )
    if done < watch.until or watch.stopping:
        raise Interrupted(
            f"Stopped at step {done} of {planned_steps}; the checkpoint is saved. Go on with: {run.go_on}"
        )


def _measured(run: Run, tokens_by_step: Sequence[int], share: float) -> dict[str, float]:
    last = read_log(run.log)[-1]
    done = tokens_by_step[: int(last["step"])]
    return {
        "steps": len(done),
        "seconds": last["seconds"],
        "tokens_per_second": round(sum(done) / max(last["seconds"], 0.1), 1),
        "last_loss": last["loss"],
        "supervised_share": round(share, 4),
    }
