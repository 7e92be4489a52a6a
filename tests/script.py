"""Our endpoint over an engine that says what it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from assistant.sampling import Sampling
from assistant.template import Template
from serve.access import Access
from serve.api import build_app
from serve.chat import Chat
from serve.engines.base import PLAIN, Delta, EngineError, Finish, Likelihood, Offer, Wanted
from serve.served import Served
from tests.server import serving_app
from tests.tiny import make_tokenizer

MOST_TURNS = 8
CONTEXT = 64
Event = Delta | Finish | EngineError | asyncio.Event


def plainly(sampling: Sampling) -> Iterable[Event]:
    """Four words that tell the seed apart."""
    yield from [Delta(word, 1) for word in ("it ", "is ", "so ", f"{sampling.seed}")]
    yield Finish("stop", cached_tokens=2)


@dataclass
class Script:
    """Says what `say` has for the sampling; waits for an Event and raises an error that stand among it."""

    say: Callable[[Sampling], Iterable[Event]] = plainly
    name: str = "script"
    context: int = CONTEXT
    reads_text: bool = False
    offers: frozenset[Offer] = frozenset({"logprobs", "json_object", "json_schema"})
    asked: list[tuple[list[int], Sampling, Wanted]] = field(default_factory=list)

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]:
        self.asked.append((list(prompt), sampling, wanted))
        for event in self.say(sampling):
            if isinstance(event, asyncio.Event):
                await event.wait()
            elif isinstance(event, EngineError):
                raise event
            else:
                yield event
                await asyncio.sleep(0)

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        return None


def likely(template: Template, text: str) -> list[Event]:
    """What an engine says that tells likelihoods: a piece for each token, -1, -2, ..., and the likeliest two."""
    ids = template.continuation(text)[1:]
    said = b""
    events: list[Event] = []
    for place, token in enumerate(ids):
        before = said.decode(errors="ignore")
        said += template.octets(token) or b""
        others = ((token, -float(place + 1)), (template.stop_id, -9.0))
        piece = said.decode(errors="ignore")[len(before) :]
        events.append(Delta(piece, 1, (Likelihood(token, -float(place + 1), others),)))
    return [*events, Finish("stop")]


@dataclass
class Endpoint:
    """The endpoint, the engine behind it, and a client."""

    engine: Script
    chat: Chat
    client: httpx.Client

    def chats(self, **fields: Any) -> httpx.Response:
        """The answer to a chat."""
        body = {"model": "thousand", "messages": [{"role": "user", "content": "why"}], **fields}
        return self.client.post("/v1/chat/completions", json=body)

    def completes(self, **fields: Any) -> httpx.Response:
        """The answer to a completion."""
        return self.client.post("/v1/completions", json={"model": "thousand", "prompt": "why", **fields})


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """What a whole stream said, which ends with `[DONE]`."""
    assert response.status_code == 200, response.text
    lines = [line for line in response.text.split("\n\n") if line and not line.startswith(":")]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@contextmanager
def scripted() -> Iterator[Endpoint]:
    """An endpoint that listens."""
    engine = Script()
    template = Template(make_tokenizer(), bos="<bos>", eos="<eos>")
    chat = Chat(engine, template, name="script-1", sampling=Sampling(), most_turns=MOST_TURNS)
    app = build_app(Served(chat), access=Access(hosts=["127.0.0.1"]))
    with serving_app(app) as address, httpx.Client(base_url=address, timeout=20) as client:
        yield Endpoint(engine, chat, client)
