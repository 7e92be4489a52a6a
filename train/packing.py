"""Several dialogues in one row of tokens, with no padding and no attention from one to another.

The linear layers of a transformer see one row of T tokens; only attention has to know where a dialogue begins and ends.
It is computed here dialogue by dialogue, in blocks of queries, so neither padding nor a mask of T by T exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.modeling_utils import AttentionInterface

from assistant.errors import ThousandError

ATTENTION = "packed_dialogues"
"""The name under which transformers' models find `packed_attention`."""

QUERIES_AT_ONCE = 256
"""Queries in one block: keys after a block's last query, and before its window, are not multiplied."""


@dataclass(frozen=True)
class Block:
    """Queries `first:end` of a row, the keys `keys:end` that some of them see, and which of those each does not see."""

    first: int
    end: int
    keys: int
    hidden: Tensor
    """Boolean (end - first, 1, end - keys)."""


def blocks(starts: list[int], window: int | None, device: torch.device) -> Iterator[Block]:
    """The blocks of a row in which dialogue k holds the tokens `starts[k]:starts[k + 1]`.

    With a sliding window a query sees itself and the `window - 1` tokens before it.
    """
    for start, end in pairwise(starts):
        for first in range(start, end, QUERIES_AT_ONCE):
            last = min(end, first + QUERIES_AT_ONCE)
            keys = start if window is None else max(start, first - window + 1)
            query = torch.arange(first, last, device=device)[:, None]
            key = torch.arange(keys, last, device=device)[None, :]
            hidden = key > query
            if window is not None:
                hidden |= key <= query - window
            yield Block(first, last, keys, hidden[:, None, :])


@dataclass
class Packing:
    """Where the dialogues of a row stand: dialogue k holds the tokens `starts[k]:starts[k + 1]`."""

    starts: list[int]
    _blocks: dict[int | None, list[Block]] = field(default_factory=dict, repr=False)

    def blocks(self, window: int | None, device: torch.device) -> list[Block]:
        """The row's blocks, made once for all layers that share a window."""
        if window not in self._blocks:
            self._blocks[window] = list(blocks(self.starts, window, device))
        return self._blocks[window]


class _Attention(torch.autograd.Function):
    """Heads that share keys and values are rows of one matrix, so a block is two matrix products."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, plan: list[Block], scale: float) -> Tensor:
        groups = k.shape[1]
        heads = q.shape[1] // groups
        out = q.new_empty(*q.shape[:2], v.shape[-1])
        kept = []
        for block in plan:
            n, seen = block.end - block.first, block.end - block.keys
            queries = _rows(q[block.first : block.end], groups)  # (groups, n * heads, size)
            keys, values = k[block.keys : block.end].transpose(0, 1), v[block.keys : block.end].transpose(0, 1)
            scores = (queries @ keys.transpose(1, 2)).mul_(scale).view(groups, n, heads, seen)
            share = torch.softmax(scores.masked_fill_(block.hidden, float("-inf")), -1).view(groups, n * heads, seen)
            _put_rows(out[block.first : block.end], share @ values)
            kept.append(share)
        ctx.save_for_backward(q, k, v, out, *kept)
        ctx.plan, ctx.scale = plan, scale  # type: ignore[attr-defined]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        q, k, v, out, *kept = ctx.saved_tensors
        groups = k.shape[1]
        of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        # What the softmax's derivative subtracts (FlashAttention, Dao et al. 2022, appendix B.2).
        inner = torch.linalg.vecdot(gradient.float(), out.float()).unsqueeze(-1).to(q.dtype)  # (T, H, 1)
        for block, share in zip(ctx.plan, kept, strict=True):
            queries, seen = slice(block.first, block.end), slice(block.keys, block.end)
            of_out = _rows(gradient[queries], groups)
            of_v[seen] += (share.transpose(1, 2) @ of_out).transpose(0, 1)
            of_scores = of_out @ v[seen].permute(1, 2, 0)
            of_scores.sub_(_rows(inner[queries], groups)).mul_(share).mul_(ctx.scale)
            _put_rows(of_q[queries], of_scores @ k[seen].transpose(0, 1))
            of_k[seen] += (of_scores.transpose(1, 2) @ _rows(q[queries], groups)).transpose(0, 1)
        return of_q, of_k, of_v, None, None


def _rows(tokens: Tensor, groups: int) -> Tensor:
    """(n, heads, size) to (groups, n * heads / groups, size); a view when all heads share one group."""
    n, heads, size = tokens.shape
    return tokens.reshape(n, groups, heads // groups, size).transpose(0, 1).reshape(groups, -1, size)


def _put_rows(target: Tensor, rows: Tensor) -> None:
    """The inverse of `_rows`, into `target` (n, heads, size)."""
    n, heads, size = target.shape
    groups = rows.shape[0]
    target.view(n, groups, heads // groups, size).copy_(rows.view(groups, n, -1, size).transpose(0, 1))


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packing: Packing | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface for one row of packed dialogues.

    query (1, H, T, D), key and value (1, G, T, D) with H a multiple of G; returns (1, T, H, D). Causal inside each dialogue.
    Raises ThousandError for a variant of attention that it does not compute.
    """
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if packing is None or unknown or query.shape[0] != 1:
        raise ThousandError(f"Packed attention does not know {', '.join(unknown) or 'a batch without its packing'}.")
    # Under autocast rotary positions leave queries and keys in float32, and the backward pass knows no autocast.
    q, k, v = (part[0].transpose(0, 1).to(value.dtype).contiguous() for part in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast(q.device.type, enabled=False):
        out: Tensor = _Attention.apply(q, k, v, packing.blocks(sliding_window, q.device), scale)  # type: ignore[no-untyped-call]
    return out.unsqueeze(0), None


AttentionInterface.register(ATTENTION, packed_attention)
