"""Bases that are folders of safetensors, as GGUF: llama.cpp computes what transformers does."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from assistant.base_model import resolve
from assistant.errors import ThousandError
from assistant.gguf_write import write_gguf
from assistant.template import Template
from serve.engines.llama_cpp import LlamaCpp, merged_gguf
from tests.real_servers import inside
from tests.tiny import (
    CHATML_MARKERS,
    END_OF_TEXT,
    GPT2_WORDS,
    LLAMA3_WORDS,
    QWEN_WORDS,
    SMOLLM_WORDS,
    make_byte_level_tokenizer,
    make_tokenizer,
    save_tokenizer,
)

TOKENIZER = make_byte_level_tokenizer([END_OF_TEXT, *CHATML_MARKERS])
ODD = {"hidden_size": 80, "intermediate_size": 144}
"""Widths that are no multiple of 32 make the file float16, so that only its rounding is between the two programs."""
COMMON = {
    "vocab_size": TOKENIZER.get_vocab_size() + 7,  # rows without a token, as padded models have
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
}
LLAMA3_POSITIONS = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
WINDOWS = {
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 20,
    "head_dim": 20,
}


def save(model: PreTrainedModel, folder: Path, tokenizer: Tokenizer = TOKENIZER) -> Path:
    """The model with norms that are not all one, and a tokenizer."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.data = torch.randn_like(weight) * 0.2 + (
                0 if "bias" in name or "Gemma" in type(model).__name__ else 1
            )
        else:
            weight.data = torch.randn_like(weight) * COMMON["initializer_range"]
    save_tokenizer(folder, tokenizer, bos=END_OF_TEXT, eos=END_OF_TEXT, pad=END_OF_TEXT)
    model.eval().save_pretrained(folder)
    return folder


def ask(file: Path, path: str, bodies: list[dict[str, Any]]) -> list[Any]:
    """What llama.cpp's server answers, the file loaded, to one request after the other."""

    async def post() -> list[Any]:
        engine = LlamaCpp(file, context=256, slots=1, threads=1)
        try:
            async with inside(engine) as client:
                return [(await client.post(path, json=body)).json() for body in bodies]
        finally:
            await engine.close()

    return asyncio.run(post())


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (LlamaForCausalLM(LlamaConfig(**COMMON, **ODD, rope_theta=5e3)), 0.05),
        (
            LlamaForCausalLM(LlamaConfig(**COMMON, **ODD, attention_bias=True, head_dim=30, tie_word_embeddings=True)),
            0.05,
        ),
        (LlamaForCausalLM(LlamaConfig(**COMMON, hidden_size=64, intermediate_size=128)), 0.5),
        (LlamaForCausalLM(LlamaConfig(**COMMON, **ODD, rope_parameters=LLAMA3_POSITIONS)), 0.05),
        (MistralForCausalLM(MistralConfig(**COMMON, **ODD, sliding_window=None)), 0.05),
        (Qwen2ForCausalLM(Qwen2Config(**COMMON, **ODD, rope_theta=1e6)), 0.05),
        (Qwen3ForCausalLM(Qwen3Config(**COMMON, **ODD, head_dim=30)), 0.05),
        (Gemma3ForCausalLM(Gemma3TextConfig(**COMMON, **ODD, **WINDOWS)), 0.05),
    ],
    ids=["llama", "llama with biases", "llama in Q8_0", "llama 3.1", "mistral", "qwen2", "qwen3", "gemma3"],
)
def test_llama_cpp_gives_the_next_token_the_probabilities_that_transformers_gives(
    home: Path, tmp_path: Path, kind: PreTrainedModel, tolerance: float
) -> None:
    folder = save(kind, tmp_path / "base")
    file = merged_gguf(resolve(str(folder)), None, None, Template.load(folder), lambda line: None)
    random = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, TOKENIZER.get_vocab_size(), (length,), generator=random) for length in (1, 7, 30, 90)]
    letter = TOKENIZER.token_to_id("a")
    common = {"n_predict": 1, "n_probs": COMMON["vocab_size"], "logit_bias": [[letter, 100]]}
    answers = ask(file, "/completion", [{"prompt": prompt.tolist(), **common} for prompt in prompts])
    worst = 0.0
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            expected = kind(prompt[None]).logits[0, -1].log_softmax(-1)
        found = {each["id"]: each["logprob"] for each in answer["completion_probabilities"][0]["top_logprobs"]}
        assert len(found) == COMMON["vocab_size"]
        worst = max(worst, max(abs(value - float(expected[token])) for token, value in found.items()))
    print(f"\nlargest difference of a log probability: {worst:.4f}")
    assert worst < tolerance


TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [" ", "  ", "\n", "\n\n", "\t", "the", "The", "'s", "12", "345", "...", "é", "你好", "😀", "_", ".\n"]
        ),
        st.text("abc XYZ019.,'#\n", max_size=6),
    ),
    min_size=1,
    max_size=12,
).map("".join)


@pytest.fixture(scope="module", params=["smollm", "qwen2", "llama-bpe", "gpt-2", "byte fallback", "after a space"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, list[str], list[list[int]]]:
    """A tokenizer, texts, and llama.cpp's tokens of them from the file written with it."""
    words = {"smollm": SMOLLM_WORDS, "qwen2": QWEN_WORDS, "llama-bpe": LLAMA3_WORDS, "gpt-2": GPT2_WORDS}
    if request.param in words:
        tokenizer, bos, eos = make_byte_level_tokenizer([END_OF_TEXT], words[request.param]), END_OF_TEXT, END_OF_TEXT
    else:
        tokenizer, bos, eos = make_tokenizer(prefix=request.param == "after a space"), "<bos>", "<eos>"
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, tokenizer, bos=bos, eos=eos, pad=eos)
    sizes = {**COMMON, **ODD, "vocab_size": tokenizer.get_vocab_size(), "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    file = folder / "model.gguf"
    write_gguf(resolve(str(folder)), None, Template.load(folder), file)
    texts: list[str] = []

    @given(TEXTS)
    @limits(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    answers = ask(file, "/tokenize", [{"content": text, "add_special": False} for text in texts])
    return tokenizer, texts, [answer["tokens"] for answer in answers]


def test_llama_cpp_splits_text_into_the_same_tokens(both: tuple[Tokenizer, list[str], list[list[int]]]) -> None:
    tokenizer, texts, found = both
    assert len(texts) > 100
    for text, tokens in zip(texts, found, strict=True):
        assert tokens == tokenizer.encode(text, add_special_tokens=False).ids, text


def test_other_programs_learn_the_template_and_the_stop_token_from_the_file(tmp_path: Path, tiny_llama: Path) -> None:
    template = Template.load(tiny_llama)
    write_gguf(resolve(str(tiny_llama)), None, template, tmp_path / "model.gguf")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == template.jinja()
    assert fields["tokenizer.ggml.eos_token_id"].contents() == template.stop_id
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False, "the BOS is the EOS here, so none is put"
    messages = [{"role": "user", "content": "why is it so"}]
    (answer,) = ask(tmp_path / "model.gguf", "/apply-template", [{"messages": messages}])
    assert answer["prompt"] == "<|im_start|>user\nwhy is it so<|im_end|>\n<|im_start|>assistant\n"


def test_a_sharded_model_is_written_whole(tmp_path: Path, tiny_llama: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_llama)
    sharded = tmp_path / "sharded"
    save_tokenizer(sharded, TOKENIZER, bos=END_OF_TEXT, eos=END_OF_TEXT, pad=END_OF_TEXT)
    model.save_pretrained(sharded, max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    for folder in (tiny_llama, sharded):
        write_gguf(resolve(str(folder)), None, Template.load(folder), tmp_path / f"{folder.name}.gguf")
    one, other = (
        {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(tmp_path / f"{name}.gguf").tensors}
        for name in (tiny_llama.name, "sharded")
    )
    assert one == other


def test_what_a_killed_process_left_of_a_merged_file_is_removed_when_it_is_made_again(
    home: Path, tiny_llama: Path
) -> None:
    made = [resolve(str(tiny_llama)), None, None, Template.load(tiny_llama), lambda line: None]
    file = merged_gguf(*made)
    whole = file.read_bytes()
    file.rename(file.with_name(f".{file.name}.0123"))
    assert merged_gguf(*made).read_bytes() == whole
    assert list(file.parent.glob(".*")) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "with scaled rotary positions",
        ),
        ({"hidden_act": "gelu"}, "with another activation"),
        ({"model_type": "gpt2"}, "of the type 'gpt2' cannot be written"),
        ({"model_type": "mistral", "sliding_window": 32}, "with a sliding window"),
    ],
)
def test_a_model_that_llama_cpp_would_compute_otherwise_is_refused_with_what_to_do(
    home: Path, tmp_path: Path, tiny_llama: Path, change: dict[str, Any], sentence: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ThousandError, match=sentence) as refused:
        merged_gguf(resolve(str(folder)), None, None, Template.load(folder), lambda line: None)
    assert "--engine transformers" in str(refused.value)
    assert not list((home / "merged").glob("*.gguf*"))


def test_a_tensor_without_a_place_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_llama, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "model.extra.weight": tensors["model.norm.weight"].clone()}, folder / "model.safetensors")
    with pytest.raises(ThousandError, match=r"no place for: model\.extra\.weight; use --engine transformers"):
        write_gguf(resolve(str(folder)), None, Template.load(folder), tmp_path / "model.gguf")
