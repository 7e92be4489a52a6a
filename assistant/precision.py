"""The number format that this machine multiplies fastest."""

import time
from functools import cache

import torch


@cache
def fast_dtype() -> torch.dtype:
    """bfloat16 where this machine multiplies it faster than float32, else float32; found by trying (about 0.2 s).

    A CPU has to have instructions for it (avx512_bf16, AMX); without them bfloat16 is emulated and several times slower.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float32
    seconds = {dtype: _product_seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=lambda dtype: seconds[dtype])


def _product_seconds(dtype: torch.dtype, device: str) -> float:
    """The best of three matrix products of the size that training does most."""
    left, right = torch.ones(1024, 640, dtype=dtype, device=device), torch.ones(640, 2048, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        (left @ right).sum().item()
        best = min(best, time.perf_counter() - began)
    return best
