"""A turn as OpenAI's API tells it: the whole answer, or a stream of server-sent events."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import Request

from serve.chat import Turn
from serve.engines.base import EngineError
from serve.errors import engine_failure


async def whole(turn: Turn, request: Request) -> str | None:
    """The whole answer, or None when the client left before it was there; the engine is freed then."""

    async def collect() -> str:
        async with aclosing(turn.text) as text:
            return "".join([piece async for piece in text])

    work = asyncio.create_task(collect())
    while not (await asyncio.wait({work}, timeout=0.2))[0]:
        if await request.is_disconnected():
            work.cancel()
            await asyncio.wait({work})
            return None
    try:
        return work.result()
    except EngineError as error:
        raise engine_failure(error) from None


def usage_of(turn: Turn) -> dict[str, Any]:
    usage = turn.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


async def sse(turn: Turn, identity: dict[str, Any], with_usage: bool) -> AsyncGenerator[str, None]:
    """Server-sent events: a chunk with the role, one for each delta, one with the finish reason, `[DONE]`."""

    def event(value: dict[str, Any]) -> str:
        return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event(
            {
                **identity,
                "object": "chat.completion.chunk",
                "choices": [choice],
                **({"usage": None} if with_usage else {}),
            }
        )

    async with aclosing(turn.text) as text:
        yield chunk({"role": "assistant", "content": ""})
        try:
            async for piece in text:
                yield chunk({"content": piece})
        except EngineError as error:
            yield event(engine_failure(error).body)
            return
        yield chunk({}, turn.finish_reason)
        if with_usage:
            yield event({**identity, "object": "chat.completion.chunk", "choices": [], "usage": usage_of(turn)})
        yield "data: [DONE]\n\n"
