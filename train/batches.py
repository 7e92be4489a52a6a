"""Dialogues to token batches: deterministic and resumable.

The whole run is planned ahead: a list of micro-batches that depends on nothing but the dialogues' lengths, the recipe
and its seed. Resuming is going on at a place in that list.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from assistant.template import IGNORE, Rendered, Template
from train.recipe import Recipe


@dataclass(frozen=True)
class Examples:
    """What a run learns from."""

    rendered: list[Rendered]
    """Without what follows the last supervised position: nothing is learnt there."""
    files: list[str]
    """The file that each of them came from."""
    cut: list[str]
    """One sentence for each dialogue that did not fit whole, or from which nothing is learnt."""

    @property
    def tokens(self) -> int:
        return sum(len(example.ids) for example in self.rendered)

    @property
    def supervised(self) -> int:
        return sum(example.supervised for example in self.rendered)


def _trimmed(rendered: Rendered) -> Rendered:
    last = max(index for index, label in enumerate(rendered.labels) if label != IGNORE)
    return Rendered(rendered.ids[: last + 1], rendered.labels[: last + 1], rendered.turn_ends)


def render_all(dialogues: Sequence[Dialogue], template: Template, max_tokens: int) -> Examples:
    """Render dialogues for training, none longer than `max_tokens`.

    Raises ThousandError when nothing, or everything, is supervised: then there is nothing to learn, or the prompts
    would be learnt too.
    """
    examples: list[Rendered] = []
    files: list[str] = []
    cut: list[str] = []
    for dialogue in dialogues:
        fitted = template.render_within(dialogue.messages, max_tokens)
        if not dialogue.answers:
            cut.append(f"{dialogue.where}: has no assistant turn, so nothing is learnt from it")
            continue
        if fitted.report:
            cut.append(f"{dialogue.where}: {fitted.report}")
        if fitted.rendered.supervised:
            examples.append(_trimmed(fitted.rendered))
            files.append(dialogue.where.rpartition(":")[0])
    check_supervised(examples)
    return Examples(examples, files, cut)


def check_supervised(examples: Sequence[Rendered]) -> None:
    """Raises ThousandError when 0 % or 100 % of the tokens are supervised."""
    tokens = sum(len(example.ids) for example in examples)
    supervised = sum(example.supervised for example in examples)
    if supervised == 0:
        raise ThousandError(
            "Nothing is supervised: no dialogue has an assistant turn that fits. Check the data, or raise max_tokens."
        )
    if supervised == tokens:
        raise ThousandError(
            "Every token is supervised, the prompts too: the loss mask is broken, so the run was not started."
        )


def plan(lengths: Sequence[int], recipe: Recipe) -> list[list[int]]:
    """The run as micro-batches of example numbers, `accumulation(recipe)` of them for each optimizer step.

    Each epoch is a new permutation; dialogues flow over epoch ends, so only the very last step may be short. Inside a
    step dialogues are ordered by length, so that a micro-batch holds little padding.
    """
    random = np.random.default_rng(recipe.seed)
    total = math.ceil(len(lengths) * recipe.epochs)
    order: list[int] = []
    while len(order) < total:
        order.extend(int(index) for index in random.permutation(len(lengths)))
    order = order[:total]
    batches: list[list[int]] = []
    for start in range(0, total, recipe.dialogues_per_step):
        step = sorted(order[start : start + recipe.dialogues_per_step], key=lambda index: lengths[index])
        size = recipe.dialogues_per_micro_batch
        batches.extend(step[offset : offset + size] for offset in range(0, len(step), size))
    return batches


def accumulation(recipe: Recipe) -> int:
    """Micro-batches in one optimizer step."""
    return recipe.dialogues_per_step // recipe.dialogues_per_micro_batch


def steps_per_epoch(examples: int, recipe: Recipe) -> int:
    """Optimizer steps in one pass over the examples, at least 1."""
    return max(1, round(examples / recipe.dialogues_per_step))


class MicroBatches(Dataset[dict[str, torch.Tensor]]):
    """The planned run: item i is micro-batch i, padded on the right.

    `input_ids`, `attention_mask` and `labels` are int64 of shape (B, T). `labels` are already shifted: position t
    holds the token to predict after it. Trainer counts them under the name `shift_labels`.
    """

    def __init__(self, examples: Sequence[Rendered], batches: Sequence[Sequence[int]], pad_id: int) -> None:
        self._examples, self._batches, self._pad_id = examples, batches, pad_id

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        chosen = [self._examples[number] for number in self._batches[index]]
        longest = max(len(example.ids) for example in chosen)
        shape = (len(chosen), longest)
        ids = torch.full(shape, self._pad_id, dtype=torch.int64)
        labels = torch.full(shape, IGNORE, dtype=torch.int64)
        mask = torch.zeros(shape, dtype=torch.int64)
        for row, example in enumerate(chosen):
            length = len(example.ids)
            ids[row, :length] = torch.tensor(example.ids)
            labels[row, :length] = torch.tensor(example.labels)
            mask[row, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "shift_labels": labels, "labels": labels}


def collate(batch: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A data loader's batch of one micro-batch is that micro-batch."""
    (only,) = batch
    return only
