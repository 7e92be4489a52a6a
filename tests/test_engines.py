"""The transformers engine, which is the reference, on a tiny real model; and turns that are refused before any engine."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest

from assistant.base_model import resolve
from assistant.dialogue import Message
from assistant.sampling import Sampling
from assistant.template import Template
from serve.chat import Busy, Chat, Refused
from serve.engines.base import Delta, Finish
from serve.engines.pytorch import PyTorch
from tests.conftest import Command, short_dev

HELLO = [Message(role="user", content="why is it so")]


@pytest.fixture
def chat(home: Path, tiny_base: Path) -> Chat:
    base = resolve(str(tiny_base))
    template = Template.load(tiny_base)
    engine = PyTorch(base, None, None, template, context=128, say=lambda line: None)
    return Chat(engine, template, name="tiny", sampling=Sampling(), most_turns=2)


def answer(chat: Chat, **settings: object) -> tuple[str, str | None, int]:
    async def collect() -> tuple[str, str | None, int]:
        turn = chat.turn(HELLO, Sampling.model_validate({"max_tokens": 40, **settings}))
        text = "".join([piece async for piece in turn.text])
        return text, turn.finish_reason, turn.usage.completion_tokens

    return asyncio.run(collect())


def test_truth_7_a_seed_fixes_the_answer_and_none_draws_anew(chat: Chat) -> None:
    assert answer(chat, seed=0) == answer(chat, seed=0)
    assert len({answer(chat)[0] for _ in range(4)}) > 1


def test_truth_8_the_finish_reason_is_true(chat: Chat) -> None:
    outcomes = {answer(chat, seed=seed, temperature=2, max_tokens=100)[1:] for seed in range(40)}
    assert {reason for reason, tokens in outcomes if tokens == 100} <= {"length"}
    assert {reason for reason, tokens in outcomes if tokens < 100} == {"stop"}, (
        "the random model says its stop token now and then"
    )


def test_the_longest_answer_is_bounded_by_the_context(chat: Chat) -> None:
    prompt = len(chat.template.prompt(HELLO))
    answers = [answer(chat, seed=seed, max_tokens=1000) for seed in range(10)]
    longest = max(tokens for _, _, tokens in answers)
    assert longest == 128 - prompt
    assert {reason for _, reason, tokens in answers if tokens == longest} == {"length"}


def test_truth_8_an_abandoned_stream_stops_its_work_and_frees_the_engine(chat: Chat) -> None:
    async def leave_then_ask() -> int:
        stream = cast(
            "AsyncGenerator[Delta | Finish, None]",
            chat.engine.stream(chat.template.prompt(HELLO), Sampling(max_tokens=90, seed=1)),
        )
        async with aclosing(stream):
            async for _ in stream:
                break
        turn = chat.turn(HELLO, Sampling(max_tokens=3, seed=1))
        async with asyncio.timeout(20):
            return len([piece async for piece in turn.text])

    assert asyncio.run(leave_then_ask()) >= 0
    assert len(chat._turns) == 0


def test_a_conversation_that_is_too_long_is_refused_with_both_counts(chat: Chat) -> None:
    with pytest.raises(Refused, match=r"has \d{3} tokens and the context holds 128") as refused:
        chat.turn([Message(role="user", content="why " * 300)], Sampling())
    assert refused.value.code == "context_length_exceeded"


def test_more_turns_than_may_wait_are_refused(chat: Chat) -> None:
    async def three_at_once() -> None:
        turns = [chat.turn(HELLO, Sampling(max_tokens=5, seed=seed)) for seed in range(2)]
        with pytest.raises(Busy):
            chat.turn(HELLO, Sampling())
        for turn in turns:
            async for _ in turn.text:
                pass
            assert turn.finish_reason in ("stop", "length")
        chat.turn(HELLO, Sampling())

    asyncio.run(three_at_once())


def test_a_release_of_another_base_is_evaluated_with_the_transformers_engine(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"messages": [{"role": "user", "content": "question 1"}]}\n')
    assert (
        thousand(
            "train",
            "--base",
            tiny_base,
            "--data",
            dialogues_file,
            *short_dev(dialogues_file),
            "--name",
            "tiny",
            "--set",
            "epochs=1",
        ).code
        == 0
    )
    result = thousand("evaluate", "dev", "--release", "tiny", "--base", "--prompts", prompts, "--max-tokens", 5)
    assert result.code == 0, result.err
    assert "stopped" in result.out
