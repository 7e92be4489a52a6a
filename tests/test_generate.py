"""Answers in a batch: the same as one by one, whoever else is in it, and nothing of the training is touched."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.modeling_utils import AttentionInterface

from assistant import base_model
from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.base import Delta, Finish
from serve.engines.pytorch import PyTorch, next_token
from train import generate
from train.generate import answer_batch, next_tokens

WORDS = "why is the sky blue in the morning but not at night and what of the sea"
# From three tokens to five times the tiny model's sliding window of 16, so that rows join at different columns.
PROMPTS = [[Message(role="user", content=(WORDS + " ") * n + "x" * n)] for n in (3, 1, 2, 5, 4)] + [
    [Message(role="user", content="why")],
    [Message(role="system", content="so"), Message(role="user", content="is it?")],
]


def sharpened(tiny_base: Path) -> PeftModel:
    """The tiny model with an adapter that is not nought, in training mode; its answers end at different lengths."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
        model.get_output_embeddings().weight[model.config.eos_token_id] *= 3  # so that some answers end by themselves
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted.train()
    return adapted


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> PeftModel:
    return sharpened(tiny_base)


@pytest.fixture(scope="module")
def template(tiny_base: Path) -> Template:
    return Template.load(tiny_base)


async def _one(engine: PyTorch, ids: list[int], sampling: Sampling) -> tuple[str, int, bool]:
    text, tokens, stopped = "", 0, False
    async for item in engine.stream(ids, sampling):
        if isinstance(item, Delta):
            text, tokens = text + item.text, tokens + item.tokens
        if isinstance(item, Finish):
            stopped = item.reason == "stop"
    return text, tokens - stopped, stopped  # the engine counts the stop token, which says nothing


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_batch_says_greedily_what_the_engine_says_one_by_one(
    tiny_base: Path, tmp_path: Path, model: PeftModel, template: Template, penalty: float
) -> None:
    sampling = Sampling(temperature=0, repetition_penalty=penalty, max_tokens=40)
    merged = sharpened(tiny_base).merge_and_unload()
    folder = tmp_path / "merged"
    merged.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_base / name).read_bytes())
    engine = PyTorch(base_model.resolve(str(folder)), None, None, template, say=base_model.quiet)
    expected = [asyncio.run(_one(engine, template.prompt(prompt), sampling)) for prompt in PROMPTS]
    answers = answer_batch(model, template, PROMPTS, sampling)
    assert [(answer.text, answer.tokens, answer.stopped) for answer in answers] == expected
    assert len({answer.tokens for answer in answers}) > 1, "rows leave at different times"


def test_a_sampled_answer_does_not_depend_on_who_else_is_in_the_batch(
    model: PeftModel, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(seed=3, max_tokens=30)
    together = answer_batch(model, template, PROMPTS, sampling)
    assert [answer_batch(model, template, [prompt], sampling)[0] for prompt in PROMPTS] == together
    assert answer_batch(model, template, PROMPTS[::-1], sampling) == together[::-1]
    monkeypatch.setattr(generate, "ROWS", 3)
    assert answer_batch(model, template, PROMPTS, sampling) == together
    assert answer_batch(model, template, PROMPTS, Sampling(seed=4, max_tokens=30)) != together


def test_the_training_is_left_as_it_was(model: PeftModel, template: Template) -> None:
    def packed_only(module: torch.nn.Module, query: torch.Tensor, *_: object, **__: object) -> None:
        raise AssertionError("an attention made for training was asked to generate")

    causal = model.get_base_model()
    causal.config.use_cache = False
    AttentionInterface.register("packed_only", packed_only)
    before = causal.config._attn_implementation
    frozen = causal.model.norm
    frozen.eval()
    causal.set_attn_implementation("packed_only")
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    try:
        answer_batch(model, template, PROMPTS, Sampling(max_tokens=5, seed=0))
        answer_batch(model, template, PROMPTS[:1], Sampling(max_tokens=5))
        assert causal.config._attn_implementation == "packed_only"
    finally:
        causal.set_attn_implementation(before)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert not frozen.training
    assert model.training
    assert causal.config.use_cache is False
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    frozen.train()
    loss = model(input_ids=torch.tensor([template.prompt(PROMPTS[-1])])).logits.sum()
    loss.backward()  # tensors made for generation would be refused here


def test_every_finished_answer_is_reported(model: PeftModel, template: Template) -> None:
    seen: list[tuple[int, int]] = []
    answer_batch(model, template, PROMPTS, Sampling(max_tokens=4), lambda done, total: seen.append((done, total)))
    assert seen == [(number, len(PROMPTS)) for number in range(1, len(PROMPTS) + 1)]


def test_what_cannot_be_answered_is_said(model: PeftModel, template: Template) -> None:
    with pytest.raises(ThousandError, match="stop strings"):
        answer_batch(model, template, PROMPTS, Sampling(stop=("x",)))
    long = [Message(role="user", content="why " * 600)]
    with pytest.raises(ThousandError, match=r"Prompt 2 has \d+ tokens and the model reads 512"):
        answer_batch(model, template, [PROMPTS[0], long], Sampling())


def test_an_answer_ends_where_the_models_context_does(model: PeftModel, template: Template) -> None:
    text = "x"
    while len(template.prompt([Message(role="user", content=text)])) < 505:
        text += "z"
    prompt = [Message(role="user", content=text)]
    room = 512 - len(template.prompt(prompt))
    sampling = Sampling(temperature=2, top_p=1, max_tokens=100, seed=1)
    short, long = answer_batch(model, template, [PROMPTS[-1], prompt], sampling)
    assert long.tokens <= room
    assert long.stopped or long.tokens == room
    assert short.stopped or short.tokens > room


def flat_and_peaked() -> torch.Tensor:
    """Logits (40, 3000): half of the rows have a nucleus of a few tokens, half of over a thousand."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 3000, generator=generator) * torch.tensor([0.1, 6.0] * 20)[:, None]


@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
def test_a_nucleus_wider_than_the_likeliest_tokens_is_drawn_from_exactly(top_p: float) -> None:
    logits, sampling = flat_and_peaked(), Sampling(top_p=top_p, temperature=1)
    generated = torch.arange(40 * 3).reshape(40, 3)
    for seed in range(5):
        points = torch.rand(40, generator=torch.Generator().manual_seed(seed))
        whole = next_tokens(logits, generated, points, sampling, likeliest=3000)
        assert torch.equal(next_tokens(logits, generated, points, sampling, likeliest=16), whole)


def test_the_draws_have_the_distribution_of_the_pytorch_engine() -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(2)) * 2
    sampling = Sampling(top_p=0.85, temperature=0.8, repetition_penalty=1.5)
    draws = 4000
    points = (torch.arange(draws) + 0.5) / draws
    used = torch.tensor([[4, 7, 4]]).expand(draws, -1)
    ours = next_tokens(logits.expand(draws, -1), used, points, sampling, likeliest=2).bincount(minlength=12) / draws
    source = torch.Generator().manual_seed(0)
    theirs = torch.tensor([next_token(logits.clone(), [4, 7, 4], 3, sampling, source) for _ in range(draws)])
    counted = theirs.bincount(minlength=12) / draws
    assert (ours > 0).tolist() == (counted > 0).tolist()
    assert float((ours - counted).abs().max()) < 0.03
