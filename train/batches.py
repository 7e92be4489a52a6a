"""Dialogues to token batches: deterministic and resumable.

The whole run is planned ahead: a list of optimizer steps that depends on nothing but the dialogues' lengths, the recipe
and its seed. Resuming is going on at a place in that list.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

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
    dialogues: list[Dialogue]
    """Those that they were made from, whole."""
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
    learnt: list[Dialogue] = []
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
            learnt.append(dialogue)
    check_supervised(examples)
    return Examples(examples, learnt, cut)


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


def plan(lengths: Sequence[int], recipe: Recipe, repeats: Sequence[int] | None = None) -> list[list[int]]:
    """The run as optimizer steps, each a list of example numbers.

    `repeats` says how often an epoch shows each example, once by default. Each epoch is a new permutation; dialogues
    flow over epoch ends, so only the very last step may be short.
    """
    random = np.random.default_rng(recipe.seed)
    pool = np.repeat(np.arange(len(lengths)), 1 if repeats is None else repeats)
    total = math.ceil(len(pool) * recipe.epochs)
    order: list[int] = []
    while len(order) < total:
        order.extend(int(index) for index in random.permutation(pool))
    order = order[:total]
    return [order[start : start + recipe.dialogues_per_step] for start in range(0, total, recipe.dialogues_per_step)]


def micro_batches(
    step: Sequence[int], lengths: Sequence[int], limit: int, rank: int = 0, processes: int = 1
) -> list[list[int]]:
    """What one process does of a step: its examples, packed into micro-batches of at most `limit` tokens.

    The longest example goes first, to the process with the least to do. Every process has something to do in every
    step (an example counted elsewhere, when there are fewer than processes), since all of them wait for each other.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for number in sorted(step, key=lambda index: (-lengths[index], index)):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += lengths[number]
    batches: list[list[int]] = []
    sizes: list[int] = []
    for number in shares[rank]:
        place = next((at for at, size in enumerate(sizes) if size + lengths[number] <= limit), None)
        if place is None:
            batches.append([number])
            sizes.append(lengths[number])
        else:
            batches[place].append(number)
            sizes[place] += lengths[number]
    return batches


def checkpoints(steps: int, recipe: Recipe) -> list[int]:
    """After which of so many optimizer steps a checkpoint is saved: each epoch's last, or every so many, and the last."""
    if recipe.checkpoint_steps:
        wanted = set(range(recipe.checkpoint_steps, steps, recipe.checkpoint_steps))
    else:
        wanted = {math.ceil(epoch * steps / recipe.epochs) for epoch in range(1, math.ceil(recipe.epochs))}
    return sorted({*wanted, steps})


def pack(examples: Sequence[Rendered]) -> dict[str, Any]:
    """One row of dialogues behind one another.

    `input_ids` and `position_ids` are int64 of shape (1, T), positions beginning at 0 in each dialogue; `labels` (T,) are
    already shifted: position t holds the token to predict after it. `starts` are where dialogues begin, and T.
    """
    starts = [0, *accumulate(len(example.ids) for example in examples)]
    ids = [token for example in examples for token in example.ids]
    positions = [position for example in examples for position in range(len(example.ids))]
    labels = [label for example in examples for label in example.labels]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor(labels),
        "starts": starts,
    }


class Steps(Dataset[dict[str, Any]]):
    """The planned run as one process sees it: item i is optimizer step i.

    `parts` are its micro-batches as made by `pack`, `supervised` is the number of supervised tokens of the whole step,
    over all processes.
    """

    def __init__(
        self,
        examples: Sequence[Rendered],
        steps: Sequence[Sequence[int]],
        limit: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self._examples, self._steps, self._limit = examples, steps, limit
        self._rank, self._processes = rank, processes
        self._lengths = [len(example.ids) for example in examples]

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        step = self._steps[index]
        parts = micro_batches(step, self._lengths, self._limit, self._rank, self._processes)
        made = [pack([self._examples[number] for number in part]) for part in parts]
        if not made:
            idle = pack([self._examples[step[0]]])
            made = [{**idle, "labels": torch.full_like(idle["labels"], IGNORE)}]
        return {"parts": made, "supervised": sum(self._examples[number].supervised for number in step)}


def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """A data loader's batch of one step is that step."""
    (only,) = batch
    return only
