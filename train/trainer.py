"""transformers' Trainer for planned optimizer steps: the loss of a whole step, and checkpoints of what is learnt.

An item of the data is one optimizer step with its micro-batches, so their number may differ from step to step, and the
loss is divided by the number of supervised tokens of all of them, in every process.
"""

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from assistant.errors import ThousandError
from assistant.files import sync_files, write_text
from train import processes
from train.batches import collate
from train.model import Learner
from train.recipe import Recipe

WEIGHTS = "weights.safetensors"
WHOLE = "whole"
"""The file in a checkpoint that is written last, once everything else is on the disk."""

_ONLY_TO_RESUME = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "training_args.bin", WHOLE)


class StepTrainer(Trainer):  # type: ignore[misc]
    """Trainer over `batches.Steps`, with a `Learner` as its model."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One item is one step of this process already: accelerate has nothing to divide."""
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=collate)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Forward and backward of every micro-batch of one optimizer step; returns this process's part of the loss."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        parts = inputs["parts"]
        # Several processes average their gradients, so each must weigh as much as all of them together.
        weight = self.accelerator.num_processes / inputs["supervised"]
        loss = torch.zeros((), device=self.args.device)
        for number, part in enumerate(parts, 1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    part_loss = model(**part) * weight
                self.accelerator.backward(part_loss)
            loss += part_loss.detach()
        return loss

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        held = {name: weight.detach().cpu().contiguous() for name, weight in self.model.trainable().items()}
        save_file(held, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if processes.rank() == 0:
            (folder / WHOLE).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)
        processes.wait()
        if processes.rank() == 0:
            sync_files(folder)
            write_text(folder / WHOLE, "")
            for earlier in whole_checkpoints(folder.parent)[:-1]:
                _keep_weights_only(earlier)


def load_weights(learner: Learner, checkpoint: Path) -> None:
    """Put a checkpoint's weights into a learner. Raises ThousandError when they are those of another recipe."""
    held = load_file(checkpoint / WEIGHTS)
    if held.keys() != learner.trainable().keys():
        raise ThousandError(f"{checkpoint} holds other weights than this recipe trains; start a new run.")
    learner.load_state_dict(held, strict=False)


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def whole_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder that can be gone on with, oldest first."""
    return sorted((path.parent for path in folder.glob(f"checkpoint-*/{WHOLE}")), key=step_of)


def weights_of(folder: Path, step: int) -> Path:
    """The checkpoint of a step, whether it can be gone on with or only holds its weights."""
    return folder / f"checkpoint-{step}"


def _keep_weights_only(checkpoint: Path) -> None:
    """What only going on needs is several times as big as the weights, and only the newest is gone on with."""
    for pattern in reversed(_ONLY_TO_RESUME):
        for path in checkpoint.glob(pattern):
            path.unlink()


def forget(checkpoint: Path) -> None:
    """Remove a checkpoint with its weights."""
    shutil.rmtree(checkpoint, ignore_errors=True)


def arguments(folder: Path, recipe: Recipe, steps: int, dtype: torch.dtype) -> TrainingArguments:
    """Trainer's arguments for a run of so many optimizer steps."""
    on_cpu = not torch.cuda.is_available()
    made = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"lr_end": recipe.learning_rate * recipe.final_rate_share, "power": 1.0},
        warmup_steps=0,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        # With LoRA the frozen weights are held in the fast type themselves.
        bf16=dtype == torch.bfloat16 and recipe.method == "full",
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `watch.Watch` says when
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
    )
    # accelerate's own configuration does not change what the recipe says.
    made.mixed_precision = "bf16" if made.bf16 else "no"
    # Of several GPUs one process uses one: Trainer would split a micro-batch over them, which is whole already.
    made._n_gpu = min(made.n_gpu, 1)
    return made
