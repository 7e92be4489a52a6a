"""A tiny real model, built on the spot: two layers, a few hundred tokens, random weights."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

TEXT = [
    "Why is the sky blue? Because air scatters short waves more than long ones.",
    "question answer so it is why of the and to in that is 0 1 2 3 4 5 6 7 8 9",
    "user model system\nassistant\n\n- one\n- two\n1. first\n2. second",
]

GEMMA_MARKERS = ("<start_of_turn>", "<end_of_turn>")
CHATML_MARKERS = ("<|im_start|>", "<|im_end|>")


def make_tokenizer(markers: tuple[str, str] = GEMMA_MARKERS, eos: str | None = "<eos>") -> Tokenizer:
    """A byte-fallback BPE tokenizer like Gemma's, with its control tokens and a `[multimodal]` that is not flagged special."""
    control = ["<pad>", *([eos] if eos else []), "<bos>", "<unk>", *markers]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    octets = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=[*control, *octets], show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in control]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    plain = ["[multimodal]", "<table>", "\n", "\n\n"]
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in plain])
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Tokenizer, eos: str | None = "<eos>") -> None:
    """tokenizer.json and tokenizer_config.json, as transformers writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": eos,
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def make_tiny_base(folder: Path) -> Path:
    """A model folder that plain transformers loads, with sliding-window and full attention layers as in Gemma 3."""
    tokenizer = make_tokenizer()
    save_tokenizer(folder, tokenizer)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        max_position_embeddings=512,
        bos_token_id=tokenizer.token_to_id("<bos>"),
        eos_token_id=tokenizer.token_to_id("<eos>"),
        pad_token_id=tokenizer.token_to_id("<pad>"),
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    return folder
