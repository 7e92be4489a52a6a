"""Fitting: a thin layer over transformers.Trainer, on one CPU or one GPU.

A run's folder in THOUSAND_HOME/runs holds its recipe, the hash of every data file, its checkpoints and one line of
measurements for each step. It can be interrupted and resumed.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from filelock import FileLock, Timeout
from peft import PeftModel
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from assistant import base_model
from assistant.base_model import Base, Say
from assistant.dialogue import read_dialogues
from assistant.errors import ThousandError
from assistant.template import Template
from train.batches import Examples, MicroBatches, accumulation, collate, plan, render_all, steps_per_epoch
from train.curves import read_log
from train.model import fast_dtype, load_for_training, supervised_loss
from train.run import Run, check_data
from train.watch import Step, Watch


@dataclass(frozen=True)
class Fitted:
    """A finished run: the trained model and what was measured."""

    run: Run
    base: Base
    examples: Examples
    model: PeftModel
    measured: dict[str, float]


class Interrupted(ThousandError):
    """The run was stopped by Ctrl-C or SIGTERM; its checkpoint is saved."""


class _SupervisedTrainer(Trainer):  # type: ignore[misc]
    """Trainer with the loss summed over supervised tokens and divided by their number in the whole optimizer step."""

    loss_is_scaled_for_ga = True

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        # Several processes average their gradients, so each must weigh as much as all of them together.
        loss: torch.Tensor = supervised_loss(model, inputs) * self.accelerator.num_processes / num_items_in_batch
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def _arguments(run: Run, steps: int, epoch_steps: int, dtype: torch.dtype) -> TrainingArguments:
    recipe = run.recipe
    on_cpu = not torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(run.folder / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulation(recipe),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"lr_end": recipe.final_learning_rate, "power": 1.0},
        warmup_steps=0,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=dtype == torch.bfloat16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=epoch_steps,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
    )
    # Of several GPUs one is used: Trainer would split a micro-batch over them, which is whole already.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def fit(run: Run, base: Base, report: Callable[[Step], None], say: Say) -> Fitted:
    """Train, from the last checkpoint if there is one.

    Raises Interrupted after Ctrl-C or SIGTERM (a checkpoint is saved), ThousandError when the loss is no number, when
    nothing is supervised, when the base or the data is not what the run began with, or when another process works on
    the same run. A run that fails before its first step leaves nothing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ThousandError(
            "Training in several processes is not supported yet; start one, without accelerate or torchrun."
        )
    if base.checksum != run.base_checksum:
        raise ThousandError(
            f"The base model {base.name} has changed since the run {run.name!r} began; start a new run with: thousand train"
        )
    try:
        with FileLock(run.folder / "lock", timeout=0):
            try:
                return _fit(run, base, report, say)
            except ThousandError:
                if not run.log.exists():
                    shutil.rmtree(run.folder)
                raise
    except Timeout:
        raise ThousandError(
            f"Another process is training the run {run.name!r}; wait for it, or start another run."
        ) from None


def _tokens_by_step(lengths: Sequence[int], batches: Sequence[Sequence[int]], size: int) -> list[int]:
    """The tokens of each optimizer step of `size` micro-batches, padding not counted."""
    tokens = [sum(lengths[number] for number in batch) for batch in batches]
    return [sum(tokens[start : start + size]) for start in range(0, len(tokens), size)]


def _fit(run: Run, base: Base, report: Callable[[Step], None], say: Say) -> Fitted:
    recipe = run.recipe
    weights = base_model.weights_folder(base, say)
    template = Template.load(weights)
    if template.stop_rule == "end_of_turn":
        say(f"{base.name} has no EOS of its own, so answers end with {template.family.close}")
    examples = render_all(read_dialogues(run.sources), template, recipe.max_tokens)
    check_data(run)
    for line in examples.cut:
        say(line)
    lengths = [len(example.ids) for example in examples.rendered]
    batches = plan(lengths, recipe)
    tokens_by_step = _tokens_by_step(lengths, batches, accumulation(recipe))
    share = examples.supervised / examples.tokens
    say(
        f"{len(lengths)} dialogues, {examples.tokens:,} tokens, {share:.0%} supervised; "
        f"{len(tokens_by_step)} steps of {recipe.dialogues_per_step} dialogues"
    )

    dtype = fast_dtype()
    model = load_for_training(weights, recipe, dtype)
    watch = Watch(run.log, tokens_by_step, share, report, say)
    trainer = _SupervisedTrainer(
        model=model,
        args=_arguments(run, len(tokens_by_step), steps_per_epoch(len(lengths), recipe), dtype),
        train_dataset=MicroBatches(examples.rendered, batches, pad_id=template.stop_id),
        data_collator=collate,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    with watch.signals():
        trainer.train(resume_from_checkpoint=_last_checkpoint(run))
    done = trainer.state.global_step
    if watch.failed_at is not None:
        raise ThousandError(
            f"The loss became {watch.last_loss} at step {watch.failed_at}; lower learning_rate "
            f"(it is {recipe.learning_rate:g}) and start a new run."
        )
    if done < len(tokens_by_step):
        raise Interrupted(
            f"Stopped at step {done} of {len(tokens_by_step)}; the checkpoint is saved. "
            f"Go on with: thousand train --resume {run.name}"
        )
    return Fitted(run, base, examples, model, _measured(run, tokens_by_step, share))


def _measured(run: Run, tokens_by_step: Sequence[int], share: float) -> dict[str, float]:
    last = read_log(run.log)[-1]
    return {
        "steps": len(tokens_by_step),
        "seconds": last["seconds"],
        "tokens_per_second": round(sum(tokens_by_step) / max(last["seconds"], 0.1), 1),
        "last_loss": last["loss"],
        "supervised_share": round(share, 4),
    }


def _last_checkpoint(run: Run) -> str | None:
    """The newest checkpoint that is whole: Trainer writes `trainer_state.json` last."""
    whole = [path.parent for path in (run.folder / "checkpoints").glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None
