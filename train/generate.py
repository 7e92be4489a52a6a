"""The answers of a model in training to many prompts at once, in this process, leaving no trace in the training.

All unfinished answers take their next token together, which on two cores is many times faster than one answer after
the other: the weights are read once for all rows. What an answer says does not depend on who else is in the batch.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.base import TokenText

Model: TypeAlias = PreTrainedModel | PeftModel

ROWS = 64
"""Answers generated together; memory grows with it (3 x 4 bytes a row and token of the vocabulary, and the cache)."""

PREFILL = 32
"""Columns of prompts read at a time. A row joins when its prompt begins, so short prompts are not padded to the longest."""

LIKELIEST = 512
"""Tokens looked at before all of them are sorted, which is needed only where the nucleus is wider."""


@dataclass(frozen=True)
class Generated:
    """One answer."""

    text: str
    tokens: int
    """Without the stop token."""
    stopped: bool
    """It ended by itself, before the longest length allowed."""


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """The model as it answers: no dropout, ordinary attention. Afterwards every module is in the mode it was in."""
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    modes = [(module, module.training) for module in model.modules()]
    attention = causal.config._attn_implementation
    model.eval()
    if attention not in ("eager", "sdpa"):
        # An attention made for training (packed rows) knows no cache.
        causal.set_attn_implementation("sdpa" if causal._supports_sdpa else "eager")
    try:
        yield
    finally:
        if causal.config._attn_implementation != attention:
            causal.set_attn_implementation(attention)
        for module, training in modes:
            module.training = training


def _nucleus_draw(ordered: Tensor, points: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Draw from the nucleus of `ordered` probabilities (B, K), falling, by the inverse of its distribution function.

    `points` (B,) are uniform in [0, 1). Returns places (B,) and whether each row's nucleus ends within K.
    """
    sums = ordered.cumsum(-1)
    outside = sums - ordered >= top_p
    outside[:, 0] = False
    last = (~outside).sum(-1, keepdim=True) - 1  # (B, 1)
    point = points[:, None] * sums.gather(1, last)
    places = torch.minimum((sums <= point).sum(-1, keepdim=True), last)[:, 0]
    return places, sums[:, -1] >= top_p


def next_tokens(
    logits: Tensor, generated: Tensor, points: Tensor, sampling: Sampling, likeliest: int = LIKELIEST
) -> Tensor:
    """The next token (B,) of each row of `logits` (B, V): repetition penalty, then temperature, then nucleus.

    The same meaning as the PyTorch engine's `next_token`. `generated` (B, t) are the tokens of each answer so far, which
    never hold the stop token; `points` (B,) are uniform in [0, 1), one for each row's draw. Only the `likeliest` tokens
    are ordered, and all of them in the rows whose nucleus is wider.
    """
    scores = logits.float()
    if sampling.repetition_penalty != 1 and generated.shape[1]:
        used = scores.gather(1, generated)
        penalised = torch.where(used > 0, used / sampling.repetition_penalty, used * sampling.repetition_penalty)
        scores = scores.scatter(1, generated, penalised)
    if sampling.temperature == 0:
        return scores.argmax(-1)
    scores = scores / sampling.temperature
    total = scores.logsumexp(-1, keepdim=True)
    values, order = scores.topk(min(likeliest, scores.shape[1]))
    places, whole = _nucleus_draw((values - total).exp(), points, sampling.top_p)
    tokens = order.gather(1, places[:, None])[:, 0]
    wide = (~whole).nonzero()[:, 0]
    if len(wide) and values.shape[1] < scores.shape[1]:
        values, order = scores[wide].sort(descending=True)
        places, _ = _nucleus_draw((values - total[wide]).exp(), points[wide], sampling.top_p)
        tokens[wide] = order.gather(1, places[:, None])[:, 0]
    return tokens


def _points(prompt: Sequence[int], sampling: Sampling) -> Tensor:
    """The random numbers (max_tokens,) of one answer: a stream of its own, from the seed and the prompt.

    They are drawn on the CPU, so that every device draws the same.
    """
    random = torch.Generator()
    if sampling.seed is None:
        random.seed()
    else:
        digest = hashlib.sha256(f"{sampling.seed} {list(prompt)}".encode()).digest()
        random.manual_seed(int.from_bytes(digest[:6]))
    return torch.rand(sampling.max_tokens, generator=random)


@dataclass
class _Batch:
    """Prompts read into one cache, aligned at their ends, the longest first."""

    cache: DynamicCache
    mask: Tensor
    """(B, T): 1 where a column of the cache holds a token of the row."""
    logits: Tensor
    """(B, V), after the last token of each prompt."""


def _read(model: Model, prompts: Sequence[Sequence[int]]) -> _Batch:
    """Read prompts, the longest first, into a cache.

    Some columns at a time are read of the rows whose prompts have begun. A row that joins takes a copy of another row's
    cache, which its mask hides, so that only tokens are read and no padding but up to PREFILL columns a row.
    """
    device = model.device
    width = len(prompts[0])
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    starts = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    columns = torch.arange(width, device=device)
    mask = (columns >= starts[:, None]).long()
    positions = (columns - starts[:, None]).clamp(min=0)
    cache = DynamicCache(config=model.config)
    joined = 0
    for first in range(0, width, PREFILL):
        end = min(first + PREFILL, width)
        begun = int((starts < end).sum())
        if first and begun > joined:
            cache.batch_select_indices(torch.arange(begun, device=device) % joined)
        joined = begun
        logits = model(
            input_ids=ids[:begun, first:end],
            attention_mask=mask[:begun, :end],
            position_ids=positions[:begun, first:end],
            past_key_values=cache,
            use_cache=True,
            # A number would leave a view with gaps, for which PyTorch's CPU product copies the head once a row.
            logits_to_keep=torch.tensor([end - first - 1], device=device),
        ).logits[:, -1]
    return _Batch(cache, mask, logits)


def _generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    stop_id: int,
    sampling: Sampling,
    context: int,
    ended: Callable[[int, list[int], bool], None],
) -> None:
    """Answer prompts, the longest first; `ended` is told each row's number, tokens and whether it stopped by itself."""
    device = model.device
    batch = _read(model, prompts)
    logits, mask = batch.logits, batch.mask
    points = torch.stack([_points(prompt, sampling) for prompt in prompts]).to(device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    room = (context - lengths).clamp(max=sampling.max_tokens)
    rows = torch.arange(len(prompts), device=device)
    generated = torch.empty(len(prompts), 0, dtype=torch.int64, device=device)
    while True:
        tokens = next_tokens(logits, generated, points[:, generated.shape[1]], sampling)
        stopped = tokens == stop_id
        generated = torch.cat([generated, tokens[:, None]], dim=1)  # (B, t)
        full = generated.shape[1] >= room
        for place in (stopped | full).nonzero()[:, 0].tolist():
            by_itself = bool(stopped[place])
            answer = generated[place].tolist()
            ended(int(rows[place]), answer[:-1] if by_itself else answer, by_itself)
        kept = (~(stopped | full)).nonzero()[:, 0]
        if not len(kept):
            return
        if len(kept) < len(rows):
            batch.cache.batch_select_indices(kept)
            rows, points, room, lengths = rows[kept], points[kept], room[kept], lengths[kept]
            generated, mask = generated[kept], mask[kept]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        logits = model(
            input_ids=generated[:, -1:],
            attention_mask=mask,
            position_ids=(lengths + generated.shape[1] - 1)[:, None],
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]


def _text(template: Template, tokens: Sequence[int]) -> str:
    text = TokenText(template)
    return "".join(map(text.push, tokens)) + text.finish()


@torch.no_grad()
def answer_batch(
    model: Model,
    template: Template,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Generated]:
    """One answer to each prompt, in the prompts' order.

    The model may be in training: it is left as it was found, and no random state but that of the answers is
    drawn from. Each answer has random numbers of its own, from `sampling.seed` and its prompt, so it does not depend on the other
    prompts (but for rounding, which in bfloat16 can turn a near tie). `report` is told how many answers of how many are done.

    Raises ThousandError for a prompt that leaves the model no room for an answer, and for stop strings, which only an
    engine that serves knows.
    """
    if sampling.stop:
        raise ThousandError("Answers in training end by themselves or at max_tokens; leave out the stop strings.")
    ids = [template.prompt(messages) for messages in prompts]
    context: int = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", 1 << 20)
    too_long = [number for number, prompt in enumerate(ids, 1) if len(prompt) >= context]
    if too_long:
        raise ThousandError(
            f"Prompt {too_long[0]} has {len(ids[too_long[0] - 1])} tokens and the model reads {context}; leave it out."
        )
    answers: dict[int, Generated] = {}
    longest_first = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
    with evaluating(model):
        for first in range(0, len(ids), ROWS):
            part = longest_first[first : first + ROWS]

            def ended(row: int, tokens: list[int], stopped: bool, part: list[int] = part) -> None:
                answers[part[row]] = Generated(_text(template, tokens), len(tokens), stopped)
                report(len(answers), len(ids))

            _generate(model, [ids[number] for number in part], template.stop_id, sampling, context, ended)
    return [answers[number] for number in range(len(ids))]
