"""The few operations that a training step spends its time in, each as one autograd function.

PyTorch's own ways of doing them cast, copy or keep more than is needed: under autocast a LoRA layer casts its input and
its factors at each use, a norm keeps four float32 copies of its input for the backward pass, and the cross-entropy of a
large vocabulary keeps the logits of all positions. The mathematics is the same; `tests/invariants` compares them.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

POSITIONS_AT_ONCE = 256
"""Positions whose logits exist at the same time; fewer read the head's weights more often."""


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a_cast, b_cast = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = rows @ a_cast.t()
        out = functional.linear(rows, weight, bias)
        out.addmm_(inner, b_cast.t())
        ctx.save_for_backward(rows, weight, a_cast, b_cast, inner)
        ctx.shape, ctx.scale = x.shape, scale  # type: ignore[attr-defined]
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        rows, weight, a, b, inner = ctx.saved_tensors
        of_out = gradient.reshape(-1, gradient.shape[-1])
        of_inner = of_out @ b
        of_b = (of_out.t() @ inner).float() * ctx.scale
        of_a = (of_inner.t() @ rows).float()
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (of_out @ weight).addmm_(of_inner, a).view(ctx.shape)
        return of_x, None, None, of_a, of_b, None


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """A frozen linear layer with LoRA (Hu et al. 2021, section 4.1): `x Wᵀ + bias + scale · x Aᵀ Bᵀ`.

    x (..., in) and weight (out, in) share one dtype, in which everything is multiplied; the factors a (rank, in) and
    b (out, rank) and their gradients stay float32.
    """
    out: Tensor = _LoraLinear.apply(x, weight, bias, a, b, scale)  # type: ignore[no-untyped-call]
    return out


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        inverse = torch.linalg.vecdot(wide, wide).unsqueeze(-1).div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        out: Tensor = (wide * inverse).mul_(weight).to(x.dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        x, weight, inverse = ctx.saved_tensors
        of_normed = gradient.float() * weight
        normed = x.float() * inverse
        mean = torch.linalg.vecdot(of_normed, normed).unsqueeze(-1).div_(x.shape[-1])
        return of_normed.addcmul_(normed, mean, value=-1).mul_(inverse).to(x.dtype), None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension with a frozen float32 `weight` (D,), computed in float32."""
    out: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        of_hidden = torch.empty_like(hidden)
        train_head = weight.requires_grad
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if train_head else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and bias.requires_grad else None
        cast = weight.to(hidden.dtype)
        # Kept for all parts: blocks of this size go back to the system when they are freed, and come back page by page.
        room = (min(POSITIONS_AT_ONCE, len(labels)), weight.shape[0])
        all_logits, all_probabilities = hidden.new_empty(room), hidden.new_empty(room, dtype=torch.float32)
        loss = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(labels), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            target = labels[part].unsqueeze(1)
            logits, probabilities = all_logits[: len(target)], all_probabilities[: len(target)]
            if bias is None:
                torch.mm(hidden[part], cast.t(), out=logits)
            else:
                torch.addmm(bias.to(hidden.dtype), hidden[part], cast.t(), out=logits)
            torch.softmax(logits, -1, dtype=torch.float32, out=probabilities)
            logged = probabilities.gather(1, target).log()
            if logged.isinf().any():  # a probability too small for float32 has a logarithm all the same
                logged = torch.log_softmax(logits.float(), -1).gather(1, target)
            loss -= logged.sum()
            of_logits = probabilities.scatter_add_(1, target, torch.full_like(target, -1, dtype=torch.float32))
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            of_logits = logits.copy_(of_logits)
            torch.mm(of_logits, cast, out=of_hidden[part])
            if of_weight is not None:
                of_weight += of_logits.t() @ hidden[part]
        ctx.save_for_backward(of_hidden, of_weight, of_bias)  # type: ignore[arg-type]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        parts = [None if part is None else part * gradient.to(part.dtype) for part in ctx.saved_tensors]
        return parts[0], parts[1], parts[2], None


def head_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """Summed cross-entropy (nats) of the output head at some positions, with its gradient taken on the way.

    hidden (N, D), weight (V, D), labels (N,). The logits of at most `POSITIONS_AT_ONCE` positions exist at a time, so
    memory does not grow with N times V.
    """
    loss: Tensor = _HeadLoss.apply(hidden, weight, bias, labels)  # type: ignore[no-untyped-call]
    return loss
