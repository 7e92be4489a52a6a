"""The run: a thin layer over transformers.Trainer (accelerate underneath: one CPU, one GPU, or several).

A run is a folder in THOUSAND_HOME/runs with its recipe, the hash of every data file, its checkpoints and one line of
measurements for each step. It can be interrupted and resumed.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout
from peft import PeftModel
from pydantic import BaseModel, ConfigDict
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from assistant import base_model, release
from assistant.base_model import Base, Say
from assistant.dialogue import Dialogue, read_dialogues
from assistant.errors import ThousandError
from assistant.files import sha256, write_text
from assistant.settings import settings
from assistant.template import Template
from train.batches import Examples, MicroBatches, accumulation, collate, plan, render_all, steps_per_epoch
from train.model import fast_dtype, load_for_training, supervised_loss
from train.recipe import Recipe


class Run(BaseModel):
    """What makes a run what it is; saved as `run.json` before its first step."""

    model_config = ConfigDict(extra="forbid")

    name: str
    base: str
    base_checksum: str
    recipe: Recipe
    files: dict[str, str]
    """Absolute path of each data file to its SHA-256."""

    @property
    def folder(self) -> Path:
        return runs_folder() / self.name

    @property
    def sources(self) -> list[Path]:
        return [Path(file) for file in self.files]


@dataclass(frozen=True)
class Step:
    """Where a run stands after an optimizer step."""

    step: int
    steps: int
    loss: float
    """Mean cross-entropy (nats) of the step's supervised tokens."""
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Fitted:
    """A finished run: the trained model and what was measured."""

    run: Run
    base: Base
    template: Template
    examples: Examples
    dialogues: list[Dialogue]
    model: PeftModel
    measured: dict[str, float]


class Interrupted(ThousandError):
    """The run was stopped by Ctrl-C or SIGTERM; its checkpoint is saved."""


def runs_folder() -> Path:
    """Where runs live."""
    return settings().home / "runs"


def default_name(recipe: str) -> str:
    """A name for a run that was given none: the recipe and the time."""
    return f"{recipe}-{release.now():%Y%m%d-%H%M%S}"


def new_run(name: str, base: Base, recipe: Recipe, files: Sequence[Path]) -> Run:
    """Begin a run: its folder and `run.json`. Raises ThousandError when the name is taken or is no name."""
    if not release.NAME.fullmatch(name):
        raise ThousandError(
            f"{name!r} is no name for a release: use small letters, digits, dots and hyphens, at most 64."
        )
    run = Run(
        name=name,
        base=base.name,
        base_checksum=base.checksum,
        recipe=recipe,
        files={str(file): sha256(file) for file in files},
    )
    if run.folder.exists() or (release.folder() / name).exists():
        raise ThousandError(
            f"There is a run or a release named {name!r} already; choose another --name, or: thousand train --resume {name}"
        )
    write_text(run.folder / "run.json", run.model_dump_json(indent=2) + "\n")
    return run


def open_run(name: str) -> Run:
    """An earlier run, to go on with. Raises ThousandError when there is none, or when its data has changed since."""
    file = runs_folder() / name / "run.json"
    if not release.NAME.fullmatch(name) or not file.exists():
        known = ", ".join(sorted(path.parent.name for path in runs_folder().glob("*/run.json"))) or "none yet"
        raise ThousandError(f"There is no run {name!r} to resume; runs: {known}")
    run = Run.model_validate_json(file.read_text(encoding="utf-8"))
    for path, digest in run.files.items():
        if not Path(path).exists() or sha256(Path(path)) != digest:
            raise ThousandError(
                f"{path} has changed since the run {name!r} began, so it cannot be resumed; start a new run with: thousand train"
            )
    return run


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


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Measures each step, reports it, and turns a signal into a saved checkpoint."""

    def __init__(self, log: Path, tokens_by_step: Sequence[int], report: Callable[[Step], None]) -> None:
        self._log, self._tokens, self._report = log, tokens_by_step, report
        self.interrupted = False
        self.failed_at: int | None = None
        self.last_loss = math.nan
        self._began = time.monotonic()
        self._done_tokens = 0
        self.seconds = 0.0

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """The first signal asks for a checkpoint at the end of the step; the second one kills as usual."""
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> TrainerControl:
        if not logs or "loss" not in logs:
            return control
        self.last_loss = logs["loss"]
        if not math.isfinite(self.last_loss):
            self.failed_at = state.global_step
            control.should_save = False
            control.should_training_stop = True
            return control
        self._done_tokens += self._tokens[state.global_step - 1]
        self.seconds = time.monotonic() - self._began
        rate = self._done_tokens / self.seconds
        left = sum(self._tokens[state.global_step :]) / rate
        line = {
            "step": state.global_step,
            "loss": round(self.last_loss, 5),
            "rate": logs["learning_rate"],
            "grad_norm": round(logs["grad_norm"], 4),
            "seconds": round(self.seconds, 1),
        }
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._report(Step(state.global_step, len(self._tokens), self.last_loss, rate, left))
        return control


def _arguments(run: Run, steps: int, epoch_steps: int, dtype: torch.dtype) -> TrainingArguments:
    recipe = run.recipe
    on_cpu = not torch.cuda.is_available()
    return TrainingArguments(
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


def fit(run: Run, base: Base, report: Callable[[Step], None], say: Say) -> Fitted:
    """Train, from the last checkpoint if there is one.

    Raises Interrupted after Ctrl-C or SIGTERM (a checkpoint is saved), ThousandError when the loss is no number, when
    nothing is supervised, or when another process works on the same run.
    """
    try:
        with FileLock(run.folder / "lock", timeout=0):
            return _fit(run, base, report, say)
    except Timeout:
        raise ThousandError(
            f"Another process is training the run {run.name!r}; wait for it, or start another run."
        ) from None


def _fit(run: Run, base: Base, report: Callable[[Step], None], say: Say) -> Fitted:
    recipe = run.recipe
    weights = base_model.weights_folder(base, say)
    template = Template.load(weights)
    dialogues = read_dialogues(run.sources)
    examples = render_all(dialogues, template, recipe.max_tokens)
    for line in examples.cut:
        say(line)
    lengths = [len(example.ids) for example in examples.rendered]
    batches = plan(lengths, recipe)
    size = accumulation(recipe)
    tokens_by_step = [
        sum(lengths[number] for batch in batches[start : start + size] for number in batch)
        for start in range(0, len(batches), size)
    ]
    say(
        f"{len(lengths)} dialogues, {examples.tokens:,} tokens, {examples.supervised / examples.tokens:.0%} supervised; "
        f"{len(tokens_by_step)} steps of {recipe.dialogues_per_step} dialogues"
    )

    dtype = fast_dtype()
    model = load_for_training(weights, recipe, dtype)
    watch = _Watch(run.folder / "log.jsonl", tokens_by_step, report)
    trainer = _SupervisedTrainer(
        model=model,
        args=_arguments(run, len(tokens_by_step), steps_per_epoch(len(lengths), recipe), dtype),
        train_dataset=MicroBatches(examples.rendered, batches, pad_id=template.stop_id),
        data_collator=collate,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = _last_checkpoint(run)
    before = signal.signal(signal.SIGINT, watch.stop), signal.signal(signal.SIGTERM, watch.stop)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    if watch.failed_at is not None:
        raise ThousandError(
            f"The loss became {watch.last_loss} at step {watch.failed_at}; lower learning_rate "
            f"(it is {recipe.learning_rate:g}) and start a new run."
        )
    if watch.interrupted and trainer.state.global_step < len(tokens_by_step):
        raise Interrupted(
            f"Stopped at step {trainer.state.global_step} of {len(tokens_by_step)}; the checkpoint is saved. "
            f"Go on with: thousand train --resume {run.name}"
        )
    measured = {
        "steps": float(trainer.state.global_step),
        "seconds": round(watch.seconds, 1),
        "tokens_per_second": round(watch._done_tokens / watch.seconds, 1) if watch.seconds else 0.0,
        "last_loss": round(watch.last_loss, 4),
        "supervised_share": round(examples.supervised / examples.tokens, 4),
    }
    return Fitted(run, base, template, examples, dialogues, model, measured)


def _last_checkpoint(run: Run) -> str | None:
    folder = run.folder / "checkpoints"
    found: str | None = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    return found
