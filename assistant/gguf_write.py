"""A model as one GGUF file: a base model, or a release merged with it, for llama.cpp and what is built on it.

A base that has a GGUF file keeps every weight that the adapter does not touch (assistant/gguf_merge.py). A base that is
a folder of safetensors is converted tensor by tensor, each with the adapter's change added in float32: matrices become
Q8_0, or float16 where a row is no multiple of Q8_0's 32 weights, and vectors float32.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from assistant import gguf_merge
from assistant.base_model import Base, loading
from assistant.errors import ThousandError
from assistant.gguf_merge import Factors, Progress, permuted, row_heads
from assistant.gguf_tokenizer import add_tokenizer, template_metadata
from assistant.template import Template

_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
}
"""transformers' `model_type` to llama.cpp's architecture."""


def write_gguf(
    base: Base,
    adapter: Path | None,
    template: Template,
    target: Path,
    progress: Progress = lambda done, total: None,
) -> None:
    """Write `base`, with the LoRA adapter in the folder `adapter` merged in, to `target`.

    Programs that read the file write prompts as `template` does and stop at its stop token.
    Raises ThousandError for an architecture, adapter or tokenizer that cannot be written, or that does not fit the base.
    """
    if base.gguf is not None:
        gguf_merge.merge(base.gguf, adapter, target, progress, template_metadata(template))
    else:
        _convert(base.folder, adapter, template, target, progress)


def _convert(folder: Path, adapter: Path | None, template: Template, target: Path, progress: Progress) -> None:
    from transformers import AutoConfig

    with loading(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    kind = _architecture(config)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    deltas = {} if adapter is None else gguf_merge.adapter_factors(adapter)
    plan = [
        (file, name, _gguf_name(names, name, folder), tuple(shape))
        for file, name, shape in _tensors(folder)
        if not (name == "lm_head.weight" and config.tie_word_embeddings) and not name.endswith("rotary_emb.inv_freq")
    ]
    missing = set(deltas) - {name.removesuffix(".weight") for _, name, _, _ in plan}
    if missing:
        raise ThousandError(
            f"{adapter} was trained on another base model: {folder} has no {', '.join(sorted(missing)[:3])}."
        )
    rows = next(shape[0] for _, _, name, shape in plan if name == "token_embd.weight")

    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[kind])
    _add_hyperparameters(writer, config, kind)
    add_tokenizer(writer, template, rows)
    for key, (value, value_type) in template_metadata(template).items():
        writer.add_key_value(key, value, value_type)
    factors = _rope_factors(config) if _has_llama3_positions(config) else None
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for _, _, name, shape in plan:
        stored = _type_of(shape)
        size = gguf.quant_shape_to_byte_shape(shape, stored)
        writer.add_tensor_info(name, size, np.dtype(np.uint8), int(np.prod(size)), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for done, (file, name, stored_name, shape) in enumerate(plan, 1):
        weight = _weight(file, name, deltas.get(name.removesuffix(".weight")))
        data = _in_llama_cpp_order(weight, stored_name, config, kind)
        writer.write_tensor_data(gguf.quantize(data, _type_of(shape)).view(np.uint8))
        progress(done, len(plan))
    writer.close()


def _tensors(folder: Path) -> Iterator[tuple[Path, str, list[int]]]:
    """File, name and shape of every tensor that transformers would load from a folder."""
    index = folder / "model.safetensors.index.json"
    files = {"model.safetensors"}
    if index.exists():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    for file in sorted(files):
        with loading(folder / file), safe_open(folder / file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (safe_open is no dict)
                yield folder / file, name, tensors.get_slice(name).get_shape()


def _gguf_name(names: gguf.TensorNameMap, name: str, folder: Path) -> str:
    found = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise ThousandError(
            f"{folder} holds a tensor that llama.cpp has no place for: {name}; use --engine transformers."
        )
    return str(found)


def _type_of(shape: tuple[int, ...]) -> gguf.GGMLQuantizationType:
    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    return gguf.GGMLQuantizationType.F16 if shape[-1] % 32 else gguf.GGMLQuantizationType.Q8_0


def _weight(file: Path, name: str, factors: Factors | None) -> NDArray[np.float32]:
    with safe_open(file, framework="pt") as tensors:
        weight: NDArray[np.float32] = tensors.get_tensor(name).float().numpy()
    if factors is None:
        return weight
    first, second = factors
    return weight + second @ first


def _in_llama_cpp_order(
    weight: NDArray[np.float32], name: str, config: Any, kind: gguf.MODEL_ARCH
) -> NDArray[np.float32]:
    """A tensor as llama.cpp's code for the architecture expects it."""
    if kind == gguf.MODEL_ARCH.LLAMA:
        heads = row_heads(name, config.num_attention_heads, config.num_key_value_heads)
        return permuted(weight, heads) if heads else weight
    if kind == gguf.MODEL_ARCH.GEMMA3 and "norm" in name:
        return weight + 1  # transformers multiplies by 1 + weight
    return weight


def _has_llama3_positions(config: Any) -> bool:
    return bool(config.model_type == "llama" and config.rope_parameters["rope_type"] == "llama3")


def _rope_factors(config: Any) -> NDArray[np.float32]:
    """By what Llama 3.1 divides each frequency of its rotary positions, (head dimension / 2)."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    exponents = np.arange(len(scaled), dtype=np.float64) / len(scaled)
    factors: NDArray[np.float32] = (config.rope_parameters["rope_theta"] ** -exponents / scaled.numpy()).astype(
        np.float32
    )
    return factors


def _architecture(config: Any) -> gguf.MODEL_ARCH:
    """Raises ThousandError for a model that llama.cpp would compute otherwise than transformers does."""
    kind = _ARCHITECTURES.get(config.model_type)
    if kind is None:
        raise ThousandError(
            f"A base model of the type {config.model_type!r} cannot be written as GGUF (it can for {', '.join(_ARCHITECTURES)}); "
            "use --engine transformers."
        )
    gemma = kind == gguf.MODEL_ARCH.GEMMA3
    ropes = config.rope_parameters.values() if gemma else [config.rope_parameters]
    reasons = {
        "scaled rotary positions": not _has_llama3_positions(config)
        and any(rope["rope_type"] != "default" for rope in ropes),
        "another activation": (config.hidden_activation if gemma else config.hidden_act)
        != ("gelu_pytorch_tanh" if gemma else "silu"),
        "a sliding window": not gemma and _window(config) is not None,
        "an irregular pattern of sliding windows": gemma and _window_period(config) is None,
        "capped logits": gemma and (config.final_logit_softcapping or config.attn_logit_softcapping) is not None,
        "another scale of attention": gemma and config.query_pre_attn_scalar != config.head_dim,
        "attention in both directions": gemma and config.use_bidirectional_attention,
    }
    if any(reasons.values()):
        found = ", ".join(reason for reason, is_so in reasons.items() if is_so)
        raise ThousandError(
            f"A {config.model_type} model with {found} cannot be written as GGUF; use --engine transformers."
        )
    return kind


def _window(config: Any) -> int | None:
    window: int | None = getattr(config, "sliding_window", None)
    return window if getattr(config, "use_sliding_window", True) else None


def _window_period(config: Any) -> int | None:
    """The distance of layers with full attention, where all between them have a sliding window; None for another pattern."""
    full = [kind == "full_attention" for kind in config.layer_types]
    period = full.index(True) + 1 if any(full) else len(full) + 1
    return period if full == [layer % period == period - 1 for layer in range(len(full))] else None


def _add_hyperparameters(writer: gguf.GGUFWriter, config: Any, kind: gguf.MODEL_ARCH) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if kind == gguf.MODEL_ARCH.GEMMA3:
        writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
        writer.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern(_window_period(config) or 1)
    else:
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
