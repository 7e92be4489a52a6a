"""A release as one GGUF file: the base's own GGUF with the adapter's changes added to the weights it touches.

Every other tensor, the tokenizer and all metadata are copied byte for byte. The touched matrices are dequantised,
changed and written as Q8_0 (gguf-py writes Q4_0, Q5_0, Q8_0 and bf16, not the K types).
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from assistant.errors import ThousandError

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all)."""

PERMUTED_ARCHITECTURES = frozenset({"llama", "mistral", "mixtral"})
"""Families whose GGUF files hold query and key rows in another order than their safetensors."""


def _adapter_deltas(adapter: Path) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Module name (as in `model.layers.0.self_attn.q_proj`) to its LoRA factors A (rank, in) and scaled B (out, rank)."""
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


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == gguf.Keys.General.ARCHITECTURE:
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, element)


def _merged(tensor: Any, factors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> NDArray[np.float32]:
    first, second = factors
    weight: NDArray[np.float32] = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    return weight + second @ first


def merge(base: Path, adapter: Path, target: Path, progress: Progress = lambda done, total: None) -> None:
    """Write `base` (GGUF) with the LoRA adapter in the folder `adapter` merged in, to `target`.

    Raises ThousandError when the adapter touches weights that the file does not hold, or when the
    architecture keeps them in another order.
    """
    reader = gguf.GGUFReader(base)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    if architecture in PERMUTED_ARCHITECTURES:
        raise ThousandError(
            f"Merging an adapter into a GGUF file of architecture {architecture!r} is not supported; serve it with --engine transformers."
        )
    layers = reader.fields[f"{architecture}.block_count"].contents()
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, layers)
    deltas = _adapter_deltas(adapter)
    by_tensor = {f"{names.get_name(module)}.weight": factors for module, factors in deltas.items()}
    missing = set(by_tensor) - {tensor.name for tensor in reader.tensors}
    if missing:
        raise ThousandError(
            f"{adapter} was trained on another base model: {base.name} has no {', '.join(sorted(missing)[:3])}."
        )

    writer = gguf.GGUFWriter(target, architecture)
    _copy_metadata(reader, writer)
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
