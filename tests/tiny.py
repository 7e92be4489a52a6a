"""Tiny real models, built on the spot: two or three layers, a few hundred tokens, random weights."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from assistant import release
from assistant.base_model import resolve
from assistant.files import sha256
from assistant.release import Release
from assistant.sampling import Sampling

TEXT = [
    "Why is the sky blue? Because air scatters short waves more than long ones.",
    "question answer so it is why of the and to in that is 0 1 2 3 4 5 6 7 8 9",
    "user model system\nassistant\n\n- one\n- two\n1. first\n2. second",
]

GEMMA_MARKERS = ("<start_of_turn>", "<end_of_turn>")
CHATML_MARKERS = ("<|im_start|>", "<|im_end|>")


def make_tokenizer(
    markers: Sequence[str] = GEMMA_MARKERS, eos: str | None = "<eos>", *, prefix: bool = False
) -> Tokenizer:
    """A byte-fallback BPE tokenizer like Gemma's, with its control tokens and a `[multimodal]` that is not flagged special.

    With `prefix` it is like Llama 2's: a space is put before every text, no token joins a newline with other text, and
    no added token is ordinary text.
    """
    control = ["<pad>", *([eos] if eos else []), "<bos>", "<unk>", *markers]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        "\n" if prefix else " ", "isolated" if prefix else "merged_with_previous"
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    octets = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=[*control, *octets], show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in control]
    if prefix:
        state["normalizer"] = {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "▁"}, state["normalizer"]],
        }
        state["pre_tokenizer"] = None
        state["decoder"]["decoders"].append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        return Tokenizer.from_str(json.dumps(state))
    tokenizer = Tokenizer.from_str(json.dumps(state))
    plain = ["[multimodal]", "<table>", "\n", "\n\n"]
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in plain])
    return tokenizer


SMOLLM_WORDS = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _words_like_qwen(digits: str) -> pre_tokenizers.PreTokenizer:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


QWEN_WORDS = _words_like_qwen(r"\p{N}")
LLAMA3_WORDS = _words_like_qwen(r"\p{N}{1,3}")
GPT2_WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)


def make_byte_level_tokenizer(control: Sequence[str], words: pre_tokenizers.PreTokenizer = SMOLLM_WORDS) -> Tokenizer:
    """A byte-level BPE tokenizer as SmolLM, Qwen and GPT-2 have, with these control tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(control), initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXT, "### User:\n### Assistant:\n### System:\n"] * 2, trainer)
    return tokenizer


def save_tokenizer(
    folder: Path,
    tokenizer: Tokenizer,
    eos: str | None = "<eos>",
    bos: str | None = "<bos>",
    pad: str = "<pad>",
) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos, "pad_token": pad}
    if tokenizer.token_to_id("<unk>") is not None:
        config["unk_token"] = "<unk>"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def make_tiny_base(folder: Path) -> Path:
    """A model folder that plain transformers loads, with sliding-window and full attention layers as in Gemma 3."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

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


END_OF_TEXT = "<|endoftext|>"


def make_tiny_llama(folder: Path, markers: Sequence[str] = CHATML_MARKERS) -> Path:
    """A tiny Llama with SmolLM2's tokenizer: byte-level BPE, ChatML's markers reserved, one token both BOS and EOS."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_byte_level_tokenizer([END_OF_TEXT, *markers])
    save_tokenizer(folder, tokenizer, bos=END_OF_TEXT, eos=END_OF_TEXT, pad=END_OF_TEXT)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(END_OF_TEXT),
        eos_token_id=tokenizer.token_to_id(END_OF_TEXT),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_tiny_release(releases: Path, base: Path, name: str, sampling: Sampling) -> None:
    """A release of a tiny base that took no training: an adapter of random weights, other ones for each name."""
    place = releases / name
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(zlib.crc32(name.encode()))
    layers = ["q_proj", "v_proj", "gate_proj", "down_proj"]
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=layers, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(place)
    template = release.save_tokenizer(place, base, sampling, "eos")
    record = Release(
        name=name,
        created=release.now(),
        version="0",
        base=str(base.resolve()),
        base_checksum=resolve(str(base)).checksum,
        template=template.record(),
        recipe={"preset": "none"},
        data=[],
        adapter_sha256=sha256(place / release.ADAPTER),
        sampling=sampling,
    )
    release.write(place, record)
