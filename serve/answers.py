"""Turns as OpenAI's API tells them: all of them whole, or a stream of server-sent events."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from serve.chat import Chat, Told, Turn
from serve.engines.base import EngineError, FinishReason
from serve.errors import engine_failure, unforeseen
from serve.shapes import Shape, TokenCounts

KEEP_ALIVE = 15.0
"""Seconds of silence after which a stream says that it is there; until then an error still has an HTTP status of its own."""
GLANCE = 0.2
"""Seconds between two looks at whether the client is still there while nothing is sent to it."""

T = TypeVar("T")

LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""Some clients split a stream where Python's `splitlines` does; JSON may say these in another way."""


class _ClientGone(Exception):
    """Nobody waits for this answer any more."""


@dataclass(frozen=True)
class Piece:
    """What one of several answers says next; with a `reason` it has ended."""

    index: int
    text: str
    told: tuple[Told, ...]
    reason: FinishReason | None = None


class Answers:
    """Several turns as they come. Once it is closed, all work on them has stopped."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._under_way = len(turns)
        # One piece waits at most: nothing is made for a reader who does not read.
        self._said: asyncio.Queue[Piece | Exception] = asyncio.Queue(1)
        self._work = [asyncio.create_task(self._say(index, turn)) for index, turn in enumerate(turns)]

    async def _say(self, index: int, turn: Turn) -> None:
        told = 0
        try:
            async with aclosing(turn.text) as text:
                async for part in text:
                    new = tuple(turn.told[told:])
                    told += len(new)
                    await self._said.put(Piece(index, part, new))
            await self._said.put(Piece(index, "", tuple(turn.told[told:]), turn.finish_reason))
        except Exception as error:
            await self._said.put(error)

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return self._under_way == 0

    async def next(self, patience: float | None = None) -> Piece | None:
        """What is said next, or None when nothing is for `patience` seconds. Raises EngineError."""
        try:
            async with asyncio.timeout(patience):
                piece = await self._said.get()
        except TimeoutError:
            return None
        if isinstance(piece, Exception):
            raise piece
        self._under_way -= piece.reason is not None
        return piece

    async def close(self) -> None:
        """Free the engine."""
        for work in self._work:
            work.cancel()
        await asyncio.wait(self._work)


@dataclass(frozen=True)
class Reply:
    """What a request is to be answered with: the turns of its prompts, one prompt after the other."""

    chat: Chat
    turns: Sequence[Turn]
    shape: Shape
    prompts: int = 1

    def identity(self) -> dict[str, Any]:
        """What every part of an answer begins with."""
        return {
            "id": f"{self.shape.prefix}{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": self.chat.name,
            "system_fingerprint": self.chat.fingerprint,
        }

    def usage(self) -> TokenCounts:
        """The token counts, when all turns have ended; a prompt counts once."""
        each = len(self.turns) // self.prompts
        groups = [self.turns[first : first + each] for first in range(0, len(self.turns), each)]
        prompt_tokens = sum(group[0].usage.prompt_tokens for group in groups)
        completion_tokens = sum(turn.usage.completion_tokens for turn in self.turns)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": sum(min(turn.usage.cached_tokens for turn in group) for group in groups)
            },
        }


async def answer(request: Request, reply: Reply, *, stream: bool, with_usage: bool) -> Response:
    """The response to a request. Raises ApiError for an engine that fails before anything was sent."""
    async with AsyncExitStack() as stack:
        answers = Answers(reply.turns)
        stack.push_async_callback(answers.close)
        try:
            if not stream:
                return JSONResponse(await _attended(_whole(answers, reply), request))
            first = await _attended(answers.next(KEEP_ALIVE), request)
        except EngineError as error:
            raise engine_failure(error) from None
        except _ClientGone:
            return Response(status_code=499)
        return EventStream(_events(answers, first, reply, with_usage), stack.pop_all())


async def _attended(work: Coroutine[Any, Any, T], request: Request) -> T:
    """The result of `work`, which stops when the client has left."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=GLANCE))[0]:
            if await request.is_disconnected():
                raise _ClientGone
        return task.result()
    finally:
        task.cancel()


async def _whole(answers: Answers, reply: Reply) -> dict[str, Any]:
    """All answers in one object."""
    texts: list[list[str]] = [[] for _ in reply.turns]
    while not answers.over:
        piece = await answers.next()
        assert piece is not None
        texts[piece.index].append(piece.text)
    choices = []
    for index, (turn, pieces) in enumerate(zip(reply.turns, texts, strict=True)):
        assert turn.finish_reason is not None
        choices.append(reply.shape.whole(index, "".join(pieces), turn.told, turn.finish_reason))
    return {**reply.identity(), "object": reply.shape.whole_object, "choices": choices, "usage": reply.usage()}


async def _events(answers: Answers, first: Piece | None, reply: Reply, with_usage: bool) -> AsyncGenerator[str, None]:
    """Server-sent events: for each answer how it opens, what it says and how it ends; the token counts; `[DONE]`."""
    identity = {**reply.identity(), "object": reply.shape.piece_object}

    def event(choices: Sequence[Any], usage: TokenCounts | None = None) -> str:
        counts = {"usage": usage} if with_usage else {}
        return _data({**identity, "choices": choices, **counts})

    for index in range(len(reply.turns)):
        opening = reply.shape.opening(index)
        if opening is not None:
            yield event([opening])
    piece = first
    try:
        while True:
            if piece is None:
                yield ": keep-alive\n\n"
            else:
                yield event([reply.shape.piece(piece.index, piece.text, piece.told, piece.reason)])
            if answers.over:
                break
            piece = await answers.next(KEEP_ALIVE)
    except EngineError as error:
        yield _data(engine_failure(error).body)
        return
    except Exception:
        yield _data(unforeseen().body)
        return
    if with_usage:
        yield event([], reply.usage())
    yield "data: [DONE]\n\n"


def _data(value: Any) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False).translate(LINE_ENDS)}\n\n"


class EventStream(StreamingResponse):
    """A stream that frees what it reads from in any case: one that a client left before its first event never begins."""

    def __init__(self, events: AsyncGenerator[str, None], held: AsyncExitStack) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx would gather it up
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with self._held:
            await super().__call__(scope, receive, send)
