"""The number format that this machine multiplies fastest."""

import torch


def fast_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively (a GPU that can; a CPU with avx512_bf16 or AMX), else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32
