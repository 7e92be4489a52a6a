"""However an engine cuts its words into pieces: the stream joined is the whole answer, likelihoods stand with their text, and usage adds up."""

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from assistant.sampling import Sampling
from assistant.template import Template
from serve.answers import Reply, answer
from serve.chat import Chat, Turn
from serve.engines.base import Delta, Finish, Likelihood, Wanted
from serve.shapes import ChatShape, TextShape
from tests.script import Script
from tests.tiny import make_tokenizer

TEMPLATE = Template(make_tokenizer(), bos="<bos>", eos="<eos>")
WORDS = st.text(alphabet="why is it so\n😀é字<>", max_size=20)


async def there(scope: Any) -> Request:
    """A request of a client that stays."""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "method": "POST", "headers": [], **scope}, receive)


async def body_of(response: Any) -> str:
    """All that a response sends."""
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    return b"".join(sent).decode()


def cut(text: str, cuts: Sequence[int]) -> list[Delta | Finish]:
    """What an engine says of `text` whose pieces end at `cuts`, one token for each of its own tokens."""
    ids = TEMPLATE.continuation(text)[1:]
    octets = [TEMPLATE.octets(token) or b"" for token in ids]
    edges = sorted({0, len(ids), *(place % (len(ids) + 1) for place in cuts)})
    said: list[Delta | Finish] = []
    for begin, end in pairwise(edges):
        before = b"".join(octets[:begin]).decode(errors="ignore")
        piece = b"".join(octets[:end]).decode(errors="ignore")[len(before) :]
        told = tuple(Likelihood(token, -1.0) for token in ids[begin:end])
        said.append(Delta(piece, end - begin, told))
    return [*said, Finish("stop", 1)]


@pytest.mark.parametrize("shape", [ChatShape(TEMPLATE, logprobs=True), TextShape(TEMPLATE)], ids=["chat", "text"])
@limits(max_examples=150, deadline=None)
@given(
    texts=st.lists(WORDS, min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 99), max_size=6),
    stop=st.lists(st.text(alphabet="why is😀\n", min_size=1, max_size=3), max_size=2),
)
def test_a_stream_joined_is_the_whole_answer_and_usage_adds_up(
    shape: ChatShape | TextShape, texts: list[str], cuts: list[int], stop: list[str]
) -> None:
    engine = Script(say=lambda sampling: cut(texts[sampling.seed or 0], cuts), context=512)
    chat = Chat(engine, TEMPLATE, name="script", sampling=Sampling())
    samplings = [Sampling(stop=tuple(stop), seed=seed) for seed in range(len(texts))]

    def turns() -> list[Turn]:
        return chat.continuations(["why"], samplings, Wanted(likelihoods=0))

    async def ask(stream: bool) -> str:
        reply = Reply(chat, turns(), shape)
        return await body_of(await answer(await there({}), reply, stream=stream, with_usage=True))

    whole = json.loads(asyncio.run(ask(False)))
    *lines, done, _ = asyncio.run(ask(True)).split("\n\n")
    assert done == "data: [DONE]"
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert last["usage"] == whole["usage"]
    assert last["choices"] == []

    for index, text in enumerate(texts):
        choice = whole["choices"][index]
        said = choice["message"]["content"] if isinstance(shape, ChatShape) else choice["text"]
        ends = [(place + len(one), place) for one in stop if (place := text.find(one)) >= 0]
        assert said == text[: min(ends, default=(0, len(text)))[1]]
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        pieces = [one["delta"].get("content", "") if "delta" in one else one["text"] for one in own]
        assert "".join(pieces) == said
        assert [one["finish_reason"] for one in own if one["finish_reason"]] == [choice["finish_reason"]] == ["stop"]
        streamed = [one["logprobs"] for one in own if one["logprobs"]]
        if isinstance(shape, ChatShape):
            content = choice["logprobs"]["content"]
            assert [one for told in streamed for one in told["content"]] == content
            likely = b"".join(bytes(one["bytes"]) for one in content).decode()
            assert likely.startswith(said), "each character that is shown has its tokens"
            # The last token may say more than is shown: a stop string may begin inside it.
            assert b"".join(bytes(one["bytes"]) for one in content[:-1]).decode(errors="ignore") in said or not said
    usage = whole["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] == len(TEMPLATE.continuation("why"))
    assert len(chat._turns) == 0
