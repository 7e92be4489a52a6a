"""A release as one GGUF file: the base's own GGUF with the adapter's changes added to the weights it touches.

Every other tensor, the tokenizer and the other metadata are copied byte for byte. The touched matrices are dequantised,
changed and written as Q8_0 (gguf-py writes Q4_0, Q5_0, Q8_0 and bf16, not the K types).
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from assistant.errors import ThousandError

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all)."""

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]
"""LoRA factors of one matrix: A (rank, in) and scaled B (out, rank)."""

Metadata = Mapping[str, tuple[Any, gguf.GGUFValueType]]
"""Keys of a GGUF file to their values and types."""


def row_heads(name: str, heads: int, kv_heads: int) -> int | None:
    """How many heads the rows of a tensor belong to, where llama.cpp's `llama` architecture keeps them in an order of its own."""
    match = re.fullmatch(r"blk\.\d+\.attn_(q|k)\.(weight|bias)", name)
    return {"q": heads, "k": kv_heads}[match[1]] if match else None


def permuted(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Query or key rows (out, ...) from transformers' order, in which rotary positions turn the two halves of a head
    against each other, to llama.cpp's, in which they turn neighbours."""
    paired = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return paired.swapaxes(1, 2).reshape(rows.shape)


def adapter_factors(adapter: Path) -> dict[str, Factors]:
    """Module name (as in `model.layers.0.self_attn.q_proj`) to its LoRA factors.

    Raises ThousandError for an adapter that is more than two factors a matrix.
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("use_rslora") or config.get("use_dora") or config.get("rank_pattern") or config.get("alpha_pattern"):
        raise ThousandError(
            f"{adapter} is a kind of adapter that cannot be merged into GGUF (rsLoRA, DoRA or per-layer ranks); "
            "serve it with --engine transformers."
        )
    scale = config["lora_alpha"] / config["r"]
    factors: dict[str, dict[str, NDArray[np.float32]]] = {}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (safe_open is no dict)
            match = re.fullmatch(r"base_model\.model\.(.+)\.lora_(A|B)\.weight", key)
            if match is None:
                raise ThousandError(
                    f"{adapter} holds a tensor that is no LoRA factor: {key}; serve it with --engine transformers."
                )
            factors.setdefault(match[1], {})[match[2]] = file.get_tensor(key).float().numpy()
    return {module: (pair["A"], pair["B"] * scale) for module, pair in factors.items()}


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, replaced: Metadata) -> None:
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (gguf.Keys.General.ARCHITECTURE, *replaced):
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, element)
    for key, (value, kind) in replaced.items():
        writer.add_key_value(key, value, kind)


def _merged(tensor: Any, factors: Factors) -> NDArray[np.float32]:
    first, second = factors
    weight: NDArray[np.float32] = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    return weight + second @ first


def _factors_by_tensor(reader: gguf.GGUFReader, adapter: Path, architecture: str) -> dict[str, Factors]:
    def number(key: str) -> int:
        value: int = reader.fields[key.format(arch=architecture)].contents()
        return value

    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, number(gguf.Keys.LLM.BLOCK_COUNT))
    by_tensor = {f"{names.get_name(module)}.weight": factors for module, factors in adapter_factors(adapter).items()}
    if kind == gguf.MODEL_ARCH.LLAMA:
        head_counts = number(gguf.Keys.Attention.HEAD_COUNT), number(gguf.Keys.Attention.HEAD_COUNT_KV)
        for name, (first, second) in by_tensor.items():
            heads = row_heads(name, *head_counts)
            by_tensor[name] = (first, permuted(second, heads) if heads else second)
    return by_tensor


def merge(
    base: Path,
    adapter: Path | None,
    target: Path,
    progress: Progress = lambda done, total: None,
    replaced: Metadata = MappingProxyType({}),
) -> None:
    """Write `base` (GGUF) with the LoRA adapter in the folder `adapter` merged in, and some metadata replaced, to `target`.

    Raises ThousandError when the adapter touches weights that the file does not hold.
    """
    reader = gguf.GGUFReader(base)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    by_tensor = {} if adapter is None else _factors_by_tensor(reader, adapter, architecture)
    missing = set(by_tensor) - {tensor.name for tensor in reader.tensors}
    if missing:
        raise ThousandError(
            f"{adapter} was trained on another base model: {base.name} has no {', '.join(sorted(missing)[:3])}."
        )

    writer = gguf.GGUFWriter(target, architecture)
    _copy_metadata(reader, writer, replaced)
    quantised = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        if tensor.name in by_tensor:
            shape = gguf.quant_shape_to_byte_shape([int(size) for size in tensor.shape[::-1]], quantised)
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=quantised)
        else:
            writer.add_tensor_info(
                tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, raw_dtype=tensor.tensor_type
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, tensor in enumerate(reader.tensors, 1):
        data = tensor.data
        if tensor.name in by_tensor:
            data = gguf.quantize(_merged(tensor, by_tensor[tensor.name]), quantised)
        writer.write_tensor_data(data)
        progress(done, len(reader.tensors))
    writer.close()
