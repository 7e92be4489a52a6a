"""Whether a run fits into memory, told before it begins: a machine that runs out kills without a word."""

import psutil
import torch
from torch import Tensor, nn

from assistant.errors import ThousandError
from train.kernels import POSITIONS_AT_ONCE
from train.model import Learner
from train.recipe import Recipe

_TOKENS = 64
_MARGIN = 0.85
"""Of the memory that is free, so much is counted on; allocators and others take some too."""


def device() -> torch.device:
    """Where models are trained."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def available() -> int:
    """Free bytes where the model is trained: on the GPU, or of the machine."""
    if device().type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def to_be_moved(model: nn.Module, target: torch.device) -> int:
    """Bytes of the weights that are not on the target device yet, and will take room there."""
    return sum(weight.nbytes for weight in [*model.parameters(), *model.buffers()] if weight.device.type != target.type)


def kept_bytes(learner: Learner, tokens: int, mixed: bool) -> int:
    """Bytes that the forward pass of a row of so many tokens keeps for the backward pass."""
    seen: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in learner.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    embeddings = learner.causal.get_input_embeddings().weight
    row = torch.arange(tokens, device=embeddings.device)[None]
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(embeddings.device.type, dtype=torch.bfloat16, enabled=mixed),
    ):
        held = learner(row % embeddings.shape[0], row, torch.full((tokens,), -100, device=row.device), [0, tokens])
    del held
    return sum(seen.values())


def needed(learner: Learner, recipe: Recipe, tokens: int, mixed: bool) -> tuple[float, float]:
    """Bytes that training needs beside the weights: whatever the micro-batch, and for each of its tokens."""
    trained = sum(weight.numel() for weight in learner.trainable().values())
    vocabulary, width = learner.causal.get_input_embeddings().weight.shape
    # A gradient and AdamW's two moments, float32; one part of the logits, and what is made of it.
    fixed = 12.0 * trained + 10.0 * vocabulary * min(tokens, POSITIONS_AT_ONCE)
    if recipe.method == "full":  # the head's gradient in the making, and its cast
        fixed += 10.0 * vocabulary * width
    short, long = (kept_bytes(learner, tokens, mixed) for tokens in (_TOKENS, 2 * _TOKENS))
    each = (long - short) / _TOKENS
    return fixed + short - _TOKENS * each, each


def check_memory(learner: Learner, recipe: Recipe, longest: int, mixed: bool) -> None:
    """Raises ThousandError saying which number to lower, and to what, when the biggest micro-batch cannot fit.

    `longest` is the longest dialogue in tokens.
    """
    tokens = max(longest, recipe.tokens_per_micro_batch)
    fixed, each = needed(learner, recipe, tokens, mixed)
    fixed += to_be_moved(learner, device())
    room = available() * _MARGIN
    if fixed + tokens * each <= room:
        return
    fits = int((room - fixed) / each)
    wanted = f"Training needs about {(fixed + tokens * each) / 1e9:.1f} GB, and {available() / 1e9:.1f} GB are free"
    if fits >= longest:
        raise ThousandError(
            f"{wanted}: lower tokens_per_micro_batch from {recipe.tokens_per_micro_batch} to {fits}, "
            f"with --set tokens_per_micro_batch={fits}."
        )
    if fits >= 64:
        raise ThousandError(
            f"{wanted}: lower max_tokens from {recipe.max_tokens} to {fits} (longer dialogues are cut), "
            f"with --set max_tokens={fits} --set tokens_per_micro_batch={fits}."
        )
    raise ThousandError(f"{wanted}: free some memory, or choose a smaller base model.")
