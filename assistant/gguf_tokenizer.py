"""A tokenizer.json as the tokenizer of a GGUF file, and what a GGUF file says of the template."""

import json
from typing import Any

import gguf
from tokenizers import decoders

from assistant.errors import ThousandError
from assistant.template import Template

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_OF_REGEX = {_QWEN2: "qwen2", _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|"): "llama-bpe"}
"""llama.cpp knows how a byte-level tokenizer splits a text into words by a name (`tokenizer.ggml.pre`)."""


def _parts(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part["pretokenizers"]) if part["type"] == "Sequence" else [part]


def _pre_name(state: dict[str, Any]) -> str:
    """llama.cpp's name for the way a byte-level tokenizer splits words. Raises ThousandError for one not known here."""
    parts = _parts(state["pre_tokenizer"])
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"] and parts[0]["use_regex"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and parts[1]["use_regex"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not parts[1]["use_regex"]:
        name = _PRE_OF_REGEX.get(parts[0]["pattern"].get("Regex", ""))
        if name is not None:
            return name
    raise ThousandError(
        "The base model's tokenizer splits words in a way that is not known to be llama.cpp's; use --engine transformers."
    )


def _token_types(state: dict[str, Any], rows: int) -> list[gguf.TokenType]:
    types = [gguf.TokenType.UNUSED] * rows
    for text, token in state["model"]["vocab"].items():
        octet = state["model"].get("byte_fallback") and len(text) == 6 and text.startswith("<0x")
        types[token] = gguf.TokenType.BYTE if octet else gguf.TokenType.NORMAL
    for added in state["added_tokens"]:
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    return types


def _merge_scores(merges: list[list[str]], tokens: list[str]) -> list[float]:
    """Scores for llama.cpp's sentencepiece tokenizer, which joins the pair with the highest first: minus the merge's rank."""
    rank: dict[str, int] = {}
    for number, pair in enumerate(merges):
        rank.setdefault("".join(pair), number)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def add_tokenizer(writer: gguf.GGUFWriter, template: Template, rows: int) -> None:
    """Write the template's tokenizer, for a model with `rows` rows in its embedding.

    Raises ThousandError for a kind of tokenizer that GGUF cannot hold, or that has more tokens than the model has rows.
    """
    state = json.loads(template.tokenizer.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise ThousandError(
            f"A tokenizer of the kind {model['type']} cannot be written as GGUF; use --engine transformers."
        )
    vocabulary = template.tokenizer.get_vocab(with_added_tokens=True)
    if max(vocabulary.values()) >= rows:
        raise ThousandError(
            f"The base model's tokenizer has the token {max(vocabulary.values())}, and its embedding {rows} rows; they do not fit."
        )
    tokens = [f"[PAD{row}]" for row in range(rows)]
    for text, token in vocabulary.items():
        tokens[token] = text
    if isinstance(template.tokenizer.decoder, decoders.ByteLevel):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pre_name(state))
        writer.add_token_list(tokens)
        writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    elif model["byte_fallback"]:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(_merge_scores(model["merges"], tokens))
        first: str = template.tokenizer.encode("a", add_special_tokens=False).tokens[0]
        writer.add_add_space_prefix(first.startswith("▁"))
    else:
        raise ThousandError("A BPE tokenizer without bytes cannot be written as GGUF; use --engine transformers.")
    writer.add_token_types(_token_types(state, rows))


def template_metadata(template: Template) -> dict[str, tuple[Any, gguf.GGUFValueType]]:
    """What makes other programs write the same prompts and stop at the same token: metadata keys to values and types."""
    keys, kinds = gguf.Keys.Tokenizer, gguf.GGUFValueType
    bos = template.control[template.bos] if template.bos else template.stop_id
    return {
        keys.BOS_ID: (bos, kinds.UINT32),
        keys.EOS_ID: (template.stop_id, kinds.UINT32),
        keys.ADD_BOS: (template.bos is not None, kinds.BOOL),
        keys.ADD_EOS: (False, kinds.BOOL),
        keys.CHAT_TEMPLATE: (template.jinja(), kinds.STRING),
    }
