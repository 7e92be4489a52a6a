"""How fast this machine trains, found by trying, before it is asked to do so for long."""

import time
from collections.abc import Sequence

import torch

from assistant import base_model
from assistant.base_model import Base, Say
from assistant.dialogue import Dialogue
from assistant.precision import fast_dtype
from assistant.template import Template
from assistant.vocabulary import with_vocabulary
from train.batches import micro_batches, pack, render_all
from train.model import load_for_training
from train.recipe import Recipe

MICRO_BATCHES = 3
"""The first one warms up and is not counted."""


def tokens_per_second(base: Base, recipe: Recipe, dialogues: Sequence[Dialogue], say: Say) -> float:
    """The rate of a few micro-batches, forward and backward. Optimizer steps cost little beside them.

    Raises ThousandError when the base cannot be had, or nothing in the dialogues is supervised.
    """
    weights = base_model.weights_folder(with_vocabulary(base, recipe.vocabulary, say), say)
    examples = render_all(dialogues, Template.load(weights, recipe.stop), recipe.max_tokens).rendered
    lengths = [len(example.ids) for example in examples]
    parts = micro_batches(range(len(examples)), lengths, recipe.tokens_per_micro_batch)
    middle = len(parts) // 2  # they stand in the order of their longest dialogue
    tried = (parts[middle:] + parts[:middle])[:MICRO_BATCHES]
    dtype = fast_dtype()
    learner = load_for_training(weights, recipe, dtype)
    learner.train()
    device = learner.causal.device
    tokens, began = 0, time.perf_counter()
    for number, part in enumerate(tried):
        if number == 1:
            tokens, began = 0, time.perf_counter()
        packed = pack([examples[index] for index in part])
        inputs = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in packed.items()
        }
        with torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=recipe.method == "full" and dtype != torch.float32
        ):
            loss = learner(**inputs)
        loss.backward()
        tokens += sum(lengths[index] for index in part)
    return tokens / (time.perf_counter() - began)
